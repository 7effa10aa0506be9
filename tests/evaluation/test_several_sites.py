"""Several sites from the command line: site lists, maps of checkpoints, what is stored."""

import json

import pytest
from command import run
from paths import DEMO

import saebench
from saebench.errors import SiteError
from saebench.records import store
from saebench.records.site_list import read_map, read_sites
from saebench.scoring import score

END, S2 = "blocks.1.hook_resid_pre@end", "blocks.1.hook_resid_pre@s2"
LIST = f'[sites]\nboth = ["{END}", "{S2}"]\nagain = "{END} & {S2}"\n'
MAP = '[dictionaries]\n"blocks.1.hook_resid_pre@end" = "demo:topk"\n"blocks.1.hook_resid_pre" = "topk"\n'


def test_a_site_list_and_a_map_of_checkpoints(capsys, tmp_path):
    (tmp_path / "sites.toml").write_text(LIST)
    (tmp_path / "both.toml").write_text(MAP)
    (tmp_path / "topk").symlink_to(DEMO / "saes" / "topk", target_is_directory=True)
    asked = ("--sites", str(tmp_path / "sites.toml"), "--budget", "tiny", "--format", "json")
    out = tmp_path / "out"
    code, said, err = run(
        capsys, "evaluate", str(tmp_path / "both.toml"), "demo:topk", *asked, "--out", str(out)
    )
    assert code == 0, err
    mapped, single = map(json.loads, said.splitlines())
    assert mapped["site"] == single["site"] == f"{END} & {S2}"
    assert mapped["dictionary"]["name"] == "both" and mapped["dictionary"]["d_in"] == 2 * 96
    # both sites have the same SAE, so the scores are the same, and the digests are not
    assert mapped["axes"] == single["axes"] and mapped["id"] != single["id"]
    assert mapped["axes"]["interpretability"]["note"].startswith("mean over 1 of 2 sites")
    for path in store.find(out):
        stored = store.load(path)
        again = score(stored.outcomes, stored.result.seed)
        assert set(stored.outcomes.parts) == {END, S2}
        for name in ("control", "interpretability"):
            assert float(again.axes[name].value) == pytest.approx(stored.result.axes[name].value, rel=1e-5)
    # a finished result is found again
    code, again, _ = run(capsys, "evaluate", str(tmp_path / "both.toml"), *asked, "--out", str(out))
    assert code == 0 and json.loads(again)["created"] == mapped["created"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("[sites]\n", "has no .sites."),
        ("sites = 3\n", "has no .sites."),
        ("[sites]\na = 3\n", "a is 3. Expected"),
        ("[sites]\na = []\n", "a is ..\\. Expected"),
        ('[sites]\na = ["nonsense here"]\n', "Cannot read 'nonsense here' as a site"),
        ("[sites\n", "is not valid TOML"),
    ],
)
def test_a_wrong_site_list_is_one_paragraph(tmp_path, text, message):
    (tmp_path / "sites.toml").write_text(text)
    with pytest.raises(SiteError, match=message):
        read_sites(tmp_path / "sites.toml")
    with pytest.raises(SiteError, match=r"Cannot read .*FileNotFoundError"):
        read_sites(tmp_path / "absent.toml")


def test_a_map_is_a_file_or_a_folder_named_by_sites(tmp_path):
    (tmp_path / "blocks.1.attn.hook_z[2]@end").mkdir()
    (tmp_path / "blocks.1.attn.hook_z").mkdir()
    (tmp_path / "notes").mkdir()
    found = read_map(tmp_path)
    assert found is not None and set(found) == {"blocks.1.attn.hook_z[2]@end", "blocks.1.attn.hook_z"}
    assert read_map(tmp_path / "notes") is None and read_map(tmp_path / "weights.safetensors") is None
    for line, said in (
        ('end = "a"', "'end' = 'a'"),
        ('"blocks.1.hook_mlp_out" = 3', "'blocks.1.hook_mlp_out' = 3"),
    ):
        (tmp_path / "map.toml").write_text(f"[dictionaries]\n{line}\n")
        with pytest.raises(SiteError, match=rf"says {said}\. Expected"):
            read_map(tmp_path / "map.toml")


def test_a_folder_of_checkpoints_is_no_list_of_sites(capsys, tmp_path):
    code, _, err = run(capsys, "evaluate", "demo:topk", "--sites", str(tmp_path))
    assert code == 2 and "is what is scored" in " ".join(err.split())


def test_a_map_at_one_of_its_sites_is_what_it_has_there(tmp_path):
    (tmp_path / "both.toml").write_text(MAP)
    (tmp_path / "topk").symlink_to(DEMO / "saes" / "topk", target_is_directory=True)
    mapped = saebench.evaluate(tmp_path / "both.toml", site=END, budget="tiny", out=tmp_path / "out")
    single = saebench.evaluate("demo:topk", site=END, budget="tiny")
    assert mapped.axes == single.axes and mapped.dictionary.name == "both" and mapped.id != single.id
    again = saebench.evaluate(tmp_path / "both.toml", site=END, budget="tiny", out=tmp_path / "out")
    assert again.created == mapped.created


def test_what_a_map_lacks_is_said(tmp_path):
    (tmp_path / "one.toml").write_text(MAP.splitlines()[0] + "\n" + MAP.splitlines()[1] + "\n")
    with pytest.raises(SiteError, match=f"no dictionary for {S2}"):
        saebench.evaluate(tmp_path / "one.toml", site=f"{END} & {S2}", budget="tiny")
