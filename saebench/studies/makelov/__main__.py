"""Measures what the axes do not store; `saebench paper makelov` draws it beside results.

`python -m saebench.studies.makelov PART --out DIR` writes DIR/PART.csv. Parts: interpretations and
interpretations-heads (figure 5), thresholds (30, 31), negative-weights, joint-edits, occlusion (6), sublayers.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from saebench.models.devices import exact, few_threads
from saebench.models.surroundings import undisturbed
from saebench.studies.makelov import heads, latents, occluded, sublayers, together
from saebench.studies.makelov.stage import Stage
from saebench.studies.rows import Row, write

SAES = ("demo:all", "control:pca:19", "control:identity", "control:supervised")
"""Of the residual stream. Components: the median L0 of the bundled SAEs on IOI, as on the board."""
OWN = ("demo:mlp-topk", "demo:mlp-transcoder", "control:pca:8", "control:identity")
"""At the MLP: what was trained there, and controls."""
BESIDE = "s1"
"""A second position at which latents are interpreted: the token there is a name."""


def _interpretations(stage: Stage, options: Any) -> Iterator[Row]:
    yield from latents.interpretations(stage, options.saes)
    hook = str(stage.site).partition("@")[0]
    there = Stage.of(options.model, f"{hook}@{BESIDE}", options.budget)
    yield from latents.interpretations(there, options.saes)


def _sublayers(stage: Stage, options: Any) -> Iterator[Row]:
    site = sublayers.site_of(stage.site.hook, stage.site.position)
    there = Stage.of(options.model, str(site), options.budget)
    residual = [name for name in options.saes if not name.startswith("control:")]
    yield from sublayers.rows(there, options.own, residual)


def _joint_edits(stage: Stage, options: Any) -> Iterator[Row]:
    there = Stage.of(options.model, str(stage.site), options.budget, sets=together.SETS)
    yield from together.rows(there, options.saes)


PARTS: dict[str, Callable[[Stage, Any], Iterator[Row]]] = {
    "interpretations": _interpretations,
    "interpretations-heads": lambda stage, options: heads.rows(stage, heads.HEADS),
    "thresholds": lambda stage, options: latents.thresholds(stage, options.saes),
    "negative-weights": lambda stage, options: latents.negative_weights(stage, options.saes),
    "joint-edits": _joint_edits,
    "occlusion": lambda stage, options: occluded.rows(stage, "io", ("s",), range(options.seeds)),
    "sublayers": _sublayers,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m saebench.studies.makelov")
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("results/makelov"), help="where tables go")
    parser.add_argument("--saes", nargs="+", default=SAES, help="SAEs of the residual stream, and controls")
    parser.add_argument(
        "--own", nargs="+", default=OWN, help="sublayers: what was trained on the MLP's output"
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--site", help="default: the task's first on the model")
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--seeds", type=int, default=3, help="occlusion: SAEs of each kind")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    stage = Stage.of(options.model, options.site, options.budget)
    with undisturbed(), exact(stage.model.device), few_threads(stage.model.d_model):
        for part in options.parts:
            write(list(PARTS[part](stage, options)), options.out / f"{part}.csv")
            print(options.out / f"{part}.csv")


if __name__ == "__main__":
    main()
