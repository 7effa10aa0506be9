"""What is remembered of a checkpoint that was read once."""

import subprocess
import sys

import pytest
import sae_files as f

from saebench.checkpoints import known_of, load
from saebench.records import memo
from saebench.records.memo import recall, remember


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SAEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(memo, "_SETTLED_SECONDS", -1.0)


def test_what_was_read_is_remembered_until_something_changes(tmp_path, cache):
    folder = f.sae_lens(tmp_path / "mine", "standard", f.weights())
    assert recall(str(folder)) is None
    known = known_of(load(folder))
    remember(str(folder), None, known)
    assert recall(str(folder)) == known and known.info.sha256
    assert recall(str(folder), "topk:4") is None
    f.sae_lens(folder, "standard", f.weights(1))
    assert recall(str(folder)) is None


def test_files_that_were_only_just_written_are_read_again(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(memo, "_SETTLED_SECONDS", 60.0)
    folder = f.sae_lens(tmp_path / "mine", "standard", f.weights())
    remember(str(folder), None, known_of(load(folder)))
    assert recall(str(folder)) is None


def test_a_config_above_is_part_of_what_was_read(tmp_path, cache):
    folder = f.dictionary_learning(tmp_path / "run", "AutoEncoderTopK", f.weights())
    (folder / "checkpoints").mkdir()
    (folder / "ae.pt").rename(folder / "checkpoints" / "ae_1.pt")
    path = str(folder / "checkpoints" / "ae_1.pt")
    remember(path, None, known_of(load(path)))
    assert recall(path) is not None
    (folder / "config.json").write_text("{}")
    assert recall(path) is None


def test_a_digest_that_depends_on_activations_is_not_remembered(tmp_path):
    folder = f.sae_lens(tmp_path, "standard", f.weights(), normalize_activations="expected_average_only_in")
    assert known_of(load(folder)).info.sha256 == ""


def test_a_cache_that_is_damaged_or_cannot_be_written_is_no_error(tmp_path, cache, monkeypatch):
    folder = f.sae_lens(tmp_path / "mine", "standard", f.weights())
    known = known_of(load(folder))
    remember(str(folder), None, known)
    (file,) = (tmp_path / "cache" / "facts" / "checkpoints").iterdir()
    for text in ("", "[]", "{}", '{"info": 3}', "\x00"):
        file.write_text(text)
        assert recall(str(folder)) is None
    monkeypatch.setenv("SAEBENCH_CACHE", str(folder / "cfg.json"))
    remember(str(folder), None, known)
    assert recall(str(folder)) is None


def test_recalling_needs_no_torch():
    code = "import sys; from saebench.records.memo import recall; recall('demo:topk')"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
