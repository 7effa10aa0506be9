"""Nobody says where to score: discovery looks for the sites, says what it chose, and is asked once."""

import json
import shutil

import pytest
from command import run
from paths import BUNDLED

import saebench
from saebench.errors import SiteError
from saebench.evaluation import finding


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """The bundled model under a name for which no task has a default site."""
    monkeypatch.setenv("SAEBENCH_CACHE", str(tmp_path / "cache"))
    return str(shutil.copytree(BUNDLED, tmp_path / "stranger"))


def test_the_position_of_an_sae_is_looked_for(capsys, tmp_path, stranger, monkeypatch):
    asked = ("evaluate", "demo:topk", "--task", "ioi", "--model", stranger, "--budget", "tiny")
    code, out, err = run(capsys, *asked, "--format", "json", "--out", str(tmp_path / "out"))
    assert code == 0, err
    assert json.loads(out)["site"] == "blocks.1.hook_resid_pre@end"
    assert "discovery chose, at blocks.1.hook_resid_pre" in err and "io: blocks.1.hook_resid_pre@end (" in err

    def again(*args, **options):
        raise AssertionError("what was found is remembered")

    monkeypatch.setattr("saebench.evaluation.discovering.search_model", again)
    code, _, err = run(capsys, *asked, "--format", "json", "--out", str(tmp_path / "out"))
    assert code == 0 and "discovery chose" in err


def test_where_nothing_acts_the_site_has_to_be_named(stranger, monkeypatch):
    monkeypatch.setattr(finding, "_search", lambda *_: ([], ["pos: none"]))
    with pytest.raises(SiteError, match=r"no default site for model .*stranger'.*Add --site HOOK@POSITION"):
        saebench.evaluate("demo:topk", model=stranger, budget="tiny")
