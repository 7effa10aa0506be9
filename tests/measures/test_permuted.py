"""Labels are permuted over clusters: what stands for a pair of names is no sign of a name."""

import torch

from saebench.dictionaries.codes import SparseCodes
from saebench.measures.detection import f1_table, permuted


def test_prompts_of_a_cluster_keep_one_label_and_no_label_is_lost():
    g = torch.Generator().manual_seed(0)
    cluster = torch.randint(0, 40, (300,), generator=g)
    labels = cluster % 7
    other = permuted(labels, cluster, g)
    of_cluster = {(int(c), int(v)) for c, v in zip(cluster, other, strict=True)}
    assert len(of_cluster) == 40
    assert sorted(v for _, v in of_cluster) == sorted(v % 7 for v in range(40))
    assert not torch.equal(other, labels)
    # two labels in one cluster stay apart from each other
    mixed = torch.stack([cluster, cluster + 1]).T.reshape(-1) % 7
    twice = cluster.repeat_interleave(2)
    again = permuted(mixed, twice, g)
    cells = {(int(c), int(v)): set() for c, v in zip(twice, mixed, strict=True)}
    for c, v, new in zip(twice, mixed, again, strict=True):
        cells[int(c), int(v)].add(int(new))
    assert all(len(new) == 1 for new in cells.values())


def test_latents_that_stand_for_pairs_fit_labels_permuted_over_pairs():
    """One latent a pair: in sample they "find" half of any labels of pairs, and none of prompts."""
    n_pairs, times = 60, 6
    pair = torch.arange(n_pairs).repeat_interleave(times)
    rows = torch.arange(len(pair))
    codes = SparseCodes(rows, pair, torch.ones(len(pair)), len(pair), n_pairs)
    labels = pair % 20
    g = torch.Generator().manual_seed(1)

    def best(other: torch.Tensor) -> float:
        return float(f1_table(codes, other, 20, False).f1.max(0).values.mean())

    assert best(permuted(labels, pair, g)) > 0.45
    assert best(labels[torch.randperm(len(labels), generator=g)]) < 0.4
