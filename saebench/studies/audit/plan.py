"""Which SAEs the audit is measured on: recipes, in the order in which they are trained."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from math import sqrt
from pathlib import Path

from saebench.audit.standing import weights_of_now
from saebench.studies.rows import read

SHARES = (1.0, 0.5, 2.0, sqrt(2))
"""Of the true L0; the last stands between two whose penalties are known."""
SEEDS = (0, 1, 2)
SAMPLES, BATCH, LR = 300_000, 512, 3e-3
LM_ARCHITECTURES = ("standard", "topk", "batchtopk")
LM_SPARSITY = {"standard": 5.0, "topk": 8, "batchtopk": 8}
LM_LR = {"standard": 2e-3, "topk": 3e-3, "batchtopk": 3e-3}
CALIBRATION = Path("results/synthetic/calibration.csv")


@dataclass(frozen=True)
class Family:
    """SAEs of one kind of data: how long they are trained, what they are scored on, what their rows say."""

    name: str
    task: str
    truth: bool
    """Whether true features are known: SAEs are rows of the table of truth. Else they are a trajectory."""
    steps: int = SAMPLES // BATCH
    snapshots: tuple[int, ...] = (12, 35, 117)
    """Steps after which an SAE is kept too (2, 6 and 20 % of the way), the end not among them …"""
    snapshot_seeds: tuple[int, ...] = (0, 1)
    """… by runs of these seeds: the one that definitions are chosen on, and one to hold them against."""
    pooled: bool = False
    """Trained on stored activations, which are made first and take a while; else on fresh draws."""
    pack: str = "families"
    """The file that its SAEs are packed into, of less than 16 MB; `{}` stands for the architecture."""
    half: bool = False
    """Whether they are packed in half precision."""


def _known(name: str, pack: str = "families", half: bool = False) -> Family:
    return Family(name, f"synthetic/{name}", truth=True, pack=pack, half=half)


FAMILIES = {
    family.name: family
    for family in (
        _known("independent"),
        _known("correlated"),
        _known("hierarchical"),
        # 200 latents, where the others have at most 64
        _known("occlusion", pack="occlusion", half=True),
        _known("splitting"),
        _known("composed"),
    )
}
LANGUAGE = Family(
    "demo",
    "ioi",
    truth=False,
    steps=2000,
    snapshots=(20, 60, 200, 600, 1200),
    snapshot_seeds=SEEDS,
    pooled=True,
    pack="demo-{}",
    half=True,
)
"""The bundled language model's activations at every token."""


@dataclass(frozen=True)
class Run:
    """One training run; its name is that of everything it leaves."""

    family: Family
    architecture: str
    share: float
    sparsity: float
    width: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.family.name}/{self.architecture}/{self.share:.3g}/{self.seed}"

    @property
    def file(self) -> str:
        """What its files are called, less their endings: SAEs of another bundled model are others."""
        of = f"-of-{weights_of_now('trajectory.parquet')}" if self.family.pooled else ""
        return self.name.replace("/", "-") + of

    @property
    def steps(self) -> int:
        return self.family.steps

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Steps after which the SAE is kept, the end not among them."""
        return self.family.snapshots if self.seed in self.family.snapshot_seeds else ()

    @property
    def pack(self) -> str:
        return self.family.pack.format(self.architecture)


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
    order = list(FAMILIES)
    found.sort(key=lambda f: (SHARES.index(f[2]), order.index(f[0]), f[1]))
    return [Run(FAMILIES[f], a, share, s, w, seed) for seed in SEEDS for f, a, share, s, w in found]


def language() -> list[Run]:
    """Three architectures × three seeds on the bundled language model."""
    return [
        Run(LANGUAGE, name, 1.0, LM_SPARSITY[name], 768, seed) for seed in SEEDS for name in LM_ARCHITECTURES
    ]


def scratch(folder: Path, tasks: Iterable[str], weights: Iterable[Path] = ()) -> Path:
    """Where rows wait to be joined: a place of its own for all versions of axes, tasks and weights; none mix."""
    from saebench.records.provenance import identity
    from saebench.scoring.axes import EVERY
    from saebench.spec import load_task

    versions = {name: axis.version for name, axis in EVERY.items()}
    files = [sha256(path.read_bytes()).hexdigest() for path in sorted(weights)]
    digests = {name: load_task(name).sha256 for name in tasks}
    return folder / identity(versions=versions, tasks=digests, weights=files)[:8]
