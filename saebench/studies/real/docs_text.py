"""General English without a download: the documentation in the docstrings of pinned Python packages.

`python -m saebench.studies.real.docs_text docs.parquet` writes one row a module: `text`, `package`,
`license`. The packages are those of `constraints.txt`, so the text is the same on every machine.
"""

import ast
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pandas as pd

# Scientific packages with long docstrings in whole sentences, and their licences.
PACKAGES = {
    "matplotlib": "PSF-based",
    "networkx": "BSD-3-Clause",
    "nltk": "Apache-2.0",
    "numpy": "BSD-3-Clause",
    "pandas": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "statsmodels": "BSD-3-Clause",
}
SHORTEST = 200


def docstrings(file: Path) -> Iterator[str]:
    """Docstrings of a module and of what is in it, without doctests and tables."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = prose(ast.get_docstring(node) or "")
            if len(text) >= SHORTEST:
                yield text


def prose(text: str) -> str:
    """A docstring's lines that are sentences: no doctests, rulers or output."""
    kept, quiet = [], False
    for line in text.splitlines():
        stripped = line.strip()
        # what follows a prompt up to the next blank line is its output
        quiet = stripped.startswith(">>>") or (quiet and bool(stripped))
        if not quiet and not (stripped and set(stripped) <= set("-=~^_+| ")):
            kept.append(line)
    return "\n".join(kept).strip()


def collect() -> pd.DataFrame:
    """One row a module, tests left out, in an order that mixes the packages and is always the same."""
    rows = []
    for package, license in PACKAGES.items():
        listed = metadata.files(package) or []
        version = metadata.version(package)
        for file in sorted(listed, key=str):
            if file.suffix == ".py" and "tests" not in file.parts:
                text = "\n\n".join(docstrings(Path(str(file.locate()))))
                if text:
                    rows.append({"text": text, "package": f"{package} {version}", "license": license})
    return pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)


def main() -> None:
    table = collect()
    table.to_parquet(sys.argv[1], index=False, compression="zstd")
    sizes = table.groupby("package").text.apply(lambda texts: int(texts.str.len().sum()))
    print(
        f"{len(table)} modules, {int(table.text.str.len().sum()):,} characters", sizes.to_string(), sep="\n"
    )


if __name__ == "__main__":
    main()
