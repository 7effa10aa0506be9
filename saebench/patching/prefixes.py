"""Which prefixes of some texts are worth running once for all that share them."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

Text = tuple[int, ...]


class _Node(NamedTuple):
    """Neighbours in sorted order that share their first `depth` tokens, and the best cuts among them."""

    depth: int
    left: int
    saved: int
    cuts: tuple[tuple[int, int, int], ...]
    """First text, last text + 1, tokens in front of the cut."""


def shared_prefixes(texts: Sequence[Text], limits: Sequence[int], spare: float = 0.0) -> list[int]:
    """For each text the number of tokens in front of its cut: a prefix that it shares with others, or 0.

    The cuts are those that save most tokens when every distinct prefix runs once and each text goes on
    from its own. No cut lies behind a text's limit or its last token but one. Cuts of one length that
    together save no more than two passes of their own cost, `spare` tokens each, are not made.
    """
    may = [text[: min(limit, len(text) - 1)] for text, limit in zip(texts, limits, strict=True)]
    order = sorted(range(len(texts)), key=lambda i: may[i])
    starts = [0] * len(texts)
    saved: Counter[int] = Counter()
    found = _best_cuts([0, *(_common(may[a], may[b]) for a, b in pairwise(order))])
    for left, right, depth in found:
        saved[depth] += (right - left - 1) * depth
    for left, right, depth in found:
        if saved[depth] > 2 * spare:
            for place in range(left, right):
                starts[order[place]] = depth
    return starts


def _common(a: Text, b: Text) -> int:
    """How many tokens two texts begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _best_cuts(common: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """From how many tokens each text shares with the one before it, in sorted order.

    Walks the tree of common prefixes from its leaves: a node's own cut, or the best of those below.
    """
    path = [_Node(0, 0, 0, ())]
    for right, depth in enumerate([*common[1:], 0], start=1):
        left = right - 1
        while path[-1].depth > depth:
            node = path.pop()
            left, own = node.left, (right - node.left - 1) * node.depth
            saved, cuts = node.saved, node.cuts
            if own >= saved:
                saved, cuts = own, ((left, right, node.depth),)
            above = path.pop() if path[-1].depth >= depth else _Node(depth, left, 0, ())
            path.append(above._replace(saved=above.saved + saved, cuts=above.cuts + cuts))
        if path[-1].depth < depth:
            path.append(_Node(depth, left, 0, ()))
    return path[0].cuts
