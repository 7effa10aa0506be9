"""What every curve needs: a generator with its cross-section, on which SAEs are measured."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from saebench.axes import select_axes
from saebench.axes.bench import make_bench
from saebench.dictionaries.objects import from_object
from saebench.dictionaries.supervised import fit_supervised
from saebench.kinds.base import Settings
from saebench.kinds.synthetic import build
from saebench.scoring import score
from saebench.scoring.estimates import Estimate
from saebench.site import Site
from saebench.spec import load_task
from saebench.studies.rows import Row
from saebench.synthetic.generator import Generator
from saebench.synthetic.registry import make_generator


def generator(family: str, **overrides: Any) -> Generator:
    return make_generator(load_task(f"synthetic/{family}"), overrides)


class Scene:
    """A generator with its cross-section."""

    def __init__(self, made: Generator, seed: int = 0, budget: str = "quick") -> None:
        self.made = made
        task = load_task("synthetic/independent")
        self.section = build(task, made, Site("synthetic", "sample"), Settings(budget, seed)).section
        truth = self.section.truth
        assert truth is not None
        self.bench = make_bench(self.section, truth, fit_supervised(self.section))

    def read(self, sae: Any, *axes: str) -> dict[tuple[str, str], Estimate]:
        """Estimates by name and attribute of the recovery scores and of the axes given."""
        out = replace(self.bench, measures=select_axes((*axes, "recovery"))).measure(from_object(sae))
        return {
            (e.name, e.attribute or ""): e.value for e in score(out).entries if isinstance(e.value, Estimate)
        }

    def l0(self, sae: Any) -> float:
        """Mean number of latents on over the test samples."""
        with torch.no_grad():
            return float((sae.encode(self.section.test.acts) != 0).sum(1).float().mean())

    def objective(self, sae: Any, l1: float) -> float:
        """Squared error plus L1 penalty on the test samples, in the units of training.

        Training scales inputs to a mean norm of sqrt(d_in); decoder rows have norm 1. Lower is better.
        """
        x = self.section.test.acts
        scale = x.shape[1] ** 0.5 / float(x.norm(dim=1).mean())
        with torch.no_grad():
            codes = sae.encode(x)
            error = (x - sae.decode(codes)).square().sum(1)
        return float((scale**2 * error + l1 * scale * codes.abs().sum(1)).double().mean())


def cells(estimate: Estimate, name: str) -> Row:
    low, high = estimate.interval()
    return {name: float(estimate), f"{name}_low": low, f"{name}_high": high}


def top(codes: Tensor, k: int) -> Tensor:
    """The k largest codes of every row, the rest 0."""
    value, index = codes.topk(k, 1)
    return torch.zeros_like(codes).scatter(1, index, value)


def explained(x: Tensor, without_bias: Tensor) -> float:
    """Explained variance with the bias refitted: the mean error costs nothing."""
    rest = (x - without_bias).double()
    spread = (x.double() - x.double().mean(0)).square().sum()
    return float(1 - (rest - rest.mean(0)).square().sum() / spread)
