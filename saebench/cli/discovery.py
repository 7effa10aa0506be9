"""The verb that finds sites. Nothing here imports torch before it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from saebench.errors import choice

app = typer.Typer()


@app.command(epilog="Example: saebench discover --task ioi --model demo")
def discover(
    task: Annotated[str, typer.Option(help="A task on language models (`saebench tasks`).")] = "ioi",
    model: Annotated[
        str, typer.Option(help="A name (`saebench models`), a GGUF file, a directory.")
    ] = "demo",
    hook: Annotated[
        str | None, typer.Option(help="Only positions of this hook point, where an SAE was trained.")
    ] = None,
    hooks: Annotated[
        str | None,
        typer.Option(help="Hook points of every block to map, by commas, e.g. attn.hook_q,attn.hook_v."),
    ] = None,
    first_pass: Annotated[
        str, typer.Option(help="exact, or attribution: gradients choose which heads are run exactly.")
    ] = "exact",
    share: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="Of the whole effect, what the set reaches.")
    ] = 0.8,
    budget: Annotated[str, typer.Option(help="tiny, quick, standard or full: how many prompts.")] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of prompts.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")] = "auto",
    tasks: Annotated[list[Path] | None, typer.Option(help="Further directories of task folders.")] = None,
    out: Annotated[Path, typer.Option(help="Directory for what is found.")] = Path("saebench-results"),
    allow_incompetent: Annotated[
        bool, typer.Option("--allow-incompetent", help="Look although the model prefers no right answer.")
    ] = False,
    format: Annotated[str, typer.Option(help="table, or json.")] = "table",
) -> None:
    """Find the sites at which a task's attributes act: effects with intervals, a picture, a site list."""
    choice("format", format, ("table", "json"))
    from saebench.evaluation.discovering import discover as look
    from saebench.records.discovery import save
    from saebench.records.files import ensure_writable
    from saebench.reporting import sites

    folder = sites.folder(out.expanduser(), model, task)
    ensure_writable(folder)
    found = look(
        task,
        model,
        device=device,
        tasks=tuple(tasks or ()),
        budget=budget,
        seed=seed,
        first_pass=first_pass,
        share=share,
        hook=hook,
        **({"hooks": tuple(hooks.split(","))} if hooks else {}),
        allow_incompetent=allow_incompetent,
    )
    save(found, folder)
    sites.write_figures(found, folder)
    if format == "json":
        print(found.model_dump_json(by_alias=True))
        return
    from saebench.reporting.text import console

    shown = console()
    for table in sites.tables(found):
        shown.print(table)
    for line in sites.lines(found):
        shown.print(line, markup=False)
    print(f"Sites, effects and pictures: {folder}")
