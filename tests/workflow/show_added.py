"""Run on a copy of the project to which an axis, a kind, a control, a format and an option were added."""

import io
import sys
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file
from typer.testing import CliRunner

import saebench
from saebench import checkpoints
from saebench.cli import app
from saebench.evaluation.contestants import every_control
from saebench.records import store
from saebench.regression.tolerances import Tolerances
from saebench.reporting import catalogue, leaderboard, terminal
from saebench.spec import read_task

OUT = Path(sys.argv[1])

# a task of the new kind
folder = OUT / "tasks" / "mine"
folder.mkdir(parents=True)
given = Path(saebench.__file__).parents[1] / "tasks" / "synthetic" / "independent" / "task.toml"
text = given.read_text().replace('"synthetic"', '"numbers"', 1).replace("synthetic/independent", "mine")
(folder / "task.toml").write_text(text)
assert any("independent" in line for line in catalogue.describe(read_task(folder)))

# an SAE of the new format
torch.manual_seed(0)
save_file({"stacked": torch.randn(2, 40, 32)}, OUT / "sae.safetensors")
assert "stacked" in dict(checkpoints.formats())

# the new control, and the new option from Python
assert "control:zero" in [contestant.name for contestant in every_control([])]
options = dict(tasks=[OUT / "tasks"], device="cpu", budget="tiny", whisper="hush", force_mismatch=True)
results = [
    saebench.evaluate(sae, "mine", out=OUT / "results", **options)
    for sae in ("control:zero", str(OUT / "sae.safetensors"))
]
for result in results:
    assert {"hush", "made of numbers"} <= set(result.warnings)
    assert abs(result.axes["shine"].normalized - 0.5) < 1e-6 and result.axis_versions["shine"] == 7
assert results[1].dictionary.format == "stacked"

# the new axis in what people and programs read
out = Console(file=io.StringIO(), width=240)
terminal.print_results(results, out)
assert "shine" in out.file.getvalue()
assert "shine" in Tolerances().headlines
leaderboard.build(OUT / "results")
board = OUT / "results" / "leaderboard"
assert "| Shine |" in (board / "leaderboard.md").read_text()
assert ",shine," in (board / "leaderboard.csv").read_text()
assert '"shine"' in (board / "index.html").read_text()
assert all("Shine" in figure.read_text() for figure in board.rglob("*.svg"))
assert list(board.rglob("*.svg")) and len(store.find(OUT / "results")) == 2

# the new option on the command line
help = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "200"}).output
assert "--whisper" in help and "Said of every result." in help
print("all shown")
