"""Reading option values that the command line hands over as text."""

import re
from collections.abc import Sequence

from saebench.errors import OptionError, unknown

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def parse_bytes(text: str | None) -> int | None:
    """Bytes of `2GB`, `500M` or `1000000`; None stays None.

    Raises:
        OptionError: if it is not a size, or not above zero.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size <= 0:
        raise OptionError(
            f"Cannot read {text!r} as an amount of memory. Expected e.g. 2GB or 500MB."
        )
    return size


def choice(name: str, seen: str, known: Sequence[str]) -> str:
    """The value if it is one of those known.

    Raises:
        OptionError: with near matches and the full choice.
    """
    if seen not in known:
        raise OptionError(unknown(name, seen, known))
    return seen
