"""The verb that plants language models. Nothing here imports torch before it is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()
EVERY = 50
"""Steps between two reports."""


@app.command(epilog="Example: saebench plant first.toml --out planted")
def plant(
    spec: Annotated[Path, typer.Argument(help="A TOML file that names the variables.")],
    out: Annotated[Path, typer.Option(help="Where the model's folder goes.")] = Path("planted"),
    force: Annotated[bool, typer.Option("--force", help="Train again what is there.")] = False,
) -> None:
    """Train a small language model whose features are known, with its certificate and its task.

    The model goes to OUT/NAME, NAME being the spec's own, and replaces the one of another spec there.
    docs/planting.md shows the shortest spec and lists every entry.

    Exit 1: it was trained, but is not certified.
    """
    from saebench.planting.making import plant as make
    from saebench.planting.reading import read_spec
    from saebench.reporting.progress import progress

    wanted = read_spec(spec)
    with progress(wanted.training.steps // EVERY, wanted.name) as steps:
        planted = make(spec, out, force, lambda _: _reporter(steps))
    print((planted.folder / "README.md").read_text("utf-8"))
    print(f"{'Trained' if planted.made else 'There already:'} {planted.folder}")
    if not planted.certificate.certified:
        settings = wanted.training
        print(
            f"Not certified: another seed often is ([training] seed = {settings.seed + 1}), or more steps"
            f" (now {settings.steps})."
        )
    print(f"Score SAEs on it: saebench evaluate SAE --model {planted.folder} --task {planted.folder}/task")
    raise typer.Exit(0 if planted.certificate.certified else 1)


def _reporter(steps: Any) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if step % EVERY == 0:
            steps.begin(f"step {step}, loss {loss:.2f}")

    return report
