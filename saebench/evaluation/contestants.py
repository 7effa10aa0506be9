"""What can be scored, by name: SAEs, controls, and objects in memory.

A contestant knows its name, and mostly its digest, before anything is loaded; `at(bench)` gives the
dictionary or intervention at a site. Nothing here imports torch before weights are needed.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from saebench import demo
from saebench.errors import CheckpointError, SiteError
from saebench.evaluation.controls import CONTROLS, Control, Sized, digest_of, find_control
from saebench.records.memo import Known, recall, remember
from saebench.records.result import DictionaryInfo
from saebench.records.site_list import read_map
from saebench.site import Site

if TYPE_CHECKING:
    from saebench.axes.base import Bench
    from saebench.checkpoints import Loaded
    from saebench.cross_section import CrossSection
    from saebench.dictionary import Scorable


class Realised(NamedTuple):
    """A contestant at a site."""

    scorable: "Scorable"
    info: DictionaryInfo
    warnings: tuple[str, ...] = ()
    parts: "tuple[Scorable, ...]" = ()
    """Of several sites that are edited together: what stands at each by itself."""


class Contestant(ABC):
    """Something to be scored."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in results."""

    @property
    def hook(self) -> str | None:
        """Where an SAE was trained; None for what can be scored anywhere."""
        return None

    @property
    def d_sae(self) -> int | None:
        """Latents of an SAE; None for controls."""
        return None

    @property
    def model_name(self) -> str | None:
        """The language model that an SAE says it was trained on."""
        return None

    @property
    def prepend_bos(self) -> bool | None:
        """Whether it says that its training texts began with a BOS token."""
        return None

    @property
    def task(self) -> str | None:
        """The synthetic task whose data an SAE was trained on."""
        return None

    @property
    def task_sha256(self) -> str | None:
        """That task's digest."""
        return None

    @property
    @abstractmethod
    def sha256(self) -> str | None:
        """The digest that a result's id is made of; None if it depends on a site's activations."""

    def part(self, site: Site) -> "Contestant":
        """What stands at one of several sites; the same everywhere unless it is a map of sites.

        Raises:
            SiteError: if it has nothing for the site.
        """
        return self

    @abstractmethod
    def at(self, bench: "Bench", seed: int = 0) -> Realised:
        """The contestant as it stands at a site.

        Raises:
            SaebenchError: if it cannot be made there.
        """

    @abstractmethod
    def described(self, stored: DictionaryInfo) -> DictionaryInfo:
        """What a stored result of the same digest says of it, under the name asked for."""


@dataclass(frozen=True)
class ControlContestant(Contestant):
    """A control `NAME[:ARGUMENT]`, made from a site's activations."""

    spec: str
    control: Control
    value: Any
    """The argument, read."""
    sae: "SAE | None" = None
    """The SAE that it is made from, for controls that take one."""

    def __reduce__(self) -> tuple[Any, ...]:
        # the table's entries hold functions, which cannot travel to another process; names can
        return control, (self.spec, {self.value.sae: self.sae} if self.sae else {})

    @property
    def name(self) -> str:
        return f"control:{self.spec}"

    @property
    def sha256(self) -> str | None:
        if self.sae is None:
            return digest_of(self.spec)
        return digest_of(self.spec, self.sae.sha256, self.value.cosine) if self.sae.sha256 else None

    def at(self, bench: "Bench", seed: int = 0) -> Realised:
        value, digest = self.value, digest_of(self.spec)
        if self.sae is not None:
            loaded = self.sae.fitted(bench.section)
            value = loaded.dictionary, self.value.cosine
            digest = digest_of(self.spec, loaded.info.sha256, self.value.cosine)
        scorable = self.control.make(bench, value, seed)
        info = DictionaryInfo(
            name=self.name,
            source=self.name,
            format="control",
            architecture=self.spec.partition(":")[0],
            d_in=bench.section.d_in,
            d_sae=getattr(scorable, "d_sae", 0),
            sha256=digest,
            kind=scorable.role,
        )
        return Realised(scorable, info, (self.control.note,) if self.control.note else ())

    def described(self, stored: DictionaryInfo) -> DictionaryInfo:
        return stored.model_copy(update={"name": self.name, "source": self.name})


@dataclass(frozen=True)
class SAE(Contestant):
    """An SAE of a checkpoint or in memory."""

    known: Known
    weights: "Checkpoint | InMemory" = field(repr=False)

    @classmethod
    def named(cls, spec: str, architecture: str | None = None) -> "SAE":
        """The SAE of a path or name; one that was read before, and has not changed, is not read again.

        Raises:
            CheckpointError: if it cannot be found or read.
        """
        known = recall(spec, architecture)
        if known is None:
            known = Checkpoint(spec, architecture).known()
            remember(spec, architecture, known)
        # a worker may stand in another directory
        where = str(Path(spec).absolute()) if Path(spec).exists() else spec
        return cls(known, Checkpoint(where, architecture))

    @classmethod
    def of(cls, loaded: "Loaded") -> "SAE":
        """An SAE in memory."""
        from saebench.checkpoints.remembering import known_of

        return cls(known_of(loaded), InMemory(loaded))

    @property
    def info(self) -> DictionaryInfo:
        return self.known.info

    def called(self, name: str) -> "SAE":
        """The same under another name."""
        info = self.info.model_copy(update={"name": name})
        return replace(self, known=self.known._replace(info=info))

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def hook(self) -> str | None:
        return self.known.hook

    @property
    def d_sae(self) -> int:
        return self.info.d_sae

    @property
    def model_name(self) -> str | None:
        return self.known.model_name

    @property
    def prepend_bos(self) -> bool | None:
        return self.known.prepend_bos

    @property
    def task(self) -> str | None:
        return self.known.task

    @property
    def task_sha256(self) -> str | None:
        return self.known.task_sha256

    @property
    def sha256(self) -> str | None:
        # empty where an input scale has still to be measured
        return self.info.sha256 or None

    def fitted(self, section: "CrossSection") -> "Loaded":
        """The SAE with its input scale, measured at the site where the checkpoint does not give it."""
        if self.info.d_in != section.d_in:
            raise SiteError(
                f"{self.name} takes activations of width {self.info.d_in}, the site has"
                f" {section.d_in}. Expected an SAE of this model and hook point; --site and --model"
                " say where it is scored."
            )
        acts = section.fit.acts
        loaded = self.weights.load(str(acts.device))
        return loaded.fitted(section.typical() if loaded.needs_factor else acts)

    def at(self, bench: "Bench", seed: int = 0) -> Realised:
        loaded = self.fitted(bench.section)
        asked = {"name": self.name, "source": self.info.source}
        return Realised(loaded.dictionary, loaded.info.model_copy(update=asked), loaded.warnings)

    def described(self, stored: DictionaryInfo) -> DictionaryInfo:
        return self.info.model_copy(update={"l0": stored.l0, "sha256": stored.sha256})


@dataclass(frozen=True)
class SiteMap(Contestant):
    """An SAE for each site, head or hook point: together one dictionary of several sites."""

    source: str
    saes: Mapping[str, SAE] = field(repr=False)

    @property
    def name(self) -> str:
        return Path(self.source).stem

    @property
    def d_sae(self) -> int:
        return sum(sae.d_sae for sae in self.saes.values())

    @property
    def sha256(self) -> str | None:
        digests = {place: sae.sha256 for place, sae in sorted(self.saes.items())}
        if not all(digests.values()):
            return None
        return hashlib.sha256(repr(digests).encode()).hexdigest()

    def part(self, site: Site) -> Contestant:
        whole = site.whole
        for place in (str(site), site.place, str(whole), whole.place):
            if place in self.saes:
                return self.saes[place]
        raise SiteError(
            f"{self.source} has no dictionary for {site}; it has some for {', '.join(self.saes)}. Expected one for"
            " the site, its head or its hook point."
        )

    def at(self, bench: "Bench", seed: int = 0) -> Realised:
        raise AssertionError("a map stands nowhere itself, only what it has for a site does")

    def described(self, stored: DictionaryInfo) -> DictionaryInfo:
        return stored.model_copy(update={"name": self.name, "source": self.source})


class InMemory(NamedTuple):
    """An SAE that is loaded already; it stays on its device."""

    loaded: "Loaded"

    def load(self, device: str) -> "Loaded":
        from saebench.checkpoints.building import placed

        return placed(self.loaded, device)


class Checkpoint(NamedTuple):
    """Where an SAE's weights are. They are read when they are needed and belong to who asked."""

    spec: str
    architecture: str | None = None

    def load(self, device: str) -> "Loaded":
        from saebench import checkpoints

        return checkpoints.load(self.spec, architecture=self.architecture, device=device)

    def known(self) -> Known:
        """What reading it says; the weights are not kept."""
        from saebench.checkpoints.remembering import known_of

        return known_of(self.load("cpu"))


def control(spec: str, saes: Mapping[str, SAE] = {}) -> ControlContestant:
    """The control `NAME[:ARGUMENT]`; an SAE that it is made from may be among those known by source.

    Raises:
        ControlError: for an unknown name, or an argument that it does not take.
        CheckpointError: if it takes an SAE that cannot be found or read.
    """
    made, value = find_control(spec)
    sae = None
    if made.takes is not None and made.takes.sae:
        sae = saes.get(value.sae) or SAE.named(value.sae)
    return ControlContestant(spec, made, value, sae)


def from_object(obj: Any, name: str | None = None) -> SAE:
    """A contestant from an object in memory (see `checkpoints.load_object`)."""
    from saebench import checkpoints

    return SAE.of(checkpoints.load_object(obj, name=name))


def told_apart(contestants: Sequence[Contestant]) -> list[Contestant]:
    """The same; checkpoints of one name take as many of the folders above as tell them apart."""
    names = [c.name for c in contestants]
    found = []
    for contestant in contestants:
        if isinstance(contestant, SAE) and names.count(contestant.name) > 1:
            same = [c.info.source for c in contestants if isinstance(c, SAE) and c.name == contestant.name]
            contestant = contestant.called(_shortest(contestant.info.source, same))
        found.append(contestant)
    return found


def _shortest(source: str, among: Sequence[str]) -> str:
    """The last folders of a path, as many as no other path shares."""
    paths = {other: Path(other).expanduser().absolute().parts for other in among}
    mine = paths[source]
    for length in range(1, len(mine)):
        if sum(parts[-length:] == mine[-length:] for parts in paths.values()) == 1:
            return "/".join(mine[-length:])
    return source


def resolve(spec: str, architecture: str | None = None) -> list[Contestant]:
    """Contestants of one command-line name; `demo:all` gives several, a map of sites one.

    Raises:
        CheckpointError, ControlError, SiteError: if it cannot be found or read.
    """
    if not spec:
        raise CheckpointError("An SAE's name is empty. Expected a path, demo:NAME or control:NAME.")
    if spec.startswith("control:"):
        return [control(spec.removeprefix("control:"))]
    mapped = read_map(Path(spec).expanduser())
    if mapped is not None:
        saes = {place: SAE.named(target, architecture) for place, target in mapped.items()}
        return [SiteMap(spec, saes)]
    names = [f"demo:{name}" for name in demo.names()] if spec == "demo:all" else [spec]
    return [SAE.named(name, architecture) for name in names]


def every_control(table: Sequence[Sized], saes: Mapping[str, SAE] = {}) -> list[Contestant]:
    """All controls that a table of these SAEs is to be read against."""
    return [
        control(f"{name}:{argument}" if argument else name, saes)
        for name, entry in CONTROLS.items()
        for argument in entry.in_all(table)
    ]
