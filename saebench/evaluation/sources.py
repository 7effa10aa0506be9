"""Where a task's activations come from: a language model, or the task's own generator.

Both are loaded only when activations are needed; what an id needs of them is remembered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from saebench.cache.code import code
from saebench.evaluation.options import Options
from saebench.models import facts
from saebench.models.facts import ModelFacts
from saebench.records.memo import Memo
from saebench.spec import Task

if TYPE_CHECKING:
    from saebench.models.language_model import LanguageModel
    from saebench.synthetic.generator import Generator

    Model = LanguageModel | Generator


@dataclass
class Source:
    """A model or generator, and what is known of it before it is loaded."""

    facts: ModelFacts
    dtype: str
    """As torch writes it, `torch.float32`."""
    device: str
    """Kind of device, `cpu` or `cuda`."""
    load: "Callable[[], Model]"
    _model: "Model | None" = field(default=None, repr=False)

    @property
    def model(self) -> "Model":
        """The model, loaded when it is first asked for."""
        if self._model is None:
            self._model = self.load()
        return self._model

    def forget(self) -> None:
        """Lets the model go; it is loaded again when it is asked for."""
        self._model = None

    @property
    def name(self) -> str:
        return self.facts.name

    @classmethod
    def of(cls, model: "Model") -> "Source":
        """What is loaded already."""
        seen = ModelFacts(model.name, model.sha256, tuple(model.hook_points()))
        return cls(seen, str(model.dtype), model.device.type, lambda: model)

    @classmethod
    def loaded(cls, load: "Callable[[], Model]") -> "Source":
        """What has to be loaded to be known, and can be loaded again."""
        model = load()
        return replace(cls.of(model), load=load, _model=model)


def source_of(task: Task, model: Any, options: Options) -> Source:
    """The task's generator, or the language model asked for by name, loaded, or as a source.

    Raises:
        ModelError, TaskError, OptionError: if there is none.
    """
    if task.spec.generates:
        return _generator(task, options)
    if isinstance(model, Source):
        return model
    if not isinstance(model, str):
        return Source.of(_within(model, options))
    device, seen = facts.device_kind(options.device), facts.recall(model, options.dtype)
    if device and seen:
        return Source(seen, f"torch.{options.dtype}", device, lambda: _language_model(model, options))
    loaded = Source.loaded(lambda: _language_model(model, options))
    facts.keep(model, options.dtype, loaded.facts)
    return loaded


def _language_model(name: str, options: Options) -> "LanguageModel":
    from saebench.models.loading import load_model

    return _within(load_model(name, device=options.device, dtype=options.dtype), options)


def _within(model: "LanguageModel", options: Options) -> "LanguageModel":
    """The model with the memory it may take."""
    return replace(model, memory_bytes=options.memory_bytes) if options.memory else model


def _generator(task: Task, options: Options) -> Source:
    def load() -> "Generator":
        from saebench.kinds import KINDS

        return KINDS[task.spec.kind].generator(task, options.device)

    made_by = code("synthetic", "kinds", libraries=("torch", "numpy", "sae-lens"))
    memo = Memo("generators", task=task.sha256, name=task.name, code=made_by)
    device, seen = facts.device_kind(options.device), memo.recall()
    if device and seen:
        known = ModelFacts(seen["name"], seen["sha256"], tuple(seen["hook_points"]))
        return Source(known, "torch.float32", device, load)
    loaded = Source.loaded(load)
    memo.keep(loaded.facts._asdict())
    return loaded
