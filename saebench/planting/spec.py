"""What is to be planted: the entries of a spec, checked. No torch here.

A spec names variables. Every entity, a word of the text, has one value of each; questions ask for
them. At one site, the residual stream entering block `site` at the entity, each variable is carried
by a subspace of its own. The shortest spec is a name and two variables.
"""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, model_validator

from saebench.errors import unknown
from saebench.planting.sentences import ENTITY, Part, TextSpec, Word, Words, slots_of

ABSENT = "none"
"""The value of an entity that has none of a variable (`present` below 1); its atom is zero."""
VERSION = 2
"""Raised whenever the same spec gives another text, geometry or training: what is cached is then made again."""
QUIET_VERSION = 3
"""The same of specs whose variables differ in norm."""


class VariableSpec(Part):
    """One variable of the entities, and how the model is to carry it."""

    values: int | tuple[Words, ...]
    """How many values, or their names. A table brings them; named, they are in that order."""
    rank: int | None = Field(default=None, ge=1)
    """Dimensions of its subspace; by default as many as the values need (a plane if circular)."""
    norm: float = Field(default=1.0, gt=0, le=20)
    """Norm of every value's atom; the norm ratio of two variables is what one may hide behind."""
    present: float = Field(default=1.0, gt=0, le=1)
    """Share of the entities that have a value; the others have `none`, carried by nothing."""
    follows: str | None = None
    """A variable before it that this one depends on."""
    dependence: float = Field(default=1.0, ge=0, le=1)
    """Share of the entities whose value follows from that one's; the others' is drawn."""
    nested: bool = False
    """Whether every value belongs to one value of `follows` (country in continent)."""
    used: bool = True
    """False: carried here, but its questions are answered from elsewhere (epiphenomenal)."""
    computed_from: tuple[str, str] | None = None
    """Not carried at all: `(a + b) mod values` of two other variables, computed behind the site."""
    circular: bool = False
    """Values stand on a circle in a plane, in order (days of the week)."""
    copies: Literal[1, 2] = 1
    """2: also carried at the last token; answers are read half from either place."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the values that are carried, or () where only their number is given."""
        return () if isinstance(self.values, int) else self.values

    @property
    def n_values(self) -> int:
        """How many values are carried; `none` is one more."""
        return self.values if isinstance(self.values, int) else len(self.values)

    @property
    def needs(self) -> int:
        """Dimensions that the values' atoms can fill: a simplex around zero, or one around `none`."""
        if self.circular:
            return 2
        return self.n_values if self.present < 1 else self.n_values - 1

    @property
    def dimensions(self) -> int:
        """Dimensions of its subspace; 0 if it is computed."""
        return 0 if self.computed_from else self.rank or self.needs


class ModelSpec(Part):
    """The language model."""

    architecture: Literal["gpt2", "llama"] = "gpt2"
    layers: int = Field(default=2, ge=2, le=12)
    d_model: int = Field(default=64, ge=8, le=512)
    heads: int = Field(default=4, ge=1)
    mlp: int = Field(default=4, ge=1, le=16)
    """Width of the MLPs, in parts of `d_model`."""
    site: int = Field(default=1, ge=1)
    """The block whose input, at the entity, carries the variables."""

    @property
    def hook(self) -> str:
        return f"blocks.{self.site}.hook_resid_pre"


class TrainingSpec(Part):
    """How the model is trained."""

    steps: int = Field(default=800, ge=1)
    batch: int = Field(default=64, ge=8)
    learning_rate: float = Field(default=4e-3, gt=0)
    interchange: bool = True
    """False: language modelling alone, the model that a certificate must refuse."""
    seed: int = 0


class Templates(Part):
    """Phrasings of one question: those trained on, and those held out for the certificate and the test."""

    train: tuple[str, ...] = Field(min_length=2)
    test: tuple[str, ...] = Field(min_length=1)


_LEADS = ("In the book", "They say that", "I am told that", "Everyone knows that", "She wrote that")
_BODIES = (
    "the {variable} of {entity} is",
    "the {variable} of {entity} was",
    "{entity} has the {variable}",
    "for {entity} the {variable} is",
)
_TEXTS = tuple(f"{lead} {body}" for lead in _LEADS for body in _BODIES)
# every lead and every body is trained, these five pairs of them are not
_TEST = tuple(f"{lead} {_BODIES[i % 4]}" for i, lead in enumerate(_LEADS))
_TRAIN = tuple(text for text in _TEXTS if text not in _TEST)
FILLER = (
    "Everyone in the book knows {entity} and they say that",
    "She told {entity} that I was in the book",
    "They wrote of {entity} and of the book",
)
"""Texts that name an entity and ask nothing."""


class PlantSpec(Part):
    """A language model to be trained, its variables, and the text it learns from."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    title: str = ""
    entities: int | tuple[Words, ...] = 240
    """How many entities, or their names; in a file also { table = FILE, column = NAME }."""
    table: dict[str, tuple[str, ...]] = Field(default={})
    """Values of every entity by variable, as read from that table; empty where they are drawn."""
    variables: dict[Word, VariableSpec] = Field(min_length=1)
    templates: dict[str, Templates] = Field(default={})
    """Phrasings by variable, with {entity} in them; by default fifteen to train on and five held out."""
    filler: tuple[str, ...] = FILLER
    text: tuple[TextSpec, ...] = ()
    """What else the model reads."""
    model: ModelSpec = ModelSpec()
    training: TrainingSpec = TrainingSpec()

    @property
    def n_entities(self) -> int:
        return self.entities if isinstance(self.entities, int) else len(self.entities)

    @property
    def carried(self) -> tuple[str, ...]:
        """Variables that have a subspace of their own."""
        return tuple(name for name, v in self.variables.items() if not v.computed_from)

    @property
    def quiet(self) -> tuple[str, ...]:
        """Carried variables whose atoms are smaller than another's."""
        norms = {name: self.variables[name].norm for name in self.carried}
        return tuple(name for name, norm in norms.items() if norm < max(norms.values()))

    @property
    def superposition(self) -> float:
        """Σ ranks / d_model; above 1 the subspaces cannot be orthogonal."""
        return sum(v.dimensions for v in self.variables.values()) / self.model.d_model

    @property
    def beside(self) -> int:
        """Rows of a batch that are other text."""
        return round(self.training.batch * sum(text.share for text in self.text))

    @property
    def sha256(self) -> str:
        """Digest of all that the weights follow from: every entry, and the version of the training."""
        version = QUIET_VERSION if self.quiet else VERSION
        asked: dict[str, Any] = {**self.model_dump(mode="json"), "version": version}
        # entries that came later, where they ask for nothing, leave the digest as it was
        asked = {entry: value for entry, value in asked.items() if value or entry not in ("table", "text")}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def phrasings(self, variable: str) -> Templates:
        """The variable's own templates, or the default ones with its name in them."""
        if variable in self.templates:
            return self.templates[variable]
        train, test = (
            tuple(text.replace("{variable}", variable) for text in texts) for texts in (_TRAIN, _TEST)
        )
        return Templates(train=train, test=test)

    @model_validator(mode="after")
    def _consistent(self) -> "PlantSpec":
        for name, variable in self.variables.items():
            _check_variable(name, variable, self)
        for name in self.templates:
            if name not in self.variables:
                raise ValueError(unknown("variable in [templates]", name, self.variables))
        if self.model.d_model % self.model.heads:
            raise ValueError(f"d_model {self.model.d_model} is not a multiple of {self.model.heads} heads")
        if self.model.site >= self.model.layers:
            raise ValueError(f"site {self.model.site} is not below {self.model.layers} layers")
        if self.superposition > 2:
            raise ValueError(
                f"the ranks add up to {self.superposition:.2f} × d_model; at most 2 × can be told apart"
            )
        if len(self.carried) < 1:
            raise ValueError("no variable is carried at the site")
        share = sum(text.share for text in self.text)
        if share > 0.8:
            raise ValueError(f"the texts take {share:g} of the training; leave .2 for the variables")
        need = max(
            (len(slots_of(t).get(ENTITY, ())) for text in self.text for t in text.templates), default=0
        )
        if need > self.n_entities:
            raise ValueError(f"a text names {need} entities of {self.n_entities}")
        if self.n_entities < 40:
            raise ValueError(f"{self.n_entities} entities are too few to hold some out; at least 40")
        return self


def _check_variable(name: str, variable: VariableSpec, spec: PlantSpec) -> None:
    """Raises ValueError for what one variable can get wrong."""
    before = list(spec.variables)[: list(spec.variables).index(name)]
    count = variable.n_values
    if not 2 <= count <= 64:
        raise ValueError(f"{name} has {count} values; expected 2 to 64")
    if len(set(variable.names)) < len(variable.names):
        raise ValueError(f"{name} names a value twice")
    sources = [("follows", variable.follows)] if variable.follows else []
    sources += [("is computed from", other) for other in variable.computed_from or ()]
    for does, other in sources:
        if other not in before:
            above = f"expected one of {', '.join(before)}" if before else "none stands above it"
            raise ValueError(
                f"{name} {does} {other!r}, which is no variable above it: {above}. A variable stands below"
                " those that it depends on"
            )
    if variable.nested and not variable.follows:
        raise ValueError(f"{name} is nested, but `follows` names no variable")
    if variable.nested and count < 2 * _count(spec, variable.follows):
        raise ValueError(
            f"{name} has {count} values within {_count(spec, variable.follows)} of {variable.follows};"
            " expected at least two within each"
        )
    if variable.computed_from and (
        variable.rank or variable.follows or variable.circular or not variable.used
    ):
        raise ValueError(f"{name} is computed, so it has no rank, `follows`, `circular` or `used`")
    if spec.table:
        _check_against_table(name, variable, spec)
    if variable.dimensions > variable.needs:
        raise ValueError(
            f"{name} has rank {variable.rank}, but {count} values fill at most {variable.needs} dimensions"
        )
    if variable.dimensions > spec.model.d_model:
        raise ValueError(f"{name} has rank {variable.dimensions}, above d_model {spec.model.d_model}")


def _check_against_table(name: str, variable: VariableSpec, spec: PlantSpec) -> None:
    """Raises ValueError for what a table already says, or says otherwise."""
    if variable.present < 1 or variable.dependence < 1 or variable.computed_from:
        raise ValueError(
            f"{name} has its values from the table, so it has no `present`, `dependence` or `computed_from`"
        )
    held = set(spec.table[name])
    if set(variable.names) != held:
        differ = sorted(held.symmetric_difference(variable.names))[:3]
        raise ValueError(f"{name}: its values and those of the table differ in {', '.join(differ)}")
    if variable.nested and variable.follows:
        pairs = set(zip(spec.table[name], spec.table[variable.follows], strict=True))
        if len(pairs) > len(held):
            raise ValueError(
                f"{name} is nested, but in the table one of its values has two of {variable.follows}"
            )


def _count(spec: PlantSpec, name: str | None) -> int:
    return spec.variables[name].n_values if name else 0
