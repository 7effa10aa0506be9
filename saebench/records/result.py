"""The result file: what a score is, what it is a score of, and where it comes from.

A stored result is a typed document: frozen pydantic models, strict JSON, undefined
numbers as null with a reason. The JSON Schema is generated from these classes.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

SCHEMA = "saebench.result/1"


Number = Annotated[float, Field(allow_inf_nan=False)]
"""Finite: an undefined number is null, with a reason."""
Pair = tuple[Number, Number]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Score(_Frozen):
    """A named number with its interval, its sample size and the bounds measured beside it."""

    axis: str
    name: str
    attribute: str | None = None
    edit: str | None = None
    k: int | None = None
    n_changed: Number | None = None
    """Mean number of latents that an edit changed."""
    value: Number | None = None
    ci: Pair | None = None
    """95 % interval of `value`."""
    n: int = 0
    direction: Literal["higher", "lower", "none"] = "higher"
    floor: Number | None = None
    ceiling: Number | None = None
    normalized: Number | None = None
    reason: str | None = None
    """Why `value`, `ci` or `normalized` is null."""
    note: str | None = None


class AxisScore(_Frozen):
    """An axis's headline number. `ci` belongs to `normalized`, `value_ci` to `value`."""

    value: Number | None = None
    value_ci: Pair | None = None
    floor: Number | None = None
    ceiling: Number | None = None
    normalized: Number | None = None
    ci: Pair | None = None
    n: int = 0
    reason: str | None = None
    note: str | None = None


class DictionaryInfo(_Frozen):
    """What was scored."""

    name: str
    source: str
    format: str
    architecture: str | None = None
    training_architecture: str | None = None
    d_in: int
    d_sae: int
    l0: Number | None = None
    sha256: str
    kind: Literal["sae", "control", "labelled", "intervention"] = "sae"
    """Labelled dictionaries may look at labels: they are ceilings, never contestants."""
    seed: int | None = None

    @property
    def trained_as(self) -> str | None:
        """What it was trained as, where that is known: BatchTopK and Matryoshka SAEs are saved as JumpReLU."""
        return self.training_architecture or self.architecture


class ModelInfo(_Frozen):
    name: str
    sha256: str
    n_layers: int
    d_model: int


class SplitSizes(_Frozen):
    fit: int
    select: int
    test: int


class TaskInfo(_Frozen):
    name: str
    version: int
    sha256: str
    model_accuracy: Number | None = None
    """Share of prompts with LD > 0 in the clean run."""
    n: SplitSizes


class Provenance(_Frozen):
    """Where a result comes from; nothing here changes a number."""

    saebench: str
    commit: str | None = None
    dirty: bool | None = None
    command: str
    device: str
    dtype: str
    seconds: Number
    peak_memory_mb: Number
    versions: dict[str, str]


class Result(_Frozen):
    """One dictionary on one task at one site."""

    schema_: Literal["saebench.result/1"] = Field(default=SCHEMA, alias="schema")
    status: Literal["success"] = "success"
    id: str
    created: str
    dictionary: DictionaryInfo
    model: ModelInfo
    task: TaskInfo
    site: str
    budget: str
    seed: int
    axis_versions: dict[str, int]
    axes: dict[str, AxisScore]
    scores: tuple[Score, ...]
    warnings: tuple[str, ...] = ()
    provenance: Provenance

    _outcomes: Any = PrivateAttr(default=None)

    @property
    def outcomes(self) -> Any:
        """The per-prompt outcomes, where the result still has them (`saebench.evaluate` leaves them)."""
        return self._outcomes

    def with_outcomes(self, outcomes: Any) -> "Result":
        """The same result with the outcomes it was computed from, so that it can be compared."""
        copy = self.model_copy()
        copy._outcomes = outcomes
        return copy

    def json_line(self) -> str:
        """The result as one line of strict JSON."""
        return self.model_dump_json(by_alias=True)

    def scores_frame(self):
        """All scores as a pandas DataFrame, one row a score."""
        import pandas as pd

        return pd.DataFrame([score.model_dump() for score in self.scores])
