"""Which scores may fail the regression gate, and how much worse each may become.

Written as TOML, each with its reason:

    [headline.control]
    tolerance = 0.02
    reason = "…"

    [score."approximation/kl"]
    tolerance = 0.01
    reason = "…"

The five headlines always take part. Every further score costs power, since Holm's correction pays
for each: the list is short on purpose, everything else is shown without a verdict.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from saebench.errors import OptionError, unknown
from saebench.scoring.axes import AXES

_DEFAULT_REASON = "default: smaller changes are not worth a failed build"


@dataclass(frozen=True)
class Tolerance:
    """How much worse a score may become, in the units of the number compared."""

    size: float
    reason: str


@dataclass(frozen=True)
class Tolerances:
    """Tolerances of the headlines by axis, and of single scores by label or pattern.

    A label is `axis/name[/attribute][/edit][/k]`, for example `control/edit_success/io/agnostic/4`.
    `*` stands for any text.
    """

    headlines: Mapping[str, Tolerance] = field(
        default_factory=lambda: {axis: Tolerance(0.02, _DEFAULT_REASON) for axis in AXES}
    )
    scores: Mapping[str, Tolerance] = field(
        default_factory=lambda: {
            f"approximation/{name}": Tolerance(0.02, _DEFAULT_REASON) for name in ("necessity", "agreement")
        }
    )

    def of_score(self, label: str) -> Tolerance | None:
        """The tolerance of a score, or None if it has no say."""
        matching = (t for pattern, t in self.scores.items() if fnmatchcase(label, pattern))
        return next(matching, None)

    @classmethod
    def load(cls, path: Path) -> "Tolerances":
        """Reads a tolerances file; an axis it leaves out keeps the default.

        Raises:
            OptionError: if the file is missing, is not such TOML, or a tolerance is negative.
        """
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError(
                f"Cannot read the tolerances in {str(path)!r}: {error}. Expected a TOML file like"
                " results/tolerances.toml."
            ) from error
        for section in data:
            if section not in ("headline", "score"):
                raise OptionError(unknown("section", section, ("headline", "score"), f"In {path}."))
        for axis in data.get("headline", {}):
            if axis not in AXES:
                raise OptionError(unknown("axis", axis, AXES, f"In {path}."))
        headlines = {name: _read(v, name, path) for name, v in data.get("headline", {}).items()}
        scores = {name: _read(v, name, path) for name, v in data.get("score", {}).items()}
        return cls({**cls().headlines, **headlines}, scores)


def _read(entry: object, name: str, path: Path) -> Tolerance:
    match entry:
        case {"tolerance": int() | float() as size, "reason": str() as reason} if size >= 0:
            return Tolerance(float(size), reason)
    raise OptionError(
        f"The entry {name!r} of {path} is {entry!r}. Expected `tolerance` (a number ≥ 0) and"
        " `reason` (a text that says why a change of that size does not matter)."
    )
