"""Names on the hub: clear errors without a network; the real thing where there is one."""

import pytest

from saebench.checkpoints import hub, load
from saebench.errors import CheckpointError


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No hub and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("spec", ["hf://owner/repo/layer_3", "gpt2-small-res-jb/blocks.8.hook_resid_pre"])
def test_without_network(spec, no_network):
    with pytest.raises(CheckpointError) as caught:
        load(spec)
    message = str(caught.value)
    assert spec in message and "cannot be reached" in message and "\n" not in message


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gpt2-small-res-jc/blocks.8.hook_resid_pre", "'gpt2-small-res-jb'"),
        ("gpt2-small-res-jb/blocks.8.hook_resid_pr", "'blocks.8.hook_resid_pre'"),
        ("some/where/else", "hf://owner/repo/path"),
        ("nothing", "does not exist"),
        ("hf://owner", "expected hf://owner/repo"),
        ("hf://owner/../etc", "expected hf://owner/repo"),
        ("hf://owner/repo/../../etc/passwd", "may not leave"),
        ("hf://owner/repo/.ssh", "expected hf://owner/repo"),
    ],
)
def test_names_that_are_wrong(spec, said):
    with pytest.raises(CheckpointError) as caught:
        load(spec)
    assert said in str(caught.value) and len(str(caught.value)) < 1200


def test_a_path_comes_before_a_name(tmp_path, monkeypatch):
    import sae_files as f

    f.sae_lens(tmp_path / "gpt2-small-res-jb" / "blocks.8.hook_resid_pre", "standard", f.weights())
    monkeypatch.chdir(tmp_path)
    assert load("gpt2-small-res-jb/blocks.8.hook_resid_pre").info.d_in == f.D_IN


def test_a_sae_lens_object_of_the_registry_becomes_the_same_dictionary(monkeypatch):
    """The road of `release/sae_id`, with SAELens' download replaced by an object in memory."""
    import sae_files as f
    import sae_lens
    import torch

    from saebench.checkpoints import load_object

    sae = sae_lens.StandardSAE(sae_lens.StandardSAEConfig(d_in=f.D_IN, d_sae=f.D_SAE))
    sae.cfg.metadata.hook_name = "blocks.9.attn.hook_z"
    config = {"normalize_activations": "none"}
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained_with_cfg_and_sparsity", lambda *_: (sae, config, None))
    loaded = load("gpt2-small-hook-z-kk/blocks.9.hook_z")
    assert loaded.hook == "blocks.9.attn.hook_z"
    assert loaded.info.sha256 == load_object(sae).info.sha256
    x = f.acts()
    assert torch.equal(loaded.dictionary.encode(x).codes, load_object(sae).dictionary.encode(x).codes)


def test_a_transcoder_that_sae_lens_converts(monkeypatch):
    import sae_files as f
    import sae_lens

    from saebench.checkpoints import load_object

    config = sae_lens.SkipTranscoderConfig(d_in=f.D_IN, d_out=9, d_sae=f.D_SAE, apply_b_dec_to_input=False)
    theirs = sae_lens.SkipTranscoder(config)
    theirs.cfg.metadata.hook_name = "blocks.3.ln2.hook_normalized"
    theirs.cfg.metadata.hook_name_out = "blocks.3.hook_mlp_out"
    same = {"normalize_activations": "none"}
    monkeypatch.setattr(
        sae_lens.SAE, "from_pretrained_with_cfg_and_sparsity", lambda *_: (theirs, same, None)
    )
    loaded = load("gpt2-small-hook-z-kk/blocks.9.hook_z")
    assert (loaded.reads, loaded.hook) == ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out")
    assert loaded.info.sha256 == load_object(theirs).info.sha256


class Hub:
    """A hub whose repositories are folders: what the client's `snapshot_download` does, without a network."""

    def __init__(self, home):
        self.home = home

    def __call__(self, repo, allow_patterns, ignore_patterns):
        import sae_files as f

        w, root = f.weights(), self.home / f"models--{repo.replace('/', '--')}" / "snapshots" / "01234567"
        wanted = allow_patterns[0]
        write = {
            "resid_post": f.gemma_scope_2,
            "transcoder": lambda p, w: f.gemma_scope_2_transcoder(p, w, affine=True),
            "blocks.8": lambda p, w: f.sae_lens_4(p, w, hook_name="blocks.8.hook_resid_pre"),
        }
        next(make for word, make in write.items() if word in wanted)(root / wanted, w)
        return str(root)


@pytest.fixture
def repositories(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(tmp_path))


@pytest.mark.parametrize(
    ("name", "address", "architecture", "hook"),
    [
        (
            "gemma-scope-2-1b-pt-res/layer_13_width_16k_l0_big",
            "hf://google/gemma-scope-2-1b-pt/resid_post/layer_13_width_16k_l0_big",
            "jumprelu",
            "blocks.5.hook_resid_post",
        ),
        (
            "gemma-scope-2-1b-pt-transcoders/transcoder/layer_13_width_16k_l0_big",
            "hf://google/gemma-scope-2-1b-pt/transcoder/layer_13_width_16k_l0_big",
            "jumprelu_skip_transcoder",
            "blocks.5.hook_mlp_out",
        ),
        (
            "gpt2-small-res-jb/blocks.8.hook_resid_pre",
            "hf://jbloom/GPT2-Small-SAEs-Reformatted/blocks.8.hook_resid_pre",
            "standard",
            "blocks.8.hook_resid_pre",
        ),
    ],
)
def test_a_name_of_the_registry_and_its_repository_are_the_same(
    name, address, architecture, hook, repositories
):
    one, two = load(name), load(address)
    assert one.info.sha256 == two.info.sha256
    for loaded in (one, two):
        assert (loaded.info.architecture, loaded.hook) == (architecture, hook)
    assert (one.folded, one.reads) == (two.folded, two.reads)


def test_a_cross_layer_transcoder_of_the_registry_is_refused_before_anything_is_fetched():
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    directory = get_pretrained_saes_directory()
    release = next(r for r in directory.values() if r.conversion_func == "mntss_clt_layer_transcoder")
    with pytest.raises(CheckpointError, match="cross-layer"):
        load(f"{release.release}/{next(iter(release.saes_map))}")


REAL = {
    "gpt2-small-res-jb/blocks.8.hook_resid_pre": ("standard", 768, "blocks.8.hook_resid_pre"),
    # the repository behind the first, read without SAELens' registry
    "hf://jbloom/GPT2-Small-SAEs-Reformatted/blocks.8.hook_resid_pre": (
        "standard",
        768,
        "blocks.8.hook_resid_pre",
    ),
    "gpt2-small-hook-z-kk/blocks.9.hook_z": ("standard", 768, "blocks.9.attn.hook_z"),
}


@pytest.mark.slow
@pytest.mark.parametrize("spec", REAL)
def test_published_saes(spec, monkeypatch):
    """Downloads up to 500 MB; runs where the hub can be reached and says so where it cannot."""
    from huggingface_hub import constants

    if not hub.reachable():
        pytest.skip("the Hugging Face hub cannot be reached from here")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    architecture, d_in, hook = REAL[spec]
    loaded = load(spec)
    assert (loaded.info.architecture, loaded.info.d_in, loaded.hook) == (architecture, d_in, hook)
    assert loaded.info.d_sae > 20_000


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("hf://o/r", {"cfg.json", "sae.safetensors"}),
        ("hf://o/r/layers.5", {"layers.5/cfg.json", "layers.5/sae.safetensors", "cfg.json"}),
        ("hf://o/r/run/ae.pt", {"run/ae.pt", "run/config.json", "cfg.json"}),
        ("hf://o/r/run/a+b:c=1", {"run/a+b:c=1/x.safetensors", "run/config.json"}),
    ],
)
def test_only_what_is_needed_is_fetched(spec, wanted, monkeypatch, tmp_path):
    """A repository can hold hundreds of gigabytes of other SAEs."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    files = [
        "cfg.json",
        "sae.safetensors",
        "layers.5/cfg.json",
        "layers.5/sae.safetensors",
        "layers.6/cfg.json",
        "layers.6/sae.safetensors",
        "run/ae.pt",
        "run/config.json",
        "run/trainer_state.pt",
        "run/a+b:c=1/x.safetensors",
        "deep/down/sae.safetensors",
    ]
    fetched = set()

    def download(repo, allow_patterns, ignore_patterns):
        assert repo == "o/r"
        fetched.update(
            filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        )
        for file in fetched:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    hub.fetch(spec)
    # a pattern's star crosses folders, so configs of other folders may come along; weights may not
    assert wanted <= fetched
    assert {f for f in fetched - wanted if not f.endswith(".json")} == set()
