"""The smallest set of sites that together do most of what all candidates do. docs/methods.md §13."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from saebench.discovery.scan import AHEAD, Scan
from saebench.scoring.estimates import Bootstrap, holm
from saebench.site import Site

LEAST = 0.05
"""Share of the task's LD that an effect must reach to count [docs/methods.md §2]."""


@runtime_checkable
class Joint(Protocol):
    """What patching several sites together does."""

    @property
    def ahead(self) -> int:
        """Sets that take hardly longer in one pass than one after the other."""
        ...

    def joint(self, sets: Sequence[Sequence[Site]], near: Sequence[Site] = ()) -> Float[np.ndarray, "k n"]:
        """LD of every prompt with the source's activations at all sites of a set, for each of several sets.

        `near` is a set from which they differ little.
        """
        ...


Enough = Callable[[Sequence[Sequence[Site]], Sequence[Site]], list[bool]]
"""Whether each of several sets does its share; they differ little from the second argument."""


class Effects(NamedTuple):
    """Mean change of LD of every site, in units of the task's mean LD, with what tells it from none."""

    value: Float[np.ndarray, "n_sites"]
    low: Float[np.ndarray, "n_sites"]
    high: Float[np.ndarray, "n_sites"]
    flipped: Float[np.ndarray, "n_sites"]
    """Share of answers that change."""
    real: Bool[np.ndarray, "n_sites"]
    """At least 5 % of LD, and credible with all sites tested at once (Holm)."""


def effects(scan: Scan, boot: Bootstrap, scale: float) -> Effects:
    """The effect of every site over the prompts of a scan; `scale` is the task's mean LD in logits."""
    value, draws = (part / scale for part in _mean(boot, scan.change))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return Effects(value, low, high, scan.flipped.mean(0), real(value, draws.std(0, ddof=1)))


def _mean(
    boot: Bootstrap, values: Float[np.ndarray, "n *m"]
) -> tuple[Float[np.ndarray, "*m"], Float[np.ndarray, "k *m"]]:
    """Mean over prompts, and of every resample that holds any."""
    sums, held = boot.total(values), np.asarray(boot.total(np.ones(boot.n)).draws)
    some, shape = held > 0, (-1, *[1] * (values.ndim - 1))
    # a resample holds more or fewer prompts than there are: its sum over their number n would vary with that
    return np.asarray(sums.value / boot.n), np.asarray(sums.draws)[some] / held[some].reshape(shape)


def real(
    value: Float[np.ndarray, "m"], error: Float[np.ndarray, "m"], least: float = LEAST
) -> Bool[np.ndarray, "m"]:
    """Which numbers are large enough and credibly not 0, all of them tested at once."""
    # without any spread a number is what it is
    z = np.divide(np.abs(value), error, out=np.where(value == 0, 0.0, np.inf), where=error > 0)
    return holm(2 * stats.norm.sf(z)).rejected & (np.abs(value) >= least)


class Choice(NamedTuple):
    """The sites chosen for an attribute."""

    sites: tuple[Site, ...]
    of: tuple[Site, ...] = ()
    """The sites whose joint patch is the whole that a share is of: all candidates, or the strongest."""
    reason: str | None = None
    """Why none was chosen, or why the whole is not what all candidates do."""


NOTHING = "patching all candidates together does not credibly move the answer, nor does any one of them"
ALONE = (
    "patching all candidates together leaves the answer as it was, since what they carry moves together: the"
    " share is of the site that does most by itself"
)


def choose(
    patcher: Joint,
    candidates: Sequence[Site],
    single: Effects,
    clean: Float[np.ndarray, "n"],
    boot: Bootstrap,
    scale: float,
    share: float,
) -> Choice:
    """The fewest candidates found whose joint patch reaches `share` of what all together do.

    In order of their effect the candidates are added until the share is reached, then every one is
    left out again, the weakest first, that the rest can do without. Where none has an effect by
    itself and all have one together (either of two is enough), the order is the model's, and leaving
    out decides.
    """

    together, draws = _mean(boot, patcher.joint([candidates])[0] - clean)
    whole, error = float(together) / scale, draws.std(ddof=1, keepdims=True) / abs(scale)
    of, reason = tuple(candidates), None
    if not real(np.array([whole]), error)[0]:
        if not single.real.any():
            return Choice((), reason=NOTHING)
        strongest = int(np.abs(np.where(single.real, single.value, 0.0)).argmax())
        whole, of, reason = float(single.value[strongest]), (candidates[strongest],), ALONE
    # those that hand the same thing on do nearly the same: the first of them is taken, not the luckiest
    rank = np.round(single.value / whole, 1)
    order = [candidates[i] for i in sorted(range(len(candidates)), key=lambda i: (-rank[i], i))]

    def enough(sets: Sequence[Sequence[Site]], near: Sequence[Site]) -> list[bool]:
        done = (patcher.joint(sets, near) - clean).mean(1) / scale
        return (done / whole >= share).tolist()

    kept = pruned(order[: _shortest(order, enough, patcher.ahead)], enough, patcher.ahead)
    return Choice(tuple(sorted(kept, key=Site.sort_key)), of, reason)


def _shortest(order: Sequence[Site], enough: Enough, ahead: int) -> int:
    """Length of a beginning that is enough while the one before it is not: doubled, then halved."""
    lengths = [2**i for i in range(len(order).bit_length()) if 2**i < len(order)]
    at = len(lengths)
    for start in range(0, len(lengths), ahead):
        good = enough([order[:length] for length in lengths[start : start + ahead]], ())
        if True in good:
            at = start + good.index(True)
            break
    low, high = (lengths[at - 1] if at else 0), (*lengths, len(order))[at]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough([order[:middle]], ())[0] else (middle, high)
    return high


def pruned(order: Sequence[Site], enough: Enough, most: int = AHEAD) -> list[Site]:
    """What is left when nothing more can be left out, in ever smaller pieces, the last first.

    Delta debugging [Zeller and Hildebrandt 2002]: a long list of sites that do nothing goes at once. While
    nothing can be left out, ever more pieces are tried in one pass, up to `most`; what is left is as if one by one.
    """
    kept, size = list(order), max(1, len(order) // 2)
    while True:
        start, ahead = len(kept), 1
        while start > 0:
            pieces = [(max(0, high - size), high) for high in range(start, 0, -size)[:ahead]]
            rests = [kept[:low] + kept[high:] for low, high in pieces]
            good = enough(rests, kept) if all(rests) else [False]
            at = good.index(True) if True in good else -1
            start, ahead = pieces[at][0], min(2 * ahead, most)
            if at >= 0:
                kept, ahead = rests[at], 1
        if size == 1:
            return kept
        size = max(1, size // 2)
