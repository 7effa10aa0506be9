"""The mutations of `python tests/mutations.py` still find the line that they break."""

import pytest
from mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_line_and_the_tests_are_there(mutation: Mutation):
    text = (ROOT / "saebench" / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1
    assert mutation.new != mutation.old
    for named in mutation.tests.split():
        file, *test = named.split("::")
        held = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert all(f"def {name}(" in held for name in test)
