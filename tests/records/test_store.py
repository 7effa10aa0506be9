"""The store keeps what was finished, refuses what is damaged, and survives its writers."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
import simulated
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from saebench.errors import ResultError, StoreError
from saebench.records import store
from saebench.records.outcomes import Key, Outcomes
from saebench.records.result import Result
from saebench.records.table import read_table, table_bytes

HOSTILE = [
    "..",
    ".",
    "",
    "../../etc/passwd",
    "/etc/passwd",
    "<script>alert(1)</script>",
    "a\"b'c",
    "=cmd()",
    "\x00\x1b[31m\n",
    "🦄🦄",
    "a" * 300,
    "-rf",
    ".hidden",
    "a/../b",
    "a--b",
    "a-/b",
    "con:",
    "a\\b",
    "x~y",
    "\ud800",
    "%2e%2e",
    "sae\u202egnp",
    "+cmd",
    "@SUM(A1)",
    "a b",
    "..a",
    "a..",
    "*",
]


def same(a: Outcomes, b: Outcomes) -> bool:
    return (
        list(a.columns) == list(b.columns)
        and all(np.array_equal(a[key], b[key]) for key in a.columns)
        and a.facts == b.facts
        and a.attributes == b.attributes
        and all(np.array_equal(a.cluster[s], b.cluster[s]) for s in a.cluster)
    )


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    result, outcomes = simulated.result(), simulated.outcomes()
    path = store.save(result, outcomes, tmp_path)
    sha8, id8 = result.dictionary.sha256[:8], result.id[:8]
    assert path == tmp_path / "demo" / f"sae-0@{sha8}" / f"ioi--{id8}.json"
    stored = store.load(path)
    assert stored.result == result
    assert same(stored.outcomes, outcomes)
    assert store.find(tmp_path) == [path] and store.lookup(tmp_path, result.id) == path
    assert store.lookup(tmp_path, result.id[:8] + "0" * 56) is None
    assert store.verify(tmp_path, stale_after=0) == []
    assert [p for p in tmp_path.rglob("*") if p.suffix == ".tmp"] == []


def test_the_json_has_one_line_for_each_score_and_no_nan(tmp_path: Path) -> None:
    result = simulated.result()
    text = store.json_text(result)
    assert json.loads(text) == json.loads(result.model_dump_json(by_alias=True))
    assert sum(line.lstrip().startswith('{"axis"') for line in text.splitlines()) == len(result.scores)
    with pytest.raises(ResultError, match="NaN"):
        store.parse(text.replace('"seed": 0', '"seed": NaN', 1), "file")


def test_the_table_reads_as_long_format_and_keeps_empty_columns(tmp_path: Path) -> None:
    outcomes = simulated.outcomes()
    (tmp_path / "t.parquet").write_bytes(table_bytes(outcomes, "id"))
    frame = pq.read_table(tmp_path / "t.parquet").to_pandas()
    assert list(frame) == [
        "cluster",
        "prompt",
        "split",
        "axis",
        "score",
        "attribute",
        "edit",
        "k",
        "label",
        "value",
    ]
    listed = frame[frame.axis == ""]
    assert len(listed) == 120
    for key, values in outcomes.columns.items():
        rows = frame[(frame.axis == key.axis) & (frame.label == key.label)]
        dense = np.zeros(60, np.float32)
        dense[rows.prompt] = rows.value
        assert np.array_equal(dense, values)
        assert np.array_equal(rows.cluster, outcomes.cluster[key.split][rows.prompt])
        few = np.count_nonzero(values) < 0.3 * 60
        assert len(rows) == (max(1, np.count_nonzero(values)) if few else 60)


def test_the_same_outcomes_give_the_same_bytes() -> None:
    assert table_bytes(simulated.outcomes(), "a") == table_bytes(simulated.outcomes(), "a")
    assert table_bytes(simulated.outcomes(), "a") != table_bytes(simulated.outcomes(1), "a")


def test_a_table_of_committed_size_is_compact(tmp_path: Path) -> None:
    """2,500 prompts: 300 columns of 0/1, 60 of floats, 1,500 sparse ones (2 % non-zero)."""
    rng = np.random.default_rng(0)
    n = 2500
    outcomes = Outcomes({"test": np.sort(rng.integers(0, 600, n))})
    for i in range(300):
        outcomes.add(Key("control", "success", f"a{i}"), rng.random(n) < 0.8)
    for i in range(60):
        outcomes.add(Key("control", "ld", f"a{i}"), rng.normal(size=n))
    for i in range(1500):
        outcomes.add(Key("interpretability", "code", label=str(i)), (rng.random(n) < 0.02) * 1.0)
    data = table_bytes(outcomes, "id")
    (tmp_path / "t.parquet").write_bytes(data)
    back = read_table(tmp_path / "t.parquet")
    assert same(back, outcomes)
    # incompressible content: 60 float columns 600 kB, 0.72 bit for each of 750,000 flags 68 kB,
    # 75,000 positions of about 7 bits 65 kB
    assert len(data) < 1_100_000


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_become_inert_paths(name: str, tmp_path: Path) -> None:
    safe = store.safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+=~-]*", safe) and ".." not in safe and len(safe) <= 80
    if "\ud800" in name:
        return  # no JSON document can hold half a surrogate pair
    result = simulated.result(name=name, task=name)
    path = store.save(result, simulated.outcomes(), tmp_path)
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert len(path.relative_to(tmp_path).parts) == 3
    assert store.load(path).result.dictionary.name == name
    assert store.find(tmp_path) == [path] and store.verify(tmp_path) == []


def test_plain_names_stay_readable() -> None:
    assert store.safe_name("gpt2") == "gpt2"
    assert store.safe_name("synthetic/occlusion") == "synthetic--occlusion"
    assert store.safe_name("pca:8") == "pca=8"
    assert store.safe_name("random:7.5") == "random=7.5"


@given(st.text(max_size=100), st.text(max_size=100))
def test_different_names_have_different_paths(a: str, b: str) -> None:
    assert (store.safe_name(a) == store.safe_name(b)) == (a == b)


def test_names_that_differ_only_in_what_is_replaced_do_not_meet() -> None:
    names = [*HOSTILE, "a/b", "a//b", "a/-b", "a:b", "a=b", "a_b", "b" * 299, "a" * 299, "a\x00", "a\x01"]
    assert len({store.safe_name(name) for name in names}) == len(set(names))


def test_damage_is_found(tmp_path: Path) -> None:
    paths = [store.save(simulated.result(i), simulated.outcomes(i), tmp_path) for i in range(8)]
    paths[0].write_bytes(paths[0].read_bytes()[:500])
    paths[1].write_text(paths[1].read_text().replace('"n_layers": 3', '"n_layers": "three"'))
    paths[2].write_text(paths[2].read_text().replace("saebench.result/1", "saebench.result/99"))
    paths[3].with_suffix(".parquet").unlink()
    table = paths[4].with_suffix(".parquet")
    table.write_bytes(table.read_bytes()[:-100])
    paths[5].with_suffix(".parquet").write_bytes(paths[6].with_suffix(".parquet").read_bytes())
    found = {p.path.stem: p for p in store.verify(tmp_path)}
    assert set(found) == {p.stem for p in paths[:6]}
    assert all(p.kind == "damage" for p in found.values())
    expected = [
        "cut off",
        "n_layers",
        "schema 'saebench.result/99'",
        "missing",
        "Cannot read",
        "holds the outcomes",
    ]
    for path, words in zip(paths, expected, strict=False):
        assert words in found[path.stem].what
    assert store.lookup(tmp_path, simulated.result(0).id) is None
    assert store.lookup(tmp_path, simulated.result(6).id) == paths[6]


def test_a_flipped_byte_inside_a_table_is_found(tmp_path: Path) -> None:
    table = store.save(simulated.result(), simulated.outcomes(), tmp_path).with_suffix(".parquet")
    data = bytearray(table.read_bytes())
    data[100] ^= 0xFF
    table.write_bytes(bytes(data))
    assert [p.path for p in store.verify(tmp_path)] == [table]


def test_a_renamed_result_is_found(tmp_path: Path) -> None:
    path = store.save(simulated.result(), simulated.outcomes(), tmp_path)
    path.with_suffix(".parquet").rename(path.with_name("ioi--00000000.parquet"))
    path.rename(path.with_name("ioi--00000000.json"))
    (problem,) = store.verify(tmp_path)
    assert "does not fit its id" in problem.what


def test_leftovers_are_not_damage_and_can_be_cleaned(tmp_path: Path) -> None:
    path = store.save(simulated.result(), simulated.outcomes(), tmp_path)
    (path.parent / ".0123.tmp").write_text("half")
    orphan = path.with_name("ioi--11111111.parquet")
    orphan.write_bytes(path.with_suffix(".parquet").read_bytes())
    assert store.verify(tmp_path) == [], "files this young may belong to a writer at work"
    assert {p.kind for p in store.verify(tmp_path, clean=True, stale_after=0)} == {"leftover"}
    assert store.verify(tmp_path, stale_after=0) == [] and not orphan.exists()
    assert store.find(tmp_path) == [path]


def test_an_older_schema_still_loads(tmp_path: Path) -> None:
    """`saebench.result/0` is kept as a file written by hand, not made from today's classes."""
    old = (ROOT / "tests" / "data" / "result-0.json").read_text()
    assert json.loads(old)["schema"] == "saebench.result/0"
    result = store.parse(old, "old")
    assert result.schema_ == "saebench.result/1"
    assert result.axes["control"].normalized == 0.904 and result.axes["occlusion"].value is None
    assert result.axis_versions["control"] == 1
    broken = old.replace('"axes"', '"axles"')
    with pytest.raises(ResultError, match=r"saebench\.result/0"):
        store.parse(broken, "old")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "5", '{"schema": 1}', '{"schema": []}', "[" * 5000, "\xff"]
)
def test_what_is_not_a_result_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(text.encode("latin1"))
    with pytest.raises(ResultError, match=re.escape("x.json")):
        store.load(file)


def test_a_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="Cannot read"):
        store.load(tmp_path / "none.json")


def test_an_out_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(StoreError) as caught:
        store.save(simulated.result(), simulated.outcomes(), blocked)
    assert "\n" not in str(caught.value) and "--out" in str(caught.value)
    assert blocked.read_text() == "in the way"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.save(simulated.result(), simulated.outcomes(), tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_merge_copies_what_is_new_and_sound(tmp_path: Path) -> None:
    for i in range(4):
        store.save(simulated.result(i), simulated.outcomes(i), tmp_path / "a")
    kept = store.save(simulated.result(0), simulated.outcomes(0), tmp_path / "b")
    broken = store.find(tmp_path / "a")[3]
    broken.write_text("{")
    merged = store.merge(tmp_path / "a", tmp_path / "b")
    assert (len(merged.copied), len(merged.present), len(merged.refused)) == (2, 1, 1)
    assert store.verify(tmp_path / "b") == [] and len(store.find(tmp_path / "b")) == 3
    assert store.merge(tmp_path / "a", tmp_path / "b").copied == [] and kept.exists()
    with pytest.raises(StoreError, match="nowhere"):
        store.merge(tmp_path / "nowhere", tmp_path / "b")


WRITER = """
import sys; sys.path.insert(0, {tests!r})
import simulated; from saebench.records import store
for i in range({first}, {first} + 200):
    print(i, store.save(simulated.result(i), simulated.outcomes(i), {out!r}).name, flush=True)
"""


def test_two_writers_one_killed_lose_nothing(tmp_path: Path) -> None:
    def writer(first: int) -> subprocess.Popen:
        code = WRITER.format(tests=str(ROOT / "tests" / "helpers"), first=first, out=str(tmp_path))
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)

    survivor, victim = writer(0), writer(200)
    assert victim.stdout and survivor.stdout
    reported = [victim.stdout.readline() for _ in range(100)]
    victim.send_signal(signal.SIGKILL)
    reported += victim.stdout.read().splitlines()
    victim.wait()
    reported += survivor.stdout.read().splitlines()
    assert survivor.wait() == 0
    finished = {line.split()[1] for line in reported if line.endswith((".json", ".json\n"))}
    names = {path.name for path in store.find(tmp_path)}
    assert finished <= names and 300 <= len(names) <= 399
    assert [p for p in store.verify(tmp_path, clean=True, stale_after=0) if p.kind == "damage"] == []
    assert store.verify(tmp_path, stale_after=0) == []
    for path in store.find(tmp_path):
        assert store.load(path).outcomes.columns


def test_the_committed_schema_is_current_and_strict() -> None:
    text = (ROOT / "results" / "schema.json").read_text()
    assert text == store.schema_text(), (
        "write it again: python -m saebench.records.store > results/schema.json"
    )
    validator = jsonschema.Draft202012Validator(json.loads(text))
    document = json.loads(store.json_text(simulated.result()))
    validator.validate(document)
    for broken in ({**document, "extra": 1}, {**document, "axes": {"control": {"value": "high"}}}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(broken)


def test_every_committed_result_is_sound() -> None:
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "results" / "schema.json").read_text()))
    for path in store.find(ROOT / "results"):
        validator.validate(json.loads(path.read_text()))
    assert store.verify(ROOT / "results") == []


def test_results_are_frozen() -> None:
    result: Result = simulated.result()
    with pytest.raises(ValueError, match="frozen"):
        result.seed = 3  # type: ignore[misc]
