"""The command line: what is typed, what is printed, how it exits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from paths import DEMO, ROOT

from saebench.errors import OptionError, choice, parse_bytes

pytestmark = pytest.mark.usefixtures("few_prompts")

TOPK = DEMO / "saes" / "topk"


@pytest.mark.parametrize(
    "verb", [["--help"], ["evaluate", "--help"], ["regress", "--help"], ["leaderboard", "--help"]]
)
def test_help_imports_no_torch(verb):
    code = (
        "import sys; from saebench.cli import main\n"
        f"try: main({verb!r})\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "xample" in done.stdout


def test_json_lines_and_nothing_else_on_stdout(capsys, tmp_path):
    code, out, err = run(
        capsys,
        "evaluate",
        "control:mean",
        "control:no-edit",
        "--format",
        "json",
        "--budget",
        "tiny",
        "--out",
        str(tmp_path),
    )
    assert code == 0
    lines = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    assert [line["dictionary"]["name"] for line in lines] == ["control:mean", "control:no-edit"]
    assert all(line["status"] == "success" for line in lines)
    # on stderr every row is said as soon as it is there
    begins, ends = err.index("1/2: control:mean"), err.index("2/2: control:no-edit")
    assert begins < err.index("  control:mean at ") < ends < err.index("  control:no-edit at ")


def test_the_table_has_five_axes_and_reasons(capsys, tmp_path):
    code, out, _ = run(
        capsys, "evaluate", "demo:topk", "control:no-edit", "--budget", "tiny", "--out", str(tmp_path)
    )
    assert code == 0
    for word in ("approximation", "control", "interpretability", "occlusion", "over-splitting", "demo:topk"):
        assert word in out
    assert "not a dictionary: it only edits" in out
    (path,) = tmp_path.rglob("demo=topk*/*.json")
    code, out, _ = run(capsys, "show", str(path), "--axis", "control")
    assert code == 0 and "agnostic" in out and "sufficiency" not in out


def broken(tmp_path: Path, what: str) -> str:
    """A copy of a good SAE with one thing wrong."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / what
    shutil.copytree(TOPK, folder)
    weights = folder / "sae_weights.safetensors"
    if what == "no-config":
        (folder / "cfg.json").unlink()
    elif what == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "nan":
        state = load_file(weights)
        state["W_dec"][3, 4] = torch.nan
        save_file(state, weights)
    elif what == "width":
        config = json.loads((folder / "cfg.json").read_text())
        state = {
            k: v[..., :50].contiguous() if k in ("W_dec", "b_dec") else v
            for k, v in load_file(weights).items()
        }
        state["W_enc"] = state["W_enc"][:50].contiguous()
        (folder / "cfg.json").write_text(json.dumps(config | {"d_in": 50}))
        save_file(state, weights)
    elif what == "empty":
        weights.write_bytes(b"")
    return str(folder)


@pytest.mark.parametrize("what", ["no-config", "truncated", "nan", "width", "empty"])
def test_a_broken_checkpoint_is_one_paragraph_and_exit_two(capsys, tmp_path, what):
    code, _, err = run(capsys, "evaluate", broken(tmp_path, what), "--out", str(tmp_path / "out"))
    complaints = [line for line in err.splitlines() if line.startswith("saebench: ")]
    assert code == 2 and len(complaints) == 1 and "Traceback" not in err
    assert len(complaints[0]) < 900
    assert not list((tmp_path / "out").rglob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere/at-all"], "nowhere"),
        (["control:idntity"], "'identity'"),
        (["demo:topkk"], "topk"),
        (["control:mean", "--task", "ioo"], "'ioi'"),
        (["control:mean", "--model", "no-such-model"], "no-such-model"),
        (["control:mean", "--site", "blocks.77.hook_resid_pre@end"], "blocks.77"),
        (["control:mean", "--site", "???"], "HOOK@POSITION"),
        (["control:mean", "--budget", "huge"], "standard"),
        (["control:mean", "--format", "yaml"], "json"),
        (["control:mean", "--out", "/proc/nothing"], "/proc/nothing"),
        (["control:mean", "--memory", "lots"], "2GB"),
        (["control:mean", "--device", "abacus"], "abacus"),
        (["control:mean", "--tasks", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_input_is_one_paragraph_and_exit_two(capsys, tmp_path, arguments, said):
    extra = [] if "--out" in arguments else ["--out", str(tmp_path)]
    code, _, err = run(capsys, "evaluate", *arguments, *extra)
    complaints = [line for line in err.splitlines() if line.startswith("saebench: ")]
    assert code == 2 and len(complaints) == 1 and said in complaints[0]
    assert "Traceback" not in err and not list(tmp_path.rglob("*.json"))


def test_one_bad_input_does_not_stop_the_rest(capsys, tmp_path):
    code, out, err = run(
        capsys,
        "evaluate",
        "nowhere/x",
        "control:pca:x",
        "control:mean",
        "--budget",
        "tiny",
        "--format",
        "json",
        "--out",
        str(tmp_path),
    )
    assert code == 2
    assert [json.loads(line)["dictionary"]["name"] for line in out.splitlines()] == ["control:mean"]
    assert "nowhere/x" in err and "control:pca got 'x'" in err


def test_debug_shows_the_traceback(capsys, tmp_path):
    code, _, err = run(capsys, "evaluate", "control:idntity", "--debug", "--out", str(tmp_path))
    assert code == 2 and "Traceback" in err


def test_a_model_with_too_few_names_is_refused(capsys, tmp_path, shared_models):
    code, _, err = run(
        capsys, "evaluate", "demo:topk", "--model", str(shared_models / "stories260k"), "--out", str(tmp_path)
    )
    assert code == 2 and "Expected at least 20" in err


def test_tasks_are_listed_described_and_checked(capsys, tmp_path):
    code, out, _ = run(capsys, "tasks")
    assert code == 0 and "ioi" in out and "ravel" in out
    code, out, _ = run(capsys, "tasks", "ioi")
    assert code == 0 and "positions" in out and "names.txt" in out
    code, _, err = run(capsys, "tasks", "check", str(tmp_path))
    assert code == 2 and "no readable task.toml" in err
    (tmp_path / "task.toml").write_text('name = "x"\nkind = "names"\nversion = 0\n')
    code, _, err = run(capsys, "tasks", "check", str(tmp_path))
    assert code == 2 and "version" in err
    code, out, _ = run(capsys, "tasks", "check", str(ROOT / "tasks" / "ioi"))
    assert code == 0 and "valid task" in out


def test_options_are_read_as_written():
    assert (
        parse_bytes("2GB") == 2 * 2**30 and parse_bytes("500m") == 500 * 2**20 and parse_bytes(None) is None
    )
    with pytest.raises(OptionError):
        parse_bytes("0")
    assert choice("x", "a", ("a", "b")) == "a"
