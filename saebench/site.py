"""Where in the model an activation is read and replaced."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Site:
    """A hook point, a semantic position in the prompt, and optionally one attention head.

    Written `blocks.2.hook_resid_post@end`, or `blocks.2.attn.hook_z[3]@end` for a head.
    """

    hook: str
    position: str
    head: int | None = None

    @classmethod
    def parse(cls, text: str, default_position: str | None = None) -> "Site":
        """Reads a site; a missing position takes `default_position`.

        Raises:
            SiteError: if the text is not of that form or has no position.
        """
        match = _PATTERN.match(text)
        position = match and (match["position"] or default_position)
        if not match or not position:
            raise SiteError(
                f"Cannot read {text!r} as a site. Expected HOOK@POSITION, for example"
                " 'blocks.1.hook_resid_pre@end' (a single head: 'blocks.1.attn.hook_z[3]@end')."
                " `saebench tasks NAME` lists a task's positions."
            )
        return cls(match["hook"], position, int(match["head"]) if match["head"] else None)

    def __str__(self) -> str:
        head = f"[{self.head}]" if self.head is not None else ""
        return f"{self.hook}{head}@{self.position}"

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


def residual(hooks: Sequence[str]) -> list[str]:
    """Those of the residual stream, in order, every activation once.

    A block's `resid_post` is the next one's `resid_pre`, so only the last block's is kept.
    """
    known = [hook for hook in hooks if "hook_resid" in hook]
    return [hook for hook in known[:-1] if not hook.endswith("resid_post")] + known[-1:]
