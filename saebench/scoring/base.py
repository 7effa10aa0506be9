"""What scoring yields: estimates with their floor, ceiling and reasons, not yet written down."""

import zlib
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from saebench.records.outcomes import OWN, Key, Outcomes
from saebench.records.result import AxisScore, Score
from saebench.scoring.estimates import (
    N_RESAMPLES,
    Bootstrap,
    Direction,
    Estimate,
    Maybe,
    Undefined,
    normalized,
    normalized_interval,
)

RANK_DRAWS = 500


@dataclass(frozen=True)
class Entry:
    """One score as an estimate. `floor` and `ceiling` are estimates on the same resamples."""

    axis: str
    name: str
    value: Maybe
    n: int
    attribute: str | None = None
    edit: str | None = None
    k: int | None = None
    n_changed: float | None = None
    floor: Maybe | None = None
    ceiling: Maybe | None = None
    direction: Direction = "higher"
    note: str | None = None
    exact: str | None = None
    """For a number without sampling error (a count, a norm): why it has no interval."""

    @property
    def identity(self) -> tuple[str, str, str | None, str | None, int | None]:
        """What makes two entries of two results the same score."""
        return (self.axis, self.name, self.attribute, self.edit, self.k)

    @property
    def normalized(self) -> Maybe | None:
        if self.floor is None or self.ceiling is None:
            return None
        return normalized(self.value, self.floor, self.ceiling, self.direction)


@dataclass(frozen=True)
class Headline:
    """An axis's headline as an estimate."""

    value: Maybe
    floor: Maybe
    ceiling: Maybe
    n: int
    note: str | None = None

    @property
    def normalized(self) -> Maybe:
        return normalized(self.value, self.floor, self.ceiling)


@dataclass(frozen=True)
class Context:
    """Outcomes with the resamples of each split; made once, shared by all axes."""

    outcomes: Outcomes
    bootstraps: dict[str, Bootstrap]
    _edits: dict[str, Bootstrap] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, outcomes: Outcomes, seed: int = 0, n_resamples: int = N_RESAMPLES) -> "Context":
        """The seed is the run's: the same for everything that is compared."""
        boots = {
            name: Bootstrap(cluster, outcomes.units.get(name), n_resamples, _seed(outcomes, name, seed))
            for name, cluster in outcomes.cluster.items()
        }
        return cls(outcomes, boots)

    @property
    def test(self) -> Bootstrap:
        return self.bootstraps["test"]

    def edits(self, attribute: str) -> Bootstrap:
        """Resamples of `test` for what an edit of the attribute does: sources recur as prompts do."""
        if attribute not in self._edits:
            found = sorted(self.outcomes.find("task", "source_unit", attribute=attribute))
            units = self.outcomes.matrix(found).astype(int) if found else None
            self._edits[attribute] = self.test if units is None else self.test.with_sources(units)
        return self._edits[attribute]

    def n(self, attribute: str) -> int:
        """How many test prompts ask for an attribute: what its scores are averages over."""
        return int((self.outcomes[Key("task", "asks", attribute)] > 0).sum())

    def mean(self, key: Key) -> Estimate:
        """Mean of a column over its prompts."""
        mean = self.bootstraps[key.split].mean(self.outcomes[key])
        assert isinstance(mean, Estimate), "a split without prompts is refused when it is built"
        return mean


def _seed(outcomes: Outcomes, split: str, seed: int) -> list[int]:
    """Resamples of prompts are shared by all dictionaries; those of latents belong to one dictionary.

    Latent 7 of one dictionary has nothing to do with latent 7 of another, so what the dictionary's own
    latents did seeds their resampling.
    """
    if split not in OWN:
        return [seed]
    columns = sorted(
        (key, values.tobytes()) for key, values in outcomes.columns.items() if key.split == split
    )
    return [seed, zlib.crc32(b"".join(data for _, data in columns))]


@dataclass(frozen=True)
class Scored:
    """All scores of one dictionary on one task."""

    axes: dict[str, Headline] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    @property
    def draws(self) -> dict[str, Float[np.ndarray, "_"]]:
        """Resampled normalised headlines, the first 500: enough for a rank, and few enough to keep."""
        found = {name: headline.normalized for name, headline in self.axes.items()}
        return {name: e.draws[:RANK_DRAWS] for name, e in found.items() if isinstance(e, Estimate)}


def _number(maybe: Maybe | None) -> float | None:
    return float(maybe) if isinstance(maybe, Estimate) else None


def write_entry(entry: Entry) -> Score:
    """The entry as it stands in a result file."""
    value, norm = entry.value, entry.normalized
    reason = next((m.reason for m in (value, norm) if isinstance(m, Undefined)), entry.exact)
    sampled = value if isinstance(value, Estimate) and entry.exact is None else None
    return Score(
        axis=entry.axis,
        name=entry.name,
        attribute=entry.attribute,
        edit=entry.edit,
        k=entry.k,
        n_changed=entry.n_changed,
        value=_number(value),
        ci=sampled.interval() if sampled else None,
        n=entry.n,
        direction=entry.direction,
        floor=_number(entry.floor),
        ceiling=_number(entry.ceiling),
        normalized=_number(norm),
        reason=reason,
        note=entry.note,
    )


def write_headline(headline: Headline) -> AxisScore:
    """The headline as it stands in a result file."""
    value, norm = headline.value, headline.normalized
    reason = next((m.reason for m in (value, norm) if isinstance(m, Undefined)), None)
    ci = None
    if isinstance(norm, Estimate):
        floor, ceiling = headline.floor, headline.ceiling
        assert isinstance(value, Estimate)
        assert isinstance(floor, Estimate) and isinstance(ceiling, Estimate)
        ci = normalized_interval(value, floor, ceiling)
    return AxisScore(
        value=_number(value),
        value_ci=value.interval() if isinstance(value, Estimate) else None,
        floor=_number(headline.floor),
        ceiling=_number(headline.ceiling),
        normalized=_number(norm),
        ci=ci,
        n=headline.n,
        reason=reason,
        note=headline.note,
    )
