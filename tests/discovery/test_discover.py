"""`saebench discover` as it is used: at one hook point of the bundled model, and what is refused."""

import json
import tomllib

import pytest
from command import run
from paths import RESULTS

import saebench
from saebench.models.loading import load_model
from saebench.records.discovery import Discovery
from saebench.records.site_list import read_sites
from saebench.reporting import sites
from saebench.spec import load_task

ASKED = ("discover", "--task", "ioi", "--hook", "blocks.1.hook_resid_pre", "--budget", "tiny")


def test_the_positions_of_one_hook_point(capsys, tmp_path):
    code, out, err = run(capsys, *ASKED, "--out", str(tmp_path))
    assert code == 0, err
    folder = tmp_path / "demo" / "sites" / "ioi"
    assert {p.name for p in folder.iterdir()} == {"discovery.json", "sites.toml", "sites.png"}
    found = Discovery.model_validate_json((folder / "discovery.json").read_text())
    assert found.sites == ("blocks.1.hook_resid_pre@end",)
    by_name = {each.attribute: each for each in found.found}
    assert by_name["io"].share == pytest.approx(1.0, abs=0.2)
    listed = tomllib.loads((folder / "sites.toml").read_text())
    assert listed["model"] == "demo" and listed["sites"]["io"] == ["blocks.1.hook_resid_pre@end"]
    assert "none, as it must be" in out and "rank correlation" in out
    # the same numbers give the same picture
    sites.write_figures(found, tmp_path)
    assert (tmp_path / "sites.png").read_bytes() == (folder / "sites.png").read_bytes()


def test_json_is_the_document(capsys, tmp_path):
    code, out, _ = run(capsys, *ASKED, "--format", "json", "--out", str(tmp_path))
    assert code == 0 and json.loads(out)["schema"] == "saebench.discovery/1"


@pytest.mark.parametrize(
    "further, message",
    [
        (("--hook", "blocks.9.hook_resid_pre"), "Unknown hook point"),
        (("--task", "synthetic/independent"), "nothing to look for"),
        (("--first-pass", "gradient"), "Unknown first pass 'gradient'"),
        (("--hooks", "hook_q"), "Did you mean 'attn.hook_q'"),
    ],
)
def test_what_is_refused(capsys, tmp_path, further, message):
    code, out, err = run(capsys, "discover", "--budget", "tiny", "--out", str(tmp_path), *further)
    assert code == 2 and message in err and out == "" and "Traceback" not in err


def test_an_option_that_there_is_none_of():
    with pytest.raises(saebench.errors.OptionError, match="Did you mean 'share'"):
        saebench.discover(shares=0.9)


@pytest.mark.parametrize("task", ["ioi", "ravel"])
def test_what_is_committed_of_the_bundled_model(task):
    folder = RESULTS / "demo" / "sites" / task
    found = Discovery.model_validate_json((folder / "discovery.json").read_text())
    chosen = [each for each in found.found if each.sites]
    assert found.model_sha256 == load_model("demo").sha256 and found.task_sha256 == load_task(task).sha256
    # on `test` the sets do at least what they were chosen for, and other draws choose the same
    assert all(each.share is not None and each.share >= found.wanted for each in chosen)
    assert {*chosen[0].redraws, *chosen[0].templates} == {1.0}
    assert found.null and not any(each.sites for each in found.null)
    assert found.agreement.rank_correlation is not None and found.agreement.rank_correlation > 0.9
    assert {str(site) for site in read_sites(folder / "sites.toml")} == {
        " & ".join(each.sites) for each in chosen
    }
    nothing = [each.attribute for each in found.found if not each.sites]
    assert nothing == (["pos"] if task == "ioi" else [])
    # what gradients miss is said: all of RAVEL goes through one MLP, which they put at about a tenth
    missed = [e for e in found.effects if e.effect is not None and e.site in chosen[0].sites]
    worst = min(abs(e.attribution / e.effect) for e in missed if e.effect)
    assert worst == pytest.approx({"ioi": 0.398, "ravel": 0.070}[task], abs=0.001)
