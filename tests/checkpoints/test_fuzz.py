"""Mutated configs, headers and bytes: only our own error class leaves the loader, after little work."""

import json
import resource
import struct
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
import sae_files as f
import sae_lens  # noqa: F401 its import is not the loader's work
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saebench.checkpoints import load
from saebench.errors import CheckpointError

CALLS, BYTES = 100_000, 2**30
"""Calls of functions, Python's and C's, and memory that reading one SAE and encoding with it may take."""

WRITERS = {
    "standard": lambda p: f.sae_lens(p, "standard", f.weights()),
    "topk": lambda p: f.sae_lens(p, "topk", f.weights(), k=4, normalize_activations="layer_norm"),
    "matching_pursuit": lambda p: f.sae_lens(p, "matching_pursuit", f.weights(), max_iterations=5),
    "sae_lens 4": lambda p: f.sae_lens_4(p, f.weights()),
    "sparsify": lambda p: f.sparsify(p, f.weights(), 4),
    "batchtopk": lambda p: f.dictionary_learning(p, "BatchTopKSAE", f.weights()),
    "gated": lambda p: f.dictionary_learning(p, "GatedAutoEncoder", f.weights()),
    "gemma_scope": lambda p: f.gemma_scope(p, f.weights()),
    "compressed": lambda p: f.gemma_scope(p, f.weights(), compressed=True),
    "openai": lambda p: f.openai(p, f.weights(), k=4).parent,
    "goodfire": lambda p: f.goodfire(p, f.weights()).parent,
    "llama_scope": lambda p: f.llama_scope(p, f.weights()),
    "llama_scope_r1": lambda p: f.llama_scope_r1(p, f.weights()),
    "qwen_scope": lambda p: f.qwen_scope(p, f.weights(), 4),
    "batch_topk": lambda p: f.batch_topk(p, f.weights()),
    "e2e_sae": lambda p: f.e2e_sae(p, f.weights(), "blocks.1.hook_resid_pre"),
    "circuit_tracer": lambda p: f.circuit_tracer(p, f.weights(), "threshold", "W_skip"),
    "gemma_scope_2": lambda p: f.gemma_scope_2_transcoder(p, f.weights(), affine=True),
}


def originals() -> dict[str, dict[str, bytes]]:
    files = {}
    for name, write in WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            found = (p for p in Path(folder).rglob("*") if p.is_file())
            files[name] = {str(p.relative_to(folder)): p.read_bytes() for p in found}
    return files


ORIGINALS = originals()
CONFIGS = [(n, k) for n, files in ORIGINALS.items() for k in files if k.endswith(".json")]
BINARIES = [(n, k) for n, files in ORIGINALS.items() for k in files if not k.endswith(".json")]
ARCHIVES = [(n, k) for n, k in BINARIES if ORIGINALS[n][k][:2] == b"PK"]
SAFETENSORS = [(n, k) for n, k in BINARIES if k.endswith(".safetensors")]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            2**31,
            2**63,
            10**12,
            10**400,
            1e308,
            "topk",
            "jumprelu",
            "temporal",
            "gated",
            "matching_pursuit",
            "abstopk",
            "layer_norm",
            "expected_average_only_in",
            "covariance_whitening",
            "hook_z",
            "transcoder",
            "../../x",
            "\x00",
            "float16",
        ]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(["d_in", "k"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@contextmanager
def bounded():
    """Fails over calls or memory: a call too many, or an allocation of more than a GB, raises in here."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    calls, before = 0, sys.getprofile()

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls > CALLS:
            sys.setprofile(before)
            raise AssertionError(f"more than {CALLS} calls")

    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, hard))
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def attempt(files: dict[str, bytes]) -> str:
    """Loads what the files hold, and encodes with it if it loads."""
    with tempfile.TemporaryDirectory(prefix="fuzzed") as folder:
        for name, data in files.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(data)
        with bounded():
            try:
                loaded = load(folder)
            except CheckpointError as error:
                message = str(error)
                assert Path(folder).name in message and "\n" not in message
                assert "ran out of memory" not in message
                return "refused"
            if loaded.needs_factor:
                loaded = loaded.fitted(f.acts(3))
            d_in = loaded.info.d_in
            x = torch.ones(3, getattr(loaded.dictionary, "d_read", d_in))
            encoding = loaded.dictionary.encode(x)
            assert loaded.dictionary.decode(encoding).shape == (3, d_in)
            assert encoding.codes.shape == (3, loaded.info.d_sae)
    return "loaded"


def walk(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, (*path, key))


def put(value, path, new):
    for key in path[:-1]:
        value = value[key]
    if new is DELETE:
        del value[path[-1]]
    else:
        value[path[-1]] = new


DELETE = object()


@st.composite
def mutated_config(draw):
    name, file = draw(st.sampled_from(CONFIGS))
    config = json.loads(ORIGINALS[name][file])
    for _ in range(draw(st.integers(1, 3))):
        places = [p for p in walk(config) if p]
        if not places:
            break
        put(config, draw(st.sampled_from(places)), draw(st.just(DELETE) | values))
    if draw(st.booleans()):
        config[draw(st.text(max_size=6) | st.sampled_from(["d_out", "k", "n_heads"]))] = draw(values)
    return {**ORIGINALS[name], file: json.dumps(config).encode()}


@st.composite
def mutated_bytes(draw):
    name, file = draw(st.sampled_from(BINARIES + CONFIGS))
    return {**ORIGINALS[name], file: _scramble(draw, ORIGINALS[name][file])}


def _scramble(draw, data: bytes) -> bytes:
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        # headers and directories stand at the two ends
        low, high = draw(st.sampled_from([(0, 200), (max(0, len(data) - 400), len(data)), (0, len(data))]))
        at = draw(st.integers(low, max(low, min(high, len(data)) - 1)))
        kind = draw(st.sampled_from(["set", "cut", "insert", "repeat", "truncate"]))
        if kind == "set":
            new = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(new)] = new
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 100))]
        else:
            del data[at:]
    return bytes(data)


@st.composite
def mutated_header(draw):
    """A safetensors header that is JSON still, with other claims."""
    name, file = draw(st.sampled_from(SAFETENSORS))
    data = ORIGINALS[name][file]
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    for _ in range(draw(st.integers(1, 3))):
        places = [p for p in walk(header) if p]
        if not places:
            break
        put(header, draw(st.sampled_from(places)), draw(st.just(DELETE) | values))
    text = json.dumps(header).encode()
    changed = struct.pack("<Q", len(text)) + text + data[8 + length :]
    return {**ORIGINALS[name], file: changed}


@st.composite
def mutated_member(draw):
    """An archive with right checksums around a scrambled pickle or array header."""
    name, file = draw(st.sampled_from(ARCHIVES))
    with zipfile.ZipFile(BytesIO(ORIGINALS[name][file])) as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    names = [n for n in entries if n.endswith((".pkl", ".npy"))]
    chosen = draw(st.sampled_from(names))
    entries[chosen] = _scramble(draw, entries[chosen])
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for n, data in entries.items():
            archive.writestr(n, data)
    return {**ORIGINALS[name], file: buffer.getvalue()}


ALL = st.one_of(mutated_config(), mutated_bytes(), mutated_header(), mutated_member())
COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


def test_the_originals_load():
    assert {attempt(files) for files in ORIGINALS.values()} == {"loaded"}


def test_the_bound_on_memory_holds():
    """The twin: what the fuzz would catch."""
    with pytest.raises(RuntimeError, match="allocate memory"), bounded():
        torch.empty(2 * BYTES, dtype=torch.uint8)


def test_the_bound_on_work_holds():
    with pytest.raises(AssertionError, match="calls"), bounded():
        for _ in range(CALLS + 1):
            len("")


@settings(max_examples=300, derandomize=True, **COMMON)
@given(files=ALL)
def test_fuzz(files):
    attempt(files)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=5200, **COMMON)
@given(files=ALL)
def test_fuzz_long(files):
    attempt(files)
