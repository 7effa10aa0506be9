"""Several sites edited together: a bench for each beside the joint one, one dictionary a site."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from saebench.axes.base import Bench, Tick
from saebench.cross_section import CrossSection
from saebench.dictionaries.joint import JointDictionary
from saebench.dictionary import Dictionary, Intervention
from saebench.evaluation.contestants import Contestant, Realised
from saebench.records.outcomes import Outcomes
from saebench.scoring.axes import axes_with
from saebench.site import Site

Make = Callable[[CrossSection, list[str]], Bench]
"""From a cross-section and the names of axes to a bench."""


def make_benches(section: CrossSection, further: tuple[str, ...], make: Make) -> Bench:
    """The bench of a section; of several sites, with one of its own for each, on the same prompts.

    Joint edits are measured on the whole, what reads one site at each.
    """
    axes = axes_with(further)
    if not section.spans:
        return make(section, list(axes))
    whole = make(section, [name for name, axis in axes.items() if not axis.per_site])
    one = [name for name, axis in axes.items() if axis.per_site]
    sites = (span.site for span in section.spans)
    return replace(whole, parts={s: make(part, one) for s, part in zip(sites, section.parts(), strict=True)})


def realise(contestant: Contestant, site: Site, bench: Bench, seed: int) -> Realised:
    """The contestant at a bench; at several sites a dictionary of each, together one.

    Ceilings and what only edits are made of all activations together: an atom of a value reaches over
    all sites, as a source patch does. A map is known by the digests of all it holds, also at one of its sites.
    """
    if not bench.parts:
        part = contestant.part(site)
        alone = part.at(bench, seed)
        if part is contestant or contestant.sha256 is None:
            return alone
        known = contestant.described(alone.info).model_copy(update={"sha256": contestant.sha256})
        return alone._replace(info=known)
    pairs = zip(site.parts, bench.parts.values(), strict=True)
    each = [contestant.part(part).at(own, seed) for part, own in pairs]
    made = [one.scorable for one in each]
    warnings = tuple(dict.fromkeys(warning for one in each for warning in one.warnings))
    dictionaries = [scorable for scorable in made if isinstance(scorable, Dictionary)]
    parts = () if any(isinstance(scorable, Intervention) for scorable in made) else tuple(made)
    if len(dictionaries) < len(made):
        return contestant.at(bench, seed)._replace(parts=parts)
    joint = JointDictionary(contestant.name, dictionaries)
    digests = dict.fromkeys(one.info.sha256 for one in each)
    # one SAE that serves all sites is known by its own digest, a map by those of all it holds
    known = contestant.sha256 if contestant.part(site.parts[0]) is not contestant else None
    info = contestant.described(each[0].info).model_copy(
        update={"d_in": joint.d_in, "d_sae": joint.d_sae, "sha256": known or _digest(list(digests))}
    )
    return Realised(joint, info, warnings, parts)


def _digest(digests: list[str]) -> str:
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def measure(realised: Realised, bench: Bench, seed: int, tick: Tick) -> Outcomes:
    """The outcomes of what was realised, with those at each of several sites."""
    out = bench.measure(realised.scorable, seed, tick)
    if realised.parts:
        pairs = zip(bench.parts.items(), realised.parts, strict=True)
        out.parts = {site: part.measure(scorable, seed, tick) for (site, part), scorable in pairs}
    return out
