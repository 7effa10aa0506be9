"""SAEs of the residual stream at the MLP that it follows, beside an SAE of that MLP (docs/methods.md §13)."""

from collections.abc import Iterator, Sequence

from saebench.dictionaries.sublayer import Method, SublayerDictionary
from saebench.dictionary import Dictionary, Scorable
from saebench.evaluation.contestants import SAE, resolve
from saebench.scoring import score, write_headline
from saebench.scoring.base import Headline
from saebench.site import Site
from saebench.studies.makelov.stage import Stage, cells
from saebench.studies.rows import Row

METHODS: tuple[Method, ...] = ("nnls", "projection")
ERRORS = ("l0", "fvu")
"""Latents that are written to, and the share of the output's variance that the decomposition misses."""


def rows(stage: Stage, own: Sequence[str], residual: Sequence[str]) -> Iterator[Row]:
    """Errors and axes of what was trained on the sublayer's output, and of each residual SAE by each method."""
    for names, of in ((own, "sublayer"), (residual, "residual stream")):
        for contestant in (one for name in names for one in resolve(name)):
            found = stage.arena.realise(contestant, stage.site).scorable
            if of == "sublayer":
                yield _row(stage, contestant.name, of, "", found)
                continue
            assert isinstance(found, Dictionary) and isinstance(contestant, SAE)
            assert contestant.hook is not None, "its hook point says which stream it reads"
            for method in METHODS:
                made = SublayerDictionary(found, contestant.hook, method)
                yield _row(stage, contestant.name, of, method, made)


def _row(stage: Stage, name: str, of: str, method: str, scorable: Scorable) -> Row:
    scored = score(stage.bench.measure(scorable, stage.arena.options.seed), seed=stage.arena.options.seed)
    row = {**stage.row(name), "trained_on": of, "method": method}
    for entry in scored.entries:
        if entry.axis == "approximation" and entry.name in ERRORS:
            row |= cells(entry.name, entry.value)
    for axis, headline in scored.axes.items():
        row |= _headline(axis, headline)
    return row


def _headline(axis: str, headline: Headline) -> Row:
    """The axis as boards show it: 0 floor, 1 ceiling; empty where it is undefined."""
    found = write_headline(headline)
    low, high = found.ci or (None, None)
    values = {axis: found.normalized, f"{axis}_low": low, f"{axis}_high": high}
    return {name: "" if value is None else value for name, value in values.items()}


def site_of(hook: str, position: str) -> Site:
    """The MLP's output in front of a residual stream's hook point."""
    layer = Site.parse(hook, position).layer
    assert layer, "in front of the first block there is no MLP"
    return Site(f"blocks.{layer - 1}.hook_mlp_out", position)
