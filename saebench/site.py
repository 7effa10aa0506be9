"""Where in the model an activation is read and replaced."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from saebench.errors import SiteError

_PATTERN = re.compile(r"^(?P<hook>[A-Za-z0-9_.]+)(\[(?P<head>\d+)\])?(@(?P<position>[A-Za-z0-9_+]+))?$")
_BLOCK = re.compile(r"^blocks\.(\d+)\.")
# The order in which a block computes its hook points; sites sort by it.
_ORDER = (
    "hook_resid_pre",
    "hook_q",
    "hook_k",
    "hook_v",
    "hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "hook_mlp_out",
    "hook_resid_post",
)


# Hugging Face's lists of blocks, and what lies in a block, in TransformerLens' terms.
_BLOCKS = r"(?:(?:language_)?model\.|transformer\.|gpt_neox\.|base_model\.)*(?:layers|h|blocks)[._](\d+)"
_MODULES = {
    "": "hook_resid_post",
    "output": "hook_resid_post",
    "hook_out": "hook_resid_post",
    "input": "hook_resid_pre",
    "hook_in": "hook_resid_pre",
    "hook_q": "attn.hook_q",
    "hook_k": "attn.hook_k",
    "hook_v": "attn.hook_v",
    "hook_z": "attn.hook_z",
    "attn.o.hook_in": "attn.hook_z",
    "attn.hook_out": "hook_attn_out",
    "mlp": "hook_mlp_out",
    "mlp.output": "hook_mlp_out",
    "mlp.hook_out": "hook_mlp_out",
    "attn": "hook_attn_out",
    "attention": "hook_attn_out",
    "self_attn": "hook_attn_out",
    "self_attn.output": "hook_attn_out",
    "self_attn.o_proj.input": "attn.hook_z",
    "attn.c_proj.input": "attn.hook_z",
    "post_feedforward_layernorm.output": "hook_mlp_out",
    "pre_feedforward_layernorm.output": "ln2.hook_out",
    "mlp.input": "mlp.hook_in",
}


def hook_point(name: str) -> str:
    """TransformerLens' name of a hook point that is given by another tool's.

    `model.layers.3`, `gpt_neox.layers.3`, `h.3` and the bridge's `blocks.3.hook_out` are
    `blocks.3.hook_resid_post`; `layers.3.mlp` is `blocks.3.hook_mlp_out`. What is not known stays.
    """
    match = re.fullmatch(_BLOCKS + r"(?:\.(.+))?", name)
    inside = _MODULES.get(match[2] or "") if match else None
    if match and name.startswith("blocks.") and match[2] in ("attn", "mlp", None):
        return name
    return f"blocks.{match[1]}.{inside}" if match and inside else name


@dataclass(frozen=True)
class Site:
    """A hook point, a semantic position in the prompt, and optionally one attention head.

    Written `blocks.2.hook_resid_post@end`, or `blocks.2.attn.hook_z[3]@end` for a head; several that are
    edited together with `&` between them.
    """

    hook: str
    position: str
    head: int | None = None
    beside: tuple["Site", ...] = ()
    """Further sites, edited together with this one."""

    @classmethod
    def parse(cls, text: str, default_position: str | None = None) -> "Site":
        """Reads a site; a missing position takes `default_position`.

        Hugging Face's names of modules and the bridge's own are translated (see `hook_point`).

        Raises:
            SiteError: if the text is not of that form or has no position.
        """
        if "&" in text:
            return cls.joined([cls.parse(part.strip(), default_position) for part in text.split("&")])
        match = _PATTERN.match(text)
        position = match and (match["position"] or default_position)
        if not match or not position:
            raise SiteError(
                f"Cannot read {text!r} as a site. Expected HOOK@POSITION, for example"
                " 'blocks.1.hook_resid_pre@end' (a single head: 'blocks.1.attn.hook_z[3]@end'; several edited"
                " together: A@end & B@end)."
                " `saebench tasks NAME` lists a task's positions."
            )
        return cls(hook_point(match["hook"]), position, int(match["head"]) if match["head"] else None)

    @classmethod
    def joined(cls, sites: Sequence["Site"]) -> "Site":
        """Sites that are edited together; of one it is that one.

        Raises:
            SiteError: if one of them occurs twice, by itself or as a head of another.
        """
        seen: set[Site] = set()
        for site in sites:
            heads = any(other.whole == site for other in seen)
            if site in seen or site.whole in seen or (site.head is None and heads):
                raise SiteError(
                    f"{site} occurs twice among sites that are edited together. Expected it once."
                )
            seen.add(site)
        return replace(sites[0], beside=tuple(sites[1:]))

    @property
    def parts(self) -> tuple["Site", ...]:
        """The sites that are edited together, in order; of one site itself."""
        return (replace(self, beside=()), *self.beside)

    def __str__(self) -> str:
        return " & ".join(f"{part.place}@{part.position}" for part in self.parts)

    @property
    def place(self) -> str:
        """Hook point and head, as a dictionary names where it was trained."""
        names = (part.hook + (f"[{part.head}]" if part.head is not None else "") for part in self.parts)
        return " & ".join(names)

    @property
    def whole(self) -> "Site":
        """The same place with all of its heads."""
        return replace(self, head=None)

    @property
    def kind(self) -> str:
        """What the hook point is within its block: `hook_resid_pre`, `attn.hook_z`."""
        return _BLOCK.sub("", self.hook)

    @property
    def layer(self) -> int | None:
        """The block's index, or None for a hook point outside the blocks."""
        match = _BLOCK.match(self.hook)
        return int(match[1]) if match else None

    def sort_key(self) -> tuple[int, int, int, str]:
        """Sites in the order in which the model computes them."""
        name = self.hook.rsplit(".", 1)[-1]
        order = _ORDER.index(name) if name in _ORDER else len(_ORDER)
        return (self.layer or 0, order, -1 if self.head is None else self.head, self.position)


def same_place(one: str, other: str) -> bool:
    """Whether two names stand for one activation: a block's `resid_post` is the next one's `resid_pre`."""
    return _as_input(one) == _as_input(other)


def _as_input(place: str) -> str:
    match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", place)
    return f"blocks.{int(match[1]) + 1}.hook_resid_pre" if match else place


def residual(hooks: Sequence[str]) -> list[str]:
    """Those of the residual stream, in order, every activation once.

    A block's `resid_post` is the next one's `resid_pre`, so only the last block's is kept.
    """
    known = [hook for hook in hooks if "hook_resid" in hook]
    return [hook for hook in known[:-1] if not hook.endswith("resid_post")] + known[-1:]


class Span(NamedTuple):
    """The columns of one of several sites whose activations lie side by side."""

    site: str
    start: int
    stop: int

    @property
    def columns(self) -> slice:
        return slice(self.start, self.stop)
