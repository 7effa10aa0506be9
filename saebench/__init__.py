"""saebench: sparse autoencoders scored against ground truth.

    import saebench
    result = saebench.evaluate(sae, task="ioi", model="demo", budget="quick")

Names are resolved on first use (PEP 562), so that importing the package, `--help` and everything
that only reads results answer at once, without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saebench.evaluation.api import Prepared, evaluate, prepare
    from saebench.evaluation.discovering import discover
    from saebench.models.loading import load_model
    from saebench.records.result import Result
    from saebench.regression.compare import compare
    from saebench.reporting.exports import to_frame

_HOME = {
    "discover": "saebench.evaluation.discovering",
    "evaluate": "saebench.evaluation.api",
    "prepare": "saebench.evaluation.api",
    "Prepared": "saebench.evaluation.api",
    "load_model": "saebench.models.loading",
    "compare": "saebench.regression.compare",
    "Result": "saebench.records.result",
    "to_frame": "saebench.reporting.exports",
}
__all__ = ["Prepared", "Result", "compare", "discover", "evaluate", "load_model", "prepare", "to_frame"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'saebench' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
