"""Broken and hostile files: refused in one paragraph that names the file, nothing executed."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import sae_files as f
import torch
from loading import refused

from saebench.checkpoints import load
from saebench.errors import CheckpointError

ARCHITECTURE = "standard"


FILES = {
    "safetensors": lambda p: f.sae_lens(p, "standard", f.weights()) / "sae_weights.safetensors",
    "npz": lambda p: f.gemma_scope(p, f.weights()) / "params.npz",
    "compressed npz": lambda p: f.gemma_scope(p, f.weights(), compressed=True) / "params.npz",
    "torch": lambda p: f.dictionary_learning(p, "BatchTopKSAE", f.weights()) / "ae.pt",
    "config": lambda p: f.sparsify(p, f.weights(), 4) / "cfg.json",
}


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("how", ["zip", "legacy", "bare"])
def test_code_in_a_pickle_is_never_run(how, tmp_path):
    proof, path = tmp_path / "ran", tmp_path / "ae.pt"
    state = {"pre_bias": torch.zeros(3), "extra": Payload(proof)}
    if how == "bare":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "zip")
    # the payload is live: unpickling does run it
    torch.load(path, weights_only=False) if how != "bare" else pickle.loads(path.read_bytes())
    assert proof.exists()
    proof.unlink()
    message = refused(path)
    assert not proof.exists()
    assert "code" in message
    assert how != "zip" or "posix.system" in message


def test_object_arrays_in_npz_are_not_opened(tmp_path):
    proof = tmp_path / "ran"
    np.savez(tmp_path / "params.npz", W_enc=np.array([Payload(proof)], dtype=object))
    refused(tmp_path / "params.npz", "never opened")
    assert not proof.exists()


def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "sae.pt")
    refused(tmp_path / "sae.pt", "TorchScript")


def test_zip_bomb(tmp_path):
    np.savez_compressed(tmp_path / "params.npz", W_enc=np.zeros((20_000, 1_000), np.float32))
    assert (tmp_path / "params.npz").stat().st_size < 200_000
    refused(tmp_path / "params.npz", "as zip bombs do")


def rewrite(path, name, change):
    """The archive with one entry changed, checksums made right again."""
    with zipfile.ZipFile(path) as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    key = next(n for n in entries if n.endswith(name))
    entries[key] = change(entries[key])
    with zipfile.ZipFile(path, "w") as archive:
        for n, data in entries.items():
            archive.writestr(n, data)


@pytest.mark.parametrize("shape", ["(1000000000000, 20)", "(12, 21)", "(-12, -20)", "(12,)"])
def test_npy_header_that_claims_another_size(shape, tmp_path):
    path = FILES["npz"](tmp_path)

    def claim(data):
        return data.replace(b"(12, 20)", shape.encode())[: len(data)] if len(shape) == 8 else grow(data)

    def grow(data):
        length = struct.unpack("<H", data[8:10])[0]
        header = data[10 : 10 + length].replace(b"(12, 20)", shape.encode()).rstrip() + b"\n"
        return data[:8] + struct.pack("<H", len(header)) + header + data[10 + length :]

    rewrite(path, "W_enc.npy", claim)
    refused(path)


@pytest.mark.parametrize("size", [2**62, 2**31, 10**6, 0, 1])
def test_safetensors_header_of_another_length(size, tmp_path):
    path = FILES["safetensors"](tmp_path)
    data = path.read_bytes()
    path.write_bytes(struct.pack("<Q", size) + data[8:])
    refused(path.parent, "sae_weights.safetensors")


def with_header(path, change):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [10**12, 10**3]},
        {"shape": [10**12, 10**3], "data_offsets": [0, 4 * 10**15]},
        {"data_offsets": [-4, 236]},
        {"dtype": "F128"},
        {"shape": [2.0, 120]},
        {"shape": "12"},
        {"data_offsets": [0]},
    ],
)
def test_safetensors_header_that_claims_too_much(entry, tmp_path):
    path = FILES["safetensors"](tmp_path)
    with_header(path, lambda header: header["W_dec"].update(entry))
    refused(path.parent, "sae_weights.safetensors")


class Claims:
    """A torch file whose pickle claims a tensor of another size than its bytes."""

    @staticmethod
    def write(path, numel=12, size=(12,), stride=(1,), offset=0, entry="0"):
        torch.save({"pre_bias": torch.zeros(12)}, path)
        stream = io.BytesIO()

        class Pickler(pickle._Pickler):
            def persistent_id(self, obj):
                return obj.value if isinstance(obj, Mark) else None

        class Mark:
            value = ("storage", torch.FloatStorage, entry, "cpu", numel)

        class Rebuilt:
            def __reduce__(self):
                args = (Mark(), offset, size, stride, False, {})
                return torch._utils._rebuild_tensor_v2, args

        Pickler(stream, 2).dump({"pre_bias": Rebuilt()})
        rewrite(path, "data.pkl", lambda _: stream.getvalue())


@pytest.mark.parametrize(
    "claim",
    [
        {"numel": 10**12, "size": (10**12,)},
        {"size": (10**12,)},
        {"stride": (10**9,)},
        {"offset": 5},
        {"offset": -1},
        {"stride": (0,), "size": (10**12,)},
        {"entry": "../../0"},
        {"entry": "7"},
        {"size": (3, 4)},
        {"size": (-3,)},
        {"size": ("a",)},
    ],
)
def test_torch_tensors_that_claim_too_much(claim, tmp_path):
    path = tmp_path / "sae.pt"
    Claims.write(path)
    message = refused(path, "not an SAE that can be read")
    assert "pre_bias" in message
    Claims.write(path, **claim)
    assert "not an SAE" not in refused(path)


@pytest.mark.parametrize("name", ["../../evil.npy", "/etc/evil.npy", "a\\..\\b.npy"])
def test_names_that_leave_the_archive(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "params.npz", "w") as archive:
        archive.writestr(name, b"x")
    refused(tmp_path / "params.npz", "leaves the archive")


def test_links(tmp_path):
    folder = f.sae_lens(tmp_path / "real", "standard", f.weights())
    (tmp_path / "link").symlink_to(folder)
    assert load(tmp_path / "link").info.sha256 == load(folder).info.sha256
    # the hub's cache is made of such links
    (tmp_path / "linked").mkdir()
    for file in folder.iterdir():
        (tmp_path / "linked" / file.name).symlink_to(file)
    assert load(tmp_path / "linked").info.sha256 == load(folder).info.sha256
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CheckpointError, match="loop"):
        load(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe.safetensors").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "to_pipe.safetensors"):
        refused(tmp_path / name, "not a regular file")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load("/dev/zero")


@pytest.mark.parametrize("kind", FILES)
def test_truncated_at_every_sixteenth(kind, tmp_path):
    path = FILES[kind](tmp_path / "sae")
    data = path.read_bytes()
    for part in range(16):
        path.write_bytes(data[: len(data) * part // 16])
        for target in (path, path.parent):
            refused(target, architecture=None)
    path.write_bytes(data)
    assert load(path.parent).info.d_sae == f.D_SAE


@pytest.mark.parametrize("kind", FILES)
def test_one_bit_flipped(kind, tmp_path):
    path = FILES[kind](tmp_path / "sae")
    data = path.read_bytes()
    outcomes = {"loaded": 0, "refused": 0}
    for at in range(0, 8 * len(data), max(1, 8 * len(data) // 150)):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(bytes(flipped))
        try:
            load(path.parent)
            outcomes["loaded"] += 1
        except CheckpointError as error:
            assert path.parent.name in str(error)
            outcomes["refused"] += 1
    # archives have checksums, so hardly a flip goes unseen; safetensors has none for its numbers
    assert outcomes["refused"] > (100 if "npz" in kind or kind == "torch" else 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec"])
def test_weights_that_are_not_finite(name, value, tmp_path):
    w = f.weights()
    w[name].view(-1)[3] = value
    message = refused(f.sae_lens(tmp_path, "standard", w), name)
    assert "1 NaN" in message or "1 infinite" in message


def test_a_config_that_is_far_too_large(tmp_path):
    folder = f.sae_lens(tmp_path, "standard", f.weights())
    f.dump(folder / "cfg.json", {"d_in": 12, "x": "a" * 2**21})
    refused(folder, "expected at most")


def test_a_folder_of_very_many_configs(tmp_path):
    folder = f.sae_lens(tmp_path, "standard", f.weights())
    for i in range(500):
        f.dump(folder / f"z{i}.json", {"d_in": i})
    assert load(folder).info.d_in == f.D_IN
