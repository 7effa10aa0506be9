"""What verbs share."""

import sys
from pathlib import Path

from saebench.errors import SaebenchError

DEFAULT_OUT = Path("saebench-results")


def complain(error: SaebenchError, debug: bool = False) -> None:
    """One paragraph on stderr; with --debug the traceback before it."""
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"saebench: {error}", file=sys.stderr)
