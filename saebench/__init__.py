"""saebench: sparse autoencoders scored against ground truth.

    import saebench
    result = saebench.evaluate(sae, task="ioi", model="demo", budget="quick")

Names are resolved on first use (PEP 562), so that importing the package, `--help` and everything
that only reads results answer at once, without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saebench.evaluation import evaluate
    from saebench.exports import to_frame
    from saebench.model_loading import load_model
    from saebench.regression import compare
    from saebench.result import Result

_HOME = {
    "evaluate": "saebench.evaluation",
    "load_model": "saebench.model_loading",
    "compare": "saebench.regression",
    "Result": "saebench.result",
    "to_frame": "saebench.exports",
}
__all__ = ["Result", "compare", "evaluate", "load_model", "to_frame"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'saebench' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
