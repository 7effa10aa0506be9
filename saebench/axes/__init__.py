"""The five axes: each measures per-prompt outcomes; `saebench.scoring` turns them into scores."""

from types import ModuleType

from saebench.axes import approximation, control, interpretability, occlusion, oversplitting

AXES: dict[str, ModuleType] = {
    "approximation": approximation,
    "control": control,
    "interpretability": interpretability,
    "occlusion": occlusion,
    "oversplitting": oversplitting,
}
