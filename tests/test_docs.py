"""The documents say what the code does, and what points at them resolves."""

import ast
import re

import pytest
from documents import chapters, headings
from paths import ROOT
from worlds import Planted, bench_of, scores, two_groups

POINTER = re.compile(r"docs/([\w-]+\.md)(?: §(\d+)(?:–(\d+))?(?: and §(\d+))?)?")
TEXTS = [
    path
    for folder in ("saebench", "benchmarks", "tests", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".md", ".toml")
]


def test_every_score_that_the_axes_emit_has_a_section():
    section, rows, bias = two_groups(noise=0.4)
    found = {entry.name for entry in scores(Planted(rows, bias), bench_of(section)).entries}
    # fragments of a value are rare: an SAE without any leaves these two out
    found |= {"fragments", "fragment_overlap"}
    assert found - headings() == set()


def test_every_pointer_into_the_documents_resolves():
    pointers = {match.groups() for path in TEXTS for match in POINTER.finditer(path.read_text("utf-8"))}
    assert len(pointers) >= 8
    for file, *sections in pointers:
        assert (ROOT / "docs" / file).is_file(), file
        assert {int(number) for number in sections if number} <= chapters(file), (file, sections)


@pytest.mark.parametrize("name", ["METHODS", "INTERFACE", "ARCHITECTURE"])
def test_nothing_points_at_a_document_that_is_not_here(name: str):
    dead = re.compile(rf"\b{name}(\.md| §|\))")
    assert [
        path for path in TEXTS if path.name != "test_docs.py" and dead.search(path.read_text("utf-8"))
    ] == []


def test_packages_that_hold_names_say_which_are_public():
    for path in (ROOT / "saebench").rglob("__init__.py"):
        body = ast.parse(path.read_text("utf-8")).body[1:]
        targets = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}
        assert not body or "__all__" in targets, path
