"""Discovery from start to end: candidates, effects, the chosen set, its stability, the null."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from saebench.discovery.candidates import HOOKS
from saebench.discovery.choosing import LEAST, Choice, Effects, choose, effects
from saebench.discovery.scan import Patcher, Scan, Tick
from saebench.errors import IncompetentModelError, choice
from saebench.models.language_model import LanguageModel
from saebench.patching.pairs import Number, Pairs, Questions
from saebench.records.discovery import Agreement, Discovery, Found, SiteEffect
from saebench.scoring.estimates import Bootstrap, Estimate, ratio
from saebench.site import Site
from saebench.spec import BUDGETS, Task

NUMBERS = {
    "tiny": Number(24, 24),
    "quick": Number(60, 120),
    "standard": Number(120, 250),
    "full": Number(300, 600),
}
"""Prompts an attribute by budget: of one draw to choose on, and to report on."""
DRAWS = 3
"""Disjoint draws of prompts: the first chooses, what the others choose says how stable that is."""
SHORT_LIST = 60
"""After a first pass by attribution: so many heads an attribute are run exactly, and all that is no head."""
FIRST_PASSES = ("exact", "attribution")
STAGES = ("prompts", "effects on select", "effects on test", "choosing", "null")


@dataclass(frozen=True)
class Plan:
    """How sites are looked for.

    Raises:
        OptionError: for a value that is not among those allowed.
    """

    budget: str = "quick"
    seed: int = 0
    first_pass: str = "exact"
    """`exact`, or `attribution`: gradients choose which heads are run exactly."""
    share: float = 0.8
    """Of the whole effect, what the chosen set has to reach."""
    hooks: tuple[str, ...] = HOOKS
    hook: str | None = None
    """The one hook point whose positions are candidates, where an SAE was trained there."""
    allow_incompetent: bool = False

    def __post_init__(self) -> None:
        choice("budget", self.budget, BUDGETS)
        choice("first pass", self.first_pass, FIRST_PASSES)


@dataclass(frozen=True)
class Measured:
    """One set of pairs with the effects of its sites."""

    patcher: Patcher
    scan: Scan
    attribution: Float[np.ndarray, "n n_sites"]
    sites: tuple[Site, ...]
    """Columns of the scan."""
    run: Bool[np.ndarray, "n n_sites"]
    """What was run exactly; elsewhere the scan holds what attribution says."""

    def of(self, rows: Int[np.ndarray, "k"]) -> "Measured":
        """The same over some of the rows."""
        scan = Scan(*(part[rows] for part in self.scan))
        first, run = self.attribution[rows], self.run[rows]
        return Measured(self.patcher.take(rows), scan, first, self.sites, run)

    @property
    def columns(self) -> Bool[np.ndarray, "n_sites"]:
        """Sites that were run exactly for every prompt."""
        return np.asarray(self.run.all(0))

    @property
    def boot(self) -> Bootstrap:
        pairs = self.patcher.pairs
        return Bootstrap(pairs.cluster, pairs.units)

    def effects(self, scale: float, sites: Sequence[Site]) -> Effects:
        """Of some of the sites, tested together; what was not run exactly is never taken for real."""
        columns = np.array([self.sites.index(site) for site in sites])
        part = Scan(self.scan.clean, self.scan.change[:, columns], self.scan.flipped[:, columns])
        found = effects(part, self.boot, scale)
        return found._replace(real=found.real & self.columns[columns])


def search(
    task: Task,
    model: LanguageModel,
    questions: Questions,
    sites: Sequence[Site],
    candidates: Sequence[Site],
    plan: Plan,
    stage: Tick = lambda _: None,
    tick: Tick = lambda _: None,
) -> Discovery:
    """Looks for the sites at which attributes act, among candidates (docs/methods.md §13).

    `sites` are mapped, the set is made of `candidates`. `stage` is called when one of `STAGES` begins, `tick`
    when a piece of it is done.

    Raises:
        IncompetentModelError: if the model does not prefer the right answers.
    """
    started = time.perf_counter()
    stage(STAGES[1])
    select = _measure(model, questions.select, candidates, plan, tick, answers=False)
    _require_preference(select, task, model, plan)
    stage(STAGES[2])
    test = _measure(model, questions.test, sites, plan, tick, ways=select.patcher.ways)
    ld = test.boot.mean(test.scan.clean)
    assert isinstance(ld, Estimate), "a split without prompts is refused when it is written"
    found, shown = [], []
    stage(STAGES[3])
    for at, name in enumerate(questions.select.attributes):
        mine, theirs = (side.of(side.patcher.pairs.of(at)) for side in (select, test))
        if not len(mine.patcher.pairs) or not len(theirs.patcher.pairs):
            continue
        found.append(_find(name, mine, theirs, candidates, plan))
        shown += _shown(name, theirs, float(ld))
        tick(f"sites of {name}")
    stage(STAGES[4])
    null = [] if questions.null is None else _null(model, questions.null, candidates, plan, float(ld), test)
    return Discovery(
        task=task.name,
        task_sha256=task.sha256,
        model=model.name,
        model_sha256=model.sha256,
        budget=plan.budget,
        seed=plan.seed,
        first_pass=plan.first_pass,
        wanted=plan.share,
        ld=float(ld),
        ld_ci=ld.interval(),
        n={name: len(questions.test.of(at)) for at, name in enumerate(questions.test.attributes)},
        effects=tuple(shown),
        found=tuple(found),
        null=tuple(null),
        agreement=_agreement(shown),
        notes=questions.notes,
        seconds=time.perf_counter() - started,
    )


def _measure(
    model: LanguageModel,
    pairs: Pairs,
    sites: Sequence[Site],
    plan: Plan,
    tick: Tick,
    ways: dict | None = None,
    answers: bool = True,
) -> Measured:
    """Effects of all sites, exactly, or of most heads by attribution and of the strongest exactly."""
    patcher = Patcher.of(model, pairs, sites, ways)
    first = patcher.attribute(sites)
    tick("gradients")
    run = np.ones(first.shape, dtype=bool)
    if plan.first_pass == "attribution":
        run = _short_list(first, pairs, sites)
    some = np.flatnonzero(run.any(0))
    scan = patcher.scan([sites[i] for i in some.tolist()], run[:, some], answers, tick)
    change, flipped = np.zeros(first.shape), np.zeros(first.shape, dtype=bool)
    change[:, some], flipped[:, some] = scan.change, scan.flipped
    return Measured(
        patcher, Scan(scan.clean, np.where(run, change, first), flipped), first, tuple(sites), run
    )


def _short_list(
    first: Float[np.ndarray, "n n_sites"], pairs: Pairs, sites: Sequence[Site]
) -> Bool[np.ndarray, "n n_sites"]:
    """The heads that attribution puts first for a row's attribute, and whatever is no head.

    Gradients take an MLP that everything goes through for one that does nothing, where LD is saturated; MLPs
    and whole hook points are few, so none is left to them.
    """
    heads = np.array([i for i, site in enumerate(sites) if site.head is not None], dtype=int)
    run = np.ones(first.shape, dtype=bool)
    run[:, heads] = False
    for rows in map(pairs.of, range(len(pairs.attributes))):
        mean = np.abs(first[rows][:, heads].sum(0))
        run[np.ix_(rows, heads[np.argsort(-mean, kind="stable")[:SHORT_LIST]])] = True
    return run


def _require_preference(select: Measured, task: Task, model: LanguageModel, plan: Plan) -> None:
    """What is found is measured in units of LD, so LD must be credibly above 0."""
    ld = select.boot.mean(select.scan.clean)
    assert isinstance(ld, Estimate), "a split without prompts is refused when it is written"
    low, high = ld.interval()
    if low <= 0 and not plan.allow_incompetent:
        raise IncompetentModelError(
            f"Model {model.name!r} does not prefer the right answers of task {task.name!r}: mean LD is"
            f" {float(ld):.3f} logits (95 % interval {low:.3f} to {high:.3f}). Expected a credibly positive one:"
            " there is no effect to look for. Use a model that can do the task."
        )


def _choose(part: Measured, candidates: Sequence[Site], scale: float, plan: Plan) -> Choice:
    single = part.effects(scale, candidates)
    return choose(part.patcher, candidates, single, part.scan.clean, part.boot, scale, plan.share)


def _find(name: str, select: Measured, test: Measured, candidates: Sequence[Site], plan: Plan) -> Found:
    """Chosen on the first draw of `select`, measured on `test`; the other draws and phrasings say how stable."""
    n, template = len(select.patcher.pairs), select.patcher.pairs.template
    # every draw has its share of the prompts, whatever their order
    draws = [np.arange(i, n, DRAWS) for i in range(DRAWS)]
    kinds = np.unique(template)
    halves = [np.flatnonzero(np.isin(template, kinds[i::2])) for i in range(2)] if len(kinds) > 1 else []
    scale = float(select.scan.clean.mean())
    chosen, *others = [_choose(select.of(rows), candidates, scale, plan) for rows in (*draws, *halves)]
    overlaps = [jaccard(chosen.sites, other.sites) for other in others]
    redraws, templates = tuple(overlaps[: DRAWS - 1]), tuple(overlaps[DRAWS - 1 :])
    names = tuple(map(str, chosen.sites))
    if not chosen.sites:
        return Found(attribute=name, sites=(), redraws=redraws, templates=templates, reason=chosen.reason)
    boot, clean = test.boot, test.scan.clean
    done, whole = (boot.mean(ld - clean) for ld in test.patcher.joint([chosen.sites, chosen.of]))
    assert isinstance(done, Estimate) and isinstance(whole, Estimate), "there are prompts"
    share = ratio(done, whole, "the whole effect cannot be told from none on `test`")
    known = isinstance(share, Estimate)
    return Found(
        attribute=name,
        sites=names,
        share=float(share) if known else None,
        ci=share.interval() if known else None,
        whole=float(whole) / float(clean.mean()),
        redraws=redraws,
        templates=templates,
        reason=chosen.reason if known else share.reason,
    )


def jaccard(one: Sequence[Site], other: Sequence[Site]) -> float:
    """Size of the intersection over that of the union; 1 for two empty sets."""
    both = set(one) | set(other)
    return len(set(one) & set(other)) / len(both) if both else 1.0


def _shown(name: str, test: Measured, scale: float) -> list[SiteEffect]:
    """Every site's effect on `test`."""
    found = test.effects(scale, test.sites)
    first, run = test.attribution.mean(0) / scale, set(np.flatnonzero(test.columns).tolist())
    return [
        SiteEffect(
            site=str(site),
            attribute=name,
            effect=float(found.value[i]) if i in run else None,
            ci=(float(found.low[i]), float(found.high[i])) if i in run else None,
            flipped=float(found.flipped[i]) if i in run else None,
            real=bool(found.real[i]),
            attribution=float(first[i]),
        )
        for i, site in enumerate(test.sites)
    ]


def _null(
    model: LanguageModel, pairs: Pairs, candidates: Sequence[Site], plan: Plan, scale: float, like: Measured
) -> list[Found]:
    """What is chosen where there is nothing, in units of the task's own LD."""
    measured = _measure(model, pairs, candidates, plan, lambda _: None, like.patcher.ways, answers=False)
    found = []
    for at, name in enumerate(pairs.attributes):
        if len(pairs.of(at)):
            chosen = _choose(measured.of(pairs.of(at)), candidates, scale, plan)
            found.append(Found(attribute=name, sites=tuple(map(str, chosen.sites)), reason=chosen.reason))
    return found


def _agreement(shown: Sequence[SiteEffect]) -> Agreement:
    """Rank correlation of sizes, and where one of the two says 5 % of LD and the other not half of that."""
    both = [(e, abs(e.effect), abs(e.attribution)) for e in shown if e.effect is not None]
    exact, first = np.array([(x, y) for _, x, y in both]).T
    varied = len(both) > 2 and np.ptp(exact) > 0 and np.ptp(first) > 0
    ranks = stats.rankdata(exact), stats.rankdata(first)
    rho = float(np.corrcoef(*ranks)[0, 1]) if varied else None
    apart = [
        (
            abs(x - y),
            f"{e.site} for {e.attribute}: {e.effect:.3f} exactly, {e.attribution:.3f} to first order",
        )
        for e, x, y in both
        if max(x, y) >= LEAST and min(x, y) < LEAST / 2
    ]
    words = tuple(text for _, text in sorted(apart, key=lambda pair: -pair[0]))
    return Agreement(rank_correlation=rho, n=len(both), disagreements=words)
