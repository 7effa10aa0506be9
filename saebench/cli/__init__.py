"""The command line: one library call per verb. Nothing here imports torch before it is needed."""

import os
import sys
import traceback
from io import TextIOWrapper

import typer

from saebench.cli import audit, cache, discovery, models, paper, planting, results, scoring, sweep, training
from saebench.cli.shared import complain
from saebench.cli.threads import let_threads_sleep
from saebench.errors import SaebenchError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Score sparse autoencoders against ground truth, beside supervised dictionaries and controls.",
    epilog="Example: saebench evaluate demo:topk control:identity --task ioi",
)
app.add_typer(scoring.app)
app.add_typer(discovery.app)
app.add_typer(sweep.app)
app.add_typer(cache.app)
app.add_typer(results.app)
app.add_typer(paper.app)
app.add_typer(planting.app)
app.add_typer(models.app)
app.add_typer(training.app)
app.add_typer(audit.app)


def at_home(word: str) -> str:
    """The word with a leading `~` as the home folder, which shells leave alone in quotes and behind `=`."""
    option, equals, path = word.partition("=")
    if equals and option.startswith("--") and path.startswith("~"):
        return f"{option}={os.path.expanduser(path)}"
    return os.path.expanduser(word) if word.startswith("~") else word


@app.callback()
def _main() -> None:
    """Keeps `saebench VERB` the form even while there is one verb."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a verb. Exit codes: 0 fine, 1 the check it exists for failed, 2 wrong input or environment."""
    let_threads_sleep(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a terminal of latin-1 or cp1252 lacks some of the characters that tables have
            stream.reconfigure(errors="replace")
    words = [at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    try:
        app(args=words, prog_name="saebench")
    except SaebenchError as error:
        complain(error, "--debug" in words)
        sys.exit(2)
    except BrokenPipeError:
        # the reader of a pipe went away (`| head`); nothing is wrong here
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        print("saebench: interrupted; finished results are kept", file=sys.stderr)
        sys.exit(130)
    except Exception:
        # Python would exit with 1, which says that a check failed: here nothing was checked
        traceback.print_exc()
        print("saebench: this is a bug, please report it with the lines above", file=sys.stderr)
        sys.exit(2)
