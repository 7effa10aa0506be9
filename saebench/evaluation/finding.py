"""Where nobody says where to score: the sites that discovery chooses, and what it says of them."""

import sys
from collections.abc import Iterator, Sequence

from saebench.cache.code import code
from saebench.errors import SiteError
from saebench.evaluation.options import Options
from saebench.evaluation.sources import Source
from saebench.records.discovery import Discovery
from saebench.records.memo import Memo
from saebench.reporting.text import number
from saebench.site import Site
from saebench.spec import Task


def find_sites(task: Task, source: Source, options: Options, hooks: Sequence[str | None]) -> list[Site]:
    """The sites of each attribute, edited together; at the hook points of SAEs, only their positions.

    Chosen by `saebench discover` on `select` of seed 0, whatever the seed of the evaluation, so that seeds
    are compared at the same sites; remembered while model, task and code stay. What was chosen is said on
    stderr.

    Raises:
        SiteError: if no attribute acts anywhere.
        IncompetentModelError: if the model does not prefer the right answers.
    """
    chosen: list[str] = []
    for hook in dict.fromkeys(filter(None, hooks)) or [None]:
        sites, words = _search(task, source, options, hook)
        for line in words:
            print(line, file=sys.stderr)
        chosen += sites
    if not chosen:
        raise SiteError(
            f"No site to score at: task {task.name!r} has no default site for model {source.name!r}, and discovery"
            " finds none at which an attribute acts. Add --site HOOK@POSITION, for example --site"
            f" blocks.1.hook_resid_pre@{task.spec.positions[-1]}."
        )
    return [Site.parse(text) for text in dict.fromkeys(chosen)]


def _search(task: Task, source: Source, options: Options, hook: str | None) -> tuple[list[str], list[str]]:
    """Sites as text, and lines that say what they are."""
    from saebench.discovery.run import NUMBERS, STAGES, Plan
    from saebench.evaluation.discovering import search_model
    from saebench.models.language_model import LanguageModel
    from saebench.reporting.progress import progress

    budget = options.budget if options.budget in NUMBERS else "quick"
    made_by = code(
        "discovery", "kinds", "patching", "scoring", libraries=("transformers", "transformer-lens")
    )
    facts = {"model": source.facts.sha256, "task": task.sha256, "dtype": source.dtype, "code": made_by}
    memo = Memo("sites", (), hook=hook, budget=budget, **facts)
    known = memo.recall()
    if known is None:
        model = source.model
        assert isinstance(model, LanguageModel), "what generates its data has one site"
        plan = Plan(budget, hook=hook, allow_incompetent=options.allow_incompetent)
        with progress(len(STAGES), f"no default site: sites of {task.name} in {source.name}") as steps:
            found = search_model(task, model, plan, steps.begin, steps.detail)
        known = {"sites": list(_joined(found)), "words": list(_words(found, hook))}
        memo.keep(known)
    return known["sites"], known["words"]


def _joined(found: Discovery) -> Iterator[str]:
    for each in found.found:
        if each.sites:
            yield str(Site.joined([Site.parse(site) for site in each.sites]))


def _words(found: Discovery, hook: str | None) -> Iterator[str]:
    where = f"at {hook}" if hook else "among heads and MLPs"
    yield f"no --site, and {found.task} has no default for {found.model}: discovery chose, {where}"
    for each in found.found:
        if each.sites:
            share = "" if each.share is None else f" ({number(each.share, 2)} of its whole effect)"
            yield f"  {each.attribute}: {' & '.join(each.sites)}{share}"
        else:
            yield f"  {each.attribute}: none ({each.reason})"
