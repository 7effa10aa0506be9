"""Which SAEs the audit is measured on: recipes, in the order in which they are trained."""

from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from saebench.studies.rows import read

FAMILIES = ("independent", "correlated", "hierarchical", "occlusion", "splitting", "composed")
SHARES = (1.0, 0.5, 2.0, sqrt(2))
"""Of the true L0; the last stands between two whose penalties are known."""
SEEDS = (0, 1, 2)
SAMPLES, BATCH, LR = 300_000, 512, 3e-3
SNAPSHOTS = (0.02, 0.06, 0.2)
"""Shares of training after which an SAE is kept too …"""
SNAPSHOT_SEEDS = (0, 1)
"""… by runs of these seeds: the one that definitions are chosen on, and one to hold them against."""
LM_ARCHITECTURES = ("standard", "topk", "batchtopk")
LM_SPARSITY = {"standard": 5.0, "topk": 8, "batchtopk": 8}
LM_LR = {"standard": 2e-3, "topk": 3e-3, "batchtopk": 3e-3}
LM_STEPS = 2000
LM_SNAPSHOTS = (20, 60, 200, 600, 1200)
"""Steps; the end of training is the sixth."""
CALIBRATION = Path("results/synthetic/calibration.csv")


@dataclass(frozen=True)
class Run:
    """One training run; its name is that of everything it leaves."""

    family: str
    """A synthetic family, or `demo` for the bundled language model's activations."""
    architecture: str
    share: float
    sparsity: float
    width: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.family}/{self.architecture}/{self.share:.3g}/{self.seed}"

    @property
    def steps(self) -> int:
        return LM_STEPS if self.family == "demo" else SAMPLES // BATCH

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Steps after which the SAE is kept, the end not among them."""
        if self.family == "demo":
            return LM_SNAPSHOTS
        return tuple(round(share * self.steps) for share in SNAPSHOTS) if self.seed in SNAPSHOT_SEEDS else ()


def synthetic(calibration: Path = CALIBRATION) -> list[Run]:
    """Six architectures × four sparsities × three seeds a family; sparsities that were reached only.

    Seed 0 of every family comes first, then the others, so that whoever stops this has all families.
    """
    known = {
        (r["task"].removeprefix("synthetic/"), r["architecture"], float(r["share_of_true_l0"])): r
        for r in read(calibration)
        if r["note"] == ""
    }
    found = []
    for (family, architecture, share), row in known.items():
        found.append((family, architecture, share, float(row["sparsity"]), int(row["width"])))
        twice = known.get((family, architecture, 2.0))
        if share == 1.0 and twice is not None:
            middle = sqrt(float(row["sparsity"]) * float(twice["sparsity"]))
            whole = architecture == "topk"
            middle = float(round(middle)) if whole else float(f"{middle:.3g}")
            # topk has no whole k between 1 and 2
            if middle not in (float(row["sparsity"]), float(twice["sparsity"])):
                found.append((family, architecture, SHARES[-1], middle, int(row["width"])))
    found.sort(key=lambda f: (SHARES.index(f[2]), FAMILIES.index(f[0]), f[1]))
    return [Run(f, a, share, s, w, seed) for seed in SEEDS for f, a, share, s, w in found]


def language() -> list[Run]:
    """Three architectures × three seeds on the bundled language model."""
    return [
        Run("demo", name, 1.0, LM_SPARSITY[name], 768, seed) for seed in SEEDS for name in LM_ARCHITECTURES
    ]
