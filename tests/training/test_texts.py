"""Texts of every kind become windows of tokens, and what is no text is one paragraph."""

import json

import numpy as np
import pandas as pd
import pytest
from tiny_models import save_tiny

from saebench.errors import OptionError
from saebench.models.loading import load_model
from saebench.training.texts import HELD_OUT_EVERY, cut_windows, find_files, read_documents

TEXTS = ["w1 w2 w3 w4 w5", "w6 w7", "w8 w9 w10 w11 w12 w13"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(save_tiny(tmp_path_factory.mktemp("tiny"), "llama")))


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_documents(suffix, tmp_path):
    if suffix == ".txt":
        for i, text in enumerate(TEXTS):
            (tmp_path / f"{i}.txt").write_text(text)
    elif suffix == ".jsonl":
        lines = (json.dumps({"text": text, "source": "here"}) for text in TEXTS)
        (tmp_path / "all.jsonl").write_text("\n".join(lines) + "\n\n")
    else:
        pd.DataFrame({"source": "here", "text": TEXTS}).to_parquet(tmp_path / "all.parquet")
    assert list(read_documents(find_files([tmp_path]))) == TEXTS


def test_windows_join_documents_and_begin_with_bos(model):
    windows = cut_windows(TEXTS * 40, model, length=6)
    table = np.concatenate([windows.train, windows.held_out])
    assert table.shape[1] == 6 and (table[:, 0] == model.tokenizer.bos_token_id).all()
    end = model.tokenizer.eos_token_id
    joined = [t for text in TEXTS for t in [*model.tokenizer(text)["input_ids"], end]]
    assert windows.train[0, 1:].tolist() == joined[:5]
    assert len(windows.held_out) == -(-(len(table) - 1) // HELD_OUT_EVERY)


def test_no_more_is_read_than_is_wanted(model):
    def endless():
        while True:
            yield "w1 w2 w3"

    windows = cut_windows(endless(), model, length=5, wanted=400)
    assert 400 <= 4 * len(windows.train) < 440


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.bin", b"", "is of another kind"),
        ("a.jsonl", b'{"body": "x"}\n', "column 'text'"),
        ("a.jsonl", b"not json\n", "cannot be read"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.txt", b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_what_is_no_text_is_one_paragraph(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OptionError, match=said) as caught:
        list(read_documents(find_files([tmp_path / name])))
    assert "\n" not in str(caught.value)


def test_nothing_there_and_too_little(model, tmp_path):
    with pytest.raises(OptionError, match="does not exist"):
        find_files([tmp_path / "absent.txt"])
    with pytest.raises(OptionError, match="No texts"):
        find_files([tmp_path])
    with pytest.raises(OptionError, match="fewer than two windows"):
        cut_windows(["w1 w2"], model, length=64)
