"""A dictionary of another model is told by what it says of itself."""

import pytest

from saebench.models.loading import load_model
from saebench.models.provenance import official, strangeness


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpt2-small", "gpt2"),
        ("gemma-2-2b", "google/gemma-2-2b"),
        ("pythia-160m-deduped", "EleutherAI/pythia-160m-deduped"),
        ("Qwen3-1.7B-Base", "Qwen/Qwen3-1.7B-Base"),
        ("demo", "demo"),
        ("/home/me/models/gpt2", "gpt2"),
    ],
)
def test_names_of_one_model(one, other):
    assert official(one) == official(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpt2", "gpt2-medium"),
        ("pythia-160m", "pythia-160m-deduped"),
        ("gemma-2-2b", "gemma-2-2b-it"),
        ("a", "b"),
    ],
)
def test_names_of_two_models(one, other):
    assert official(one) != official(other)


@pytest.mark.parametrize(
    ("trained", "bos", "said"),
    [
        ("demo", True, []),
        (None, None, []),
        ("pythia-160m-deduped", None, ["pythia-160m-deduped", "demo"]),
        ("demo", False, ["without", "with"]),
    ],
)
def test_what_differs_is_named_on_both_sides(trained, bos, said):
    model = load_model("demo")
    assert model.prepends_bos
    found = strangeness(trained, bos, model)
    assert len(found) == bool(said)
    assert all(word in found[0] for word in said)
