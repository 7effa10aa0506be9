"""`saebench discover` as it is used: at one hook point of the bundled model, and what is refused."""

import json
import tomllib

import pytest
from command import run

import saebench
from saebench.records.discovery import Discovery
from saebench.reporting import sites

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
