"""What discovery found: effects of every site, the sites chosen for each attribute, how stable they are."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from saebench.records.files import write_all
from saebench.records.result import Number, Pair

SCHEMA = "saebench.discovery/1"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class SiteEffect(_Document):
    """What the source's activation at one site does, measured on `test`."""

    site: str
    attribute: str
    effect: Number | None
    """Mean change of LD in units of the task's mean LD; None where it was not run exactly."""
    ci: Pair | None
    flipped: Number | None
    """Share of answers that change."""
    real: bool
    """At least 5 % of LD, and credible with all sites of the attribute tested at once."""
    attribution: Number
    """The same to first order, by the gradient."""


class Found(_Document):
    """The sites chosen for an attribute on `select`, and what they do on `test`."""

    attribute: str
    sites: tuple[str, ...]
    share: Number | None = None
    """What their joint patch does on `test`, as a share of the whole."""
    ci: Pair | None = None
    whole: Number | None = None
    """The whole, in units of the task's mean LD."""
    redraws: tuple[Number, ...] = ()
    """Jaccard overlap with what other prompts choose, one number a draw."""
    templates: tuple[Number, ...] = ()
    """The same, for prompts of either half of the phrasings."""
    reason: str | None = None


class Agreement(_Document):
    """How the first-order effects agree with the exact ones, over all sites that were run both ways."""

    rank_correlation: Number | None
    n: int
    disagreements: tuple[str, ...]
    """Where one says that a site matters and the other that it does not, in words."""


class Discovery(_Document):
    """Where a task's attributes act in a model."""

    schema_: Literal["saebench.discovery/1"] = Field(default=SCHEMA, alias="schema")
    task: str
    task_sha256: str
    model: str
    model_sha256: str
    budget: str
    seed: int
    first_pass: str
    wanted: Number
    """Share of the whole that the chosen sites were to reach on `select`."""
    ld: Number
    """Mean LD of the clean run on `test`, in logits."""
    ld_ci: Pair
    n: dict[str, int]
    """Pairs on `test` by attribute."""
    effects: tuple[SiteEffect, ...]
    found: tuple[Found, ...]
    null: tuple[Found, ...]
    """The same on prompts on which there is nothing to be found: no sites, if all is well."""
    agreement: Agreement
    notes: tuple[str, ...] = ()
    seconds: Number

    @property
    def sites(self) -> tuple[str, ...]:
        """All that was chosen, for any attribute."""
        return tuple(dict.fromkeys(site for found in self.found for site in found.sites))


def sites_text(found: Discovery) -> str:
    """The chosen sites by attribute, as TOML that `evaluate --sites` reads."""
    lines = [
        f"# Chosen by `saebench discover --task {found.task} --model {found.model}` on `select`; shares are of `test`.",
        f'task = "{found.task}"',
        f'model = "{found.model}"',
        f'model_sha256 = "{found.model_sha256}"',
        "",
        "[sites]",
    ]
    for each in found.found:
        if not each.sites:
            lines.append(f"# {each.attribute}: none; {each.reason}")
            continue
        share = "undefined" if each.share is None else f"{each.share:.3f}"
        lines.append(f"# {share} of the whole effect of {each.attribute}")
        lines += [f'"{each.attribute}" = [', *(f'  "{site}",' for site in each.sites), "]"]
    return "\n".join(lines) + "\n"


def save(found: Discovery, folder: Path) -> list[Path]:
    """Writes `discovery.json` and `sites.toml`."""
    text = found.model_dump_json(by_alias=True, indent=1) + "\n"
    files = {folder / "discovery.json": text.encode(), folder / "sites.toml": sites_text(found).encode()}
    write_all(files, folder)
    return list(files)
