"""Which sites of a model are tried, and which of them a set is made of."""

from collections.abc import Iterator, Sequence

from saebench.errors import SiteError, unknown
from saebench.models.language_model import SITE_HOOKS, LanguageModel
from saebench.site import Site, hook_point

HOOKS = ("hook_resid_pre", "attn.hook_z", "hook_mlp_out")
"""Hook points of a block that are tried: what enters it, its heads, its MLP."""
HEADS, MLP = "attn.hook_z", "hook_mlp_out"


def every_site(model: LanguageModel, positions: Sequence[str], hooks: Sequence[str] = HOOKS) -> list[Site]:
    """Each hook point at each position, and each head of those that have heads; the last block's end.

    In the order in which the model computes them.

    Raises:
        SiteError: for a hook point that blocks do not have.
    """
    for hook in hooks:
        if hook not in SITE_HOOKS:
            raise SiteError(unknown("hook point of a block", hook, SITE_HOOKS))
    ordered = [hook for hook in SITE_HOOKS if hook in hooks]
    names = [f"blocks.{layer}.{hook}" for layer in range(model.n_layers) for hook in ordered]
    names.append(f"blocks.{model.n_layers - 1}.hook_resid_post")
    there = [name for name in dict.fromkeys(names) if name in model.points]
    return [site for name in there for site in _at(model, name, positions)]


def _at(model: LanguageModel, hook: str, positions: Sequence[str]) -> Iterator[Site]:
    for position in positions:
        yield Site(hook, position)
        for head in range(model.heads(hook) or 0):
            yield Site(hook, position, head)


def components(sites: Sequence[Site]) -> list[Site]:
    """Every head's output and every MLP: what is added to the residual stream, each once."""
    return [s for s in sites if s.kind == MLP or (s.kind == HEADS and s.head is not None)]


def at_hook(model: LanguageModel, hook: str, positions: Sequence[str]) -> list[Site]:
    """The positions of one hook point (or head), where an SAE was trained.

    Raises:
        SiteError: if the model has no such hook point.
    """
    site = Site.parse(hook, positions[0])
    model.d_in(site.hook, site.head)
    return [Site(hook_point(site.hook), position, site.head) for position in positions]
