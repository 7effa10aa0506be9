"""Rank correlations of scores with recovery of what is true, inside strata, with draws over training runs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from saebench.audit.evidence import RECOVERY
from saebench.audit.thresholds import L0_BANDS, LEAST_IN_BAND

N_DRAWS = 300


class Correlations:
    """Rank correlations of columns with measures of recovery inside L0 bands, with their draws.

    Where a frame names models, inside each of these instead: each has few SAEs, of the same recipes. Strata
    are averaged with their sizes as weights. Draws resample training runs, since snapshots of one run are no
    independent SAEs. Column i of the result belongs to `names[i]`; the last axis is recovery.
    """

    def __init__(self, frame: pd.DataFrame, names: Sequence[str], recovery: Sequence[str] = RECOVERY) -> None:
        self.names = list(names)
        run = frame["architecture"] + frame["share"].astype(str) + "/" + frame["seed"].astype(str)
        if "model" in frame:
            run, strata = frame["model"] + run, frame["model"]
        else:
            strata = np.digitize(frame["band"], L0_BANDS)
        _, self._run = np.unique(run, return_inverse=True)
        _, self._stratum = np.unique(strata, return_inverse=True)
        self._x = frame[self.names].to_numpy(float).T
        self._t = frame[list(recovery)].to_numpy(float).T
        # columns that are undefined for the same SAEs are ranked together
        self._defined, self._like = np.unique(np.isfinite(self._x), axis=0, return_inverse=True)
        self.value = self._of(np.arange(len(frame)))
        rng = np.random.default_rng(0)
        members = [np.flatnonzero(self._run == r) for r in range(self._run.max() + 1)]
        self.draws = np.stack(
            [
                self._of(np.concatenate([members[r] for r in rng.integers(len(members), size=len(members))]))
                for _ in range(N_DRAWS)
            ]
        )

    def _of(self, at: np.ndarray) -> Float[np.ndarray, "names recovery"]:
        total, weight = np.zeros((len(self._x), len(self._t))), np.zeros((len(self._x), 1))
        for stratum in range(self._stratum.max() + 1):
            here = at[self._stratum[at] == stratum]
            for like, defined in enumerate(self._defined):
                rows, kept = self._like == like, here[defined[here]]
                if len(kept) < LEAST_IN_BAND:
                    continue
                total[rows] += len(kept) * _spearman(self._x[rows][:, kept], self._t[:, kept])
                weight[rows] += len(kept)
        return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)

    def interval(self, name: str, against: str | None = None) -> tuple[float, float, float] | None:
        """The weakest of the correlations with its interval, or of their differences to another column's."""
        i = self.names.index(name)
        value, draws = self.value[i], self.draws[:, i]
        if against is not None:
            j = self.names.index(against)
            value, draws = value - self.value[j], draws - self.draws[:, j]
        if not np.isfinite(value).all():
            return None
        weak = int(value.argmin())
        low, high = np.nanquantile(draws[:, weak], [0.025, 0.975])
        return float(value[weak]), min(float(low), float(value[weak])), max(float(high), float(value[weak]))


def _spearman(x: Float[np.ndarray, "a n"], t: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "a b"]:
    """Spearman's correlation; 0 for a score that is the same for all: it ranks nothing."""
    ranks = [stats.rankdata(m, axis=1) for m in (x, t)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    norm = [np.sqrt((c**2).sum(1, keepdims=True)) for c in centred]
    scale = norm[0] @ norm[1].T
    return np.divide(centred[0] @ centred[1].T, scale, out=np.zeros_like(scale), where=scale > 0)
