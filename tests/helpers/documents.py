"""What the documents say."""

import re

from paths import ROOT


def headings() -> set[str]:
    """Scores that `docs/methods.md` has a heading for."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    return set(re.findall(r"^### (\S+)$", text, flags=re.M))


def chapters(file: str) -> set[int]:
    """Numbers of the chapters of a file in `docs/`."""
    text = (ROOT / "docs" / file).read_text(encoding="utf-8")
    return {int(number) for number in re.findall(r"^## (\d+)\. ", text, flags=re.M)}
