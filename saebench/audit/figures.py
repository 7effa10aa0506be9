"""Pictures of an audit: the matrix of verdicts, and scores against the truth."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saebench.audit.evidence import EXPLAINED, RECOVERY, Evidence
from saebench.audit.judging import Audit
from saebench.audit.lenses import LENSES
from saebench.audit.lenses.truth import OVERALL, defined, with_means

# colours that people with any colour vision tell apart, with a letter beside
_INK = {
    "pass": ("#4c9f70", "✓"),
    "fail": ("#c8553d", "✗"),
    "provisional": ("#e9c46a", "?"),
    "stated": ("#cfd8dc", "·"),
}
LEGEND = "✓ pass   ✗ fail   ? provisional: the interval straddles the bar   · stated, no bar"
_NONE = ("#f4f4f4", "")


@contextmanager
def _plotting() -> Iterator[Any]:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "saebench", "font.size": 9}):
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        yield plt


def matrix(audit: Audit, path: Path) -> Path:
    """Boards and axes down, lenses across."""
    lines = [(board, axis) for board in audit.boards for axis in audit.axes]
    with _plotting() as plt:
        figure, ax = plt.subplots(figsize=(9, 0.26 * len(lines) + 1.6))
        for y, (board, axis) in enumerate(lines):
            lenses = audit.axis(board, axis).lenses
            for x, lens in enumerate(LENSES):
                colour, sign = _INK.get(lenses.get(lens, ""), _NONE)
                ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
                ax.text(x, y, sign, ha="center", va="center", fontsize=8)
            if axis == audit.axes[0] and y:
                ax.axhline(y - 0.5, color="#333", lw=1)
        names = [f"{b.split(' · ')[0]}  {a}" for b, a in lines]
        ax.set_yticks(range(len(lines)), names, fontsize=8)
        ax.set_xticks(range(len(LENSES)), list(LENSES), rotation=30, ha="left")
        ax.xaxis.tick_top()
        ax.set(xlim=(-0.5, len(LENSES) - 0.5), ylim=(len(lines) - 0.5, -0.5))
        ax.tick_params(length=0)
        figure.text(
            0.01,
            0.005,
            "✓ pass   ✗ fail   ? provisional: the interval straddles the bar   · stated, no bar",
            fontsize=8,
        )
        figure.tight_layout(rect=(0, 0.02, 1, 1))
        _save(figure, plt, path)
    return path


def scatter(evidence: Evidence, ordered_by: Sequence[str], path: Path) -> Path:
    """Recovery against the mean of the axes that order and against explained variance, a column a family."""
    families = evidence.families
    with _plotting() as plt:
        figure, grid = plt.subplots(
            2, len(families), figsize=(2.6 * len(families), 5), squeeze=False, sharey=True
        )
        for column, name in enumerate(families):
            frame = evidence.family(name)
            there, by = ([a for a in names if defined(frame, a)] for names in (evidence.axes, ordered_by))
            frame = with_means(frame, there, by)
            for row, score in enumerate((OVERALL, EXPLAINED)):
                ax = grid[row, column]
                for i, (architecture, part) in enumerate(frame.groupby("architecture")):
                    label = str(architecture) if column == row == 0 else None
                    ax.plot(part[score], part[RECOVERY[0]], ".", ms=4, alpha=0.7, color=f"C{i}", label=label)
                ax.set_xlabel("mean of the axes that order" if score == OVERALL else "explained variance")
                if score == EXPLAINED:
                    ax.set_xlim(left=max(-0.1, frame[score].min()))
            grid[0, column].set_title(name)
        for ax in grid[:, 0]:
            ax.set_ylabel("matched cosine, calibrated")
        figure.legend(loc="lower center", ncol=6, frameon=False)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        _save(figure, plt, path)
    return path


def _save(figure: Any, plt: Any, path: Path) -> None:
    # no software version in the file: the same numbers give the same bytes
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def draw(audit: Audit, evidence: Evidence, folder: Path, stem: str) -> list[Path]:
    """All pictures; returns their paths."""
    found = [matrix(audit, folder / f"{stem}-matrix.png")]
    if len(evidence.truth):
        every = evidence.about.get("ordering") == "all"
        by = [axis for axis in audit.axes if every or audit.everywhere(axis).passes]
        found.append(scatter(evidence, by, folder / f"{stem}-truth.png"))
    return found
