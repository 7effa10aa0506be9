"""The command line as a user meets it."""

from saebench.cli import main


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    try:
        main(list(arguments))
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    out, err = capsys.readouterr()
    return code, out, err
