"""Results and outcomes made of random numbers, for tests of everything that reads results."""

import hashlib

import numpy as np

from saebench.outcomes import AttributeFacts, Key, Outcomes
from saebench.result import (
    AxisScore,
    DictionaryInfo,
    ModelInfo,
    Provenance,
    Result,
    Score,
    SplitSizes,
    TaskInfo,
)

AXES = ("approximation", "control", "interpretability", "occlusion", "oversplitting")


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def outcomes(seed: int = 0, n: int = 60, n_clusters: int = 20) -> Outcomes:
    """A small table with dense, sparse, empty and negative columns in two splits."""
    rng = np.random.default_rng(seed)
    cluster = {s: np.sort(rng.integers(0, n_clusters, n)) for s in ("select", "test")}
    table = Outcomes(
        cluster, {"io": AttributeFacts(("Ann", "Bob")), "pos": AttributeFacts(("on",), "io", True)}
    )
    table.add(Key("approximation", "ld_clean"), rng.normal(size=n))
    table.add(Key("control", "success", "io", "agnostic", 2), rng.random(n) < 0.7)
    table.add(
        Key("interpretability", "code", "io", label="Ann", split="select"), rng.random(n) < 0.1
    )
    table.add(Key("interpretability", "code", "io", label="Bob"), np.zeros(n))
    table.facts[Key("occlusion", "norm", "io")] = 1.0 / 3
    return table


def result(seed: int = 0, **changes: object) -> Result:
    """A finished result with all five axes; `changes` replace fields of the document."""
    rng = np.random.default_rng(seed)
    name = str(changes.pop("name", f"sae-{seed}"))
    task = str(changes.pop("task", "ioi"))
    dictionary = {
        "name": name, "source": f"demo:{name}", "format": "sae_lens", "architecture": "topk",
        "training_architecture": "topk", "d_in": 96, "d_sae": 768, "l0": float(rng.uniform(2, 40)),
        "sha256": digest("weights", name, seed), "kind": "sae", "seed": 0,
        **changes.pop("dictionary", {}),  # type: ignore[dict-item]
    }  # fmt: skip
    fields: dict = {
        "id": digest("result", name, task, seed),
        "created": "2026-01-02T03:04:05Z",
        "dictionary": DictionaryInfo(**dictionary),
        "model": ModelInfo(name="demo", sha256=digest("model"), n_layers=3, d_model=96),
        "task": TaskInfo(name=task, version=1, sha256=digest("task", task), model_accuracy=0.99,
                         n=SplitSizes(fit=400, select=60, test=60)),
        "site": "blocks.1.hook_resid_pre@end",
        "budget": "quick",
        "seed": 0,
        "axis_versions": dict.fromkeys(AXES, 1),
        "axes": {axis: axis_score(float(rng.uniform(0.1, 1))) for axis in AXES},
        "scores": tuple(scores(rng)),
        "provenance": Provenance(saebench="0.1.0", commit="abc123", dirty=False,
                                 command="saebench evaluate demo:all", device="cpu",
                                 dtype="float32", seconds=1.5, peak_memory_mb=300.0, versions={"torch": "2"}),
    }  # fmt: skip
    return Result(**{**fields, **changes})


def axis_score(value: float, half: float = 0.03) -> AxisScore:
    return AxisScore(value=value, value_ci=(value - half, value + half), floor=0.0, ceiling=1.0,
                     normalized=value, ci=(value - half, value + half), n=60)  # fmt: skip


def scores(rng: np.random.Generator) -> list[Score]:
    made = []
    for attribute in ("io", "s"):
        for k in (1, 2, 4, 8, 16, 32):
            value = float(1 - np.exp(-k / rng.uniform(2, 8)))
            made.append(Score(axis="control", name="edit_success", attribute=attribute,
                              edit="agnostic", k=k, value=value, n=60, floor=0.02, ceiling=0.97,
                              ci=(max(0, value - 0.05), min(1, value + 0.05))))  # fmt: skip
    made.append(Score(axis="occlusion", name="retention", attribute="io/s", n=60,
                      reason="nothing of the strong attribute was recovered"))  # fmt: skip
    return made
