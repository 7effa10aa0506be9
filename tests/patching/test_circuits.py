"""Parts of known circuits: every node is one of the model's, and a joint edit is the plain hooked pass."""

from pathlib import Path

import pytest
import torch
from paths import ROOT
from tiny_models import WORDS, save_tiny, word_tokenizer

from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement
from saebench.patching.plain import PlainPass
from saebench.patching.subsets import Subsets
from saebench.patching.whole_runs import WholeRuns
from saebench.records.site_list import read_sites

POSITIONS = {"io": 2, "s1": 4, "s2": 6, "end": 9}
TOKENS = [[0, 5, 9, 11, 30, 7, 8, 21, 3, 6], [0, 6, 3, 2, 31, 17, 18, 1, 9, 22]]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """Twelve blocks of twelve heads, as narrow as can be."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder: Path = tmp_path_factory.mktemp("gpt2-shaped")
    torch.manual_seed(0)
    tokenizer = word_tokenizer(WORDS)
    shape = {"n_embd": 48, "n_layer": 12, "n_head": 12, "n_positions": 16, "vocab_size": len(tokenizer)}
    config = GPT2Config(**shape, bos_token_id=0, eos_token_id=0, initializer_range=0.3)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(str(folder))


def equal_the_plain_pass(model, sites) -> float:
    """How far a joint edit by noise moves logits; checked against full passes with hooks."""
    places = [
        Placement(site.hook, torch.full((len(TOKENS),), POSITIONS[site.position]), site.head)
        for site in sites
    ]
    answer, rows = torch.tensor([5, 8]), torch.arange(len(TOKENS))
    fast = PatchedReadout(model, TOKENS, places, answer, answer + 7)
    assert fast.way == "suffix"
    clean = fast.clean()
    edited = clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) * clean.std()
    got = fast.logits(edited, rows)
    plain = PlainPass(model, TOKENS, places).logits(edited, rows)
    assert (got - plain).abs().max() <= 1e-4
    return float((got - fast.logits(clean, rows)).abs().max())


def test_the_nodes_of_gpt2s_ioi_circuit(gpt2):
    parts = read_sites(ROOT / "tasks" / "circuits" / "gpt2-ioi.toml")
    assert [len(part.parts) for part in parts] == [10, 10, 30, 4, 4, 7]
    nodes = {site for part in parts for site in part.parts}
    assert len(nodes) == 55
    assert {gpt2.d_in(site.hook, site.head) for site in nodes} == {4}
    for part in parts:
        assert equal_the_plain_pass(gpt2, part.parts) > 0.01
    assert equal_the_plain_pass(gpt2, sorted(nodes, key=str)) > 0.01


def test_heads_that_share_keys_and_values(tmp_path):
    """A llama of four query heads and two for keys and values."""
    model = load_model(str(save_tiny(tmp_path, "llama")))
    from saebench.site import Site

    text = "blocks.1.attn.hook_q[3]@end & blocks.1.attn.hook_k[1]@io & blocks.2.attn.hook_v[0]@s2"
    sites = Site.parse(f"{text} & blocks.3.attn.hook_z[2]@end").parts
    assert equal_the_plain_pass(model, sites) > 0.01


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_many_sets_in_one_pass_are_as_each_alone(tmp_path, kind):
    model = load_model(str(save_tiny(tmp_path, kind)))
    texts = [TOKENS[0], TOKENS[1][:7]]
    whole = [
        "blocks.0.hook_mlp_out",
        "blocks.1.attn.hook_z",
        "blocks.1.hook_resid_mid",
        "blocks.2.attn.hook_k",
    ]
    places = [Placement(hook, torch.tensor([2 + i % 2, 3])) for i, hook in enumerate(whole)]
    widths = [model.d_in(place.hook) for place in places]
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(2, width, generator=generator) for width in widths]
    # all of the first, one head of the second; all four; none of anything
    head = torch.arange(widths[1]) < model.d_in(whole[1], 0)
    none = [torch.zeros(width, dtype=torch.bool) for width in widths]
    sets = [[~none[0], head, none[2], none[3]], [~part for part in none], none]
    taken = [torch.stack(parts) for parts in zip(*sets, strict=True)]
    answer, distractor = torch.tensor([5, 8]), torch.tensor([12, 3])
    runs = WholeRuns.of(model, texts)
    subsets = Subsets(model, texts, places, values, answer, distractor, runs)
    got = subsets.differences(taken)
    # from the run of another set on, in whatever order they are asked for
    for near in sets:
        for row, one in enumerate(sets):
            again = subsets.differences([part[None] for part in one], near)
            assert (again[0] - got[row]).abs().max() < 1e-4
    assert (subsets.differences(taken, sets[1]) - got).abs().max() < 1e-4
    one = [places[0], Placement(whole[1], places[1].positions, 0)]
    acts = torch.cat([values[0], values[1][:, head]], 1)
    every = torch.arange(2)
    for row, (where, edited) in enumerate([(one, acts), (places, torch.cat(values, 1))]):
        alone = PatchedReadout(model, texts, where, answer, distractor, way="plain")
        assert (got[row] - alone.difference(edited, every)).abs().max() < 1e-4
        assert (got[row] - got[2]).abs().max() > 0.01
    assert (got[2] - alone.difference(alone.clean(), every)).abs().max() < 1e-4
