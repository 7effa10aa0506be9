"""What the documents say."""

import re

from paths import ROOT


def headings() -> set[str]:
    """Scores that `docs/methods.md` has a heading for."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    return set(re.findall(r"^### (\S+)$", text, flags=re.M))
