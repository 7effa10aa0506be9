"""Results and outcomes made of random numbers, for tests of everything that reads results."""

import hashlib

import numpy as np

from saebench.records.outcomes import AttributeFacts, Key, Outcomes
from saebench.records.result import (
    AxisScore,
    DictionaryInfo,
    ModelInfo,
    Provenance,
    Result,
    Score,
    SplitSizes,
    TaskInfo,
)
from saebench.scoring.axes import AXES


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
    table.add(Key("interpretability", "code", "io", label="Ann", split="select"), rng.random(n) < 0.1)
    table.add(Key("interpretability", "code", "io", label="Bob"), np.zeros(n))
    table.facts[Key("occlusion", "norm", "io")] = 1.0 / 3
    return table


def result(seed: int = 0, **changes: object) -> Result:
    """A finished result with all five axes; `changes` replace fields of the document."""
    rng = np.random.default_rng(seed)
    name = str(changes.pop("name", f"sae-{seed}"))
    task = str(changes.pop("task", "ioi"))
    dictionary = {
        "name": name,
        "source": f"demo:{name}",
        "format": "sae_lens",
        "architecture": "topk",
        "training_architecture": "topk",
        "d_in": 96,
        "d_sae": 768,
        "l0": float(rng.uniform(2, 40)),
        "sha256": digest("weights", name, seed),
        "kind": "sae",
        "seed": 0,
        **changes.pop("dictionary", {}),  # type: ignore[dict-item]
    }
    fields: dict = {
        "id": digest("result", name, task, seed),
        "created": "2026-01-02T03:04:05Z",
        "dictionary": DictionaryInfo(**dictionary),
        "model": ModelInfo(name="demo", sha256=digest("model"), n_layers=3, d_model=96),
        "task": TaskInfo(
            name=task,
            version=1,
            sha256=digest("task", task),
            model_accuracy=0.99,
            n=SplitSizes(fit=400, select=60, test=60),
        ),
        "site": "blocks.1.hook_resid_pre@end",
        "budget": "quick",
        "seed": 0,
        "axis_versions": dict.fromkeys(AXES, 1),
        "axes": {axis: axis_score(float(rng.uniform(0.1, 1))) for axis in AXES},
        "scores": tuple(scores(rng)),
        "provenance": Provenance(
            saebench="0.1.0",
            commit="abc123",
            dirty=False,
            command="saebench evaluate demo:all",
            device="cpu",
            dtype="float32",
            seconds=1.5,
            peak_memory_mb=300.0,
            versions={"torch": "2"},
        ),
    }
    return Result(**{**fields, **changes})


def axis_score(value: float, half: float = 0.03) -> AxisScore:
    return AxisScore(
        value=value,
        value_ci=(value - half, value + half),
        floor=0.0,
        ceiling=1.0,
        normalized=value,
        ci=(value - half, value + half),
        n=60,
    )


def scores(rng: np.random.Generator) -> list[Score]:
    made = []
    for attribute in ("io", "s"):
        for k in (1, 2, 4, 8, 16, 32):
            value = float(1 - np.exp(-k / rng.uniform(2, 8)))
            made.append(
                Score(
                    axis="control",
                    name="edit_success",
                    attribute=attribute,
                    edit="agnostic",
                    k=k,
                    value=value,
                    n=60,
                    floor=0.02,
                    ceiling=0.97,
                    ci=(max(0, value - 0.05), min(1, value + 0.05)),
                )
            )
    made.append(
        Score(
            axis="occlusion",
            name="retention",
            attribute="io/s",
            n=60,
            reason="nothing of the strong attribute was recovered",
        )
    )
    return made


ARCHITECTURES = ("topk", "batchtopk", "jumprelu", "standard", "gated", "matryoshka")
SAVED_AS = {"batchtopk": "jumprelu", "matryoshka": "jumprelu"}
"""SAELens saves them with a threshold for each latent."""


def sae(seed: int, task: str = "ioi", name: str | None = None, kind: str = "sae") -> Result:
    """A result as an evaluation writes it: curves over edit sizes, occlusion, splitting."""
    rng = np.random.default_rng([seed, len(task)])
    architecture = ARCHITECTURES[seed % len(ARCHITECTURES)]
    l0 = float(2 ** rng.uniform(1, 6))
    skill = 0.3 + 0.6 * (l0 / 64) ** 0.3 + 0.1 * rng.normal()
    made = []

    def add(axis: str, name: str, value: float, **fields: object) -> None:
        half = float(rng.uniform(0.01, 0.05))
        made.append(
            Score(axis=axis, name=name, value=value, ci=(value - half, value + half), n=2500, **fields)
        )  # type: ignore[arg-type]

    for attribute in ("io", "s", "pos"):
        slope = float(rng.uniform(2, 8))
        for edit in ("agnostic", "aware"):
            for k in (1, 2, 4, 8, 16, 32):
                value = skill * (1 - np.exp(-k / slope))
                add(
                    "control",
                    "edit_success",
                    value,
                    attribute=attribute,
                    edit=edit,
                    k=k,
                    floor=0.02,
                    ceiling=0.97,
                )
                add("control", "edit_effect", value * 0.9, attribute=attribute, edit=edit, k=k)
                add("control", "edit_kl", 3 - value, attribute=attribute, edit=edit, k=k, direction="lower")
        add("interpretability", "f1_star", skill * rng.uniform(0.5, 1), attribute=attribute)
        add("interpretability", "f1", skill, attribute=attribute)
        add("interpretability", "coverage@0.5", skill * rng.uniform(0.5, 1), attribute=attribute)
        add("oversplitting", "inverse_n90", rng.uniform(0.2, 1), attribute=attribute)
        add("oversplitting", "n90", rng.uniform(1, 9), attribute=attribute, direction="lower")
        add("oversplitting", "detected", rng.uniform(0.5, 1), attribute=attribute)
    for score in ("cause", "isolate", "disentangle"):
        add("control", score, float(rng.uniform(0.3, 0.9)))
    for tau in (0, 25, 50, 75, 100):
        add("occlusion", "weak_coverage", skill * (0.4 + tau / 250), attribute="s", edit="minus:io", k=tau)
    add("occlusion", "retention", float(rng.uniform(0.2, 1.1)), attribute="s<io")
    for score in ("sufficiency", "necessity", "agreement"):
        add("approximation", score, float(min(1, skill * rng.uniform(0.8, 1.1))))
    axes = {axis: axis_score(float(skill * rng.uniform(0.6, 1.05)), rng.uniform(0.01, 0.06)) for axis in AXES}
    if seed % 5 == 4:
        axes["occlusion"] = AxisScore(n=2500, reason="nothing of io was recovered")
    name = name or f"{architecture}-{round(l0)}-seed{seed}"
    info = {
        "kind": kind,
        "l0": l0,
        "architecture": SAVED_AS.get(architecture, architecture) if kind == "sae" else None,
        "training_architecture": architecture if kind == "sae" else None,
        "d_sae": int(2 ** rng.integers(8, 13)),
        "sha256": digest(name, seed),
    }
    return result(seed, name=name, task=task, dictionary=info, axes=axes, scores=tuple(made))


def populate(out: object, n: int, tasks: tuple[str, ...] = ("ioi",)) -> None:
    """`n` SAEs and the usual references on each task, saved with tiny tables of outcomes."""
    from pathlib import Path

    from saebench.records import store
    from saebench.records.table import table_bytes

    for task in tasks:
        results = [sae(i, task) for i in range(n)]
        for i, (name, kind) in enumerate(
            [
                ("supervised", "labelled"),
                ("identity", "control"),
                ("mean", "control"),
                ("pca:8", "control"),
                ("random:8", "control"),
                ("das", "intervention"),
            ]
        ):
            results.append(sae(1000 + i, task, name, kind))
        for made in results:
            path = store.result_path(made, Path(str(out)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(store.json_text(made))
            path.with_suffix(".parquet").write_bytes(table_bytes(outcomes(n=8), made.id))


def clusters(rng: np.random.Generator, n: int = 500, n_clusters: int = 150) -> np.ndarray:
    return rng.integers(0, n_clusters, n)
