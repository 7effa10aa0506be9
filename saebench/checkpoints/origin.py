"""Where a checkpoint was published, as far as its path says.

A path counts only in its published part, by whole folder names, the last match first: what else a
path holds (`…/embedding-study/…`, a layer's number in a parent folder) is the reader's own naming.
The path is taken as it was given, since files of the Hugging Face cache are links to nameless blobs.
"""

import re
from pathlib import Path
from typing import NamedTuple

_CACHED = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>.+)")


class Published(NamedTuple):
    """A repository's name that a pattern fits, and the folders and file inside of it."""

    repository: re.Match[str]
    inside: tuple[str, ...]

    def last(self, pattern: str) -> re.Match[str] | None:
        """The last folder or file inside whose whole name fits."""
        return _last(pattern, self.inside)


class Origin(NamedTuple):
    """A path as it was given: the hub's repository, where it lies in the hub's cache, and the rest."""

    repository: str | None
    """`owner/name`; None outside the hub's cache."""
    parts: tuple[str, ...]
    """Folders and file inside the repository; the whole absolute path outside the cache."""
    followed: tuple[str, ...] = ()
    """The same path with links to folders followed, outside the cache."""

    @classmethod
    def of(cls, path: Path) -> "Origin":
        here = path.expanduser().absolute()
        # a link to a folder of the cache, or of a download: folders may be followed, files not
        followed = (here.resolve() if here.is_dir() else here.parent.resolve() / here.name).parts
        return _in_cache(here.parts) or _in_cache(followed) or cls(None, here.parts, followed)

    def published(self, pattern: str) -> Published | None:
        """The repository whose whole name (without its owner) fits, and what lies inside."""
        named = (self.repository.split("/")[-1], *self.parts) if self.repository else self.parts
        for parts in (named, self.followed):
            for at in reversed(range(len(parts))):
                if match := re.fullmatch(pattern, parts[at]):
                    return Published(match, parts[at + 1 :])
        return None

    def last(self, pattern: str) -> re.Match[str] | None:
        """The last folder or file whose whole name fits."""
        return _last(pattern, self.parts)


def _last(pattern: str, parts: tuple[str, ...]) -> re.Match[str] | None:
    found = (re.fullmatch(pattern, part) for part in reversed(parts))
    return next((match for match in found if match), None)


def _in_cache(parts: tuple[str, ...]) -> Origin | None:
    """`…/models--owner--name/snapshots/REVISION/…`, as the hub's client lays its cache out."""
    for at in reversed(range(len(parts) - 2)):
        match = _CACHED.fullmatch(parts[at])
        if match and parts[at + 1] == "snapshots":
            return Origin(f"{match['owner']}/{match['name']}", parts[at + 3 :])
    return None


# Names that tools give to folders and files of every run alike: alone they tell nothing apart.
_ALIKE = re.compile(
    r"((trainer|final|best|latest|last|average_l0|canonical|seed|step|epoch|checkpoint|ckpt|layer|layers|h|width|ae|sae"
    r"|sae_weights|weights|model|params|run|version|samples|resid_post|resid_pre|mlp_out|attn_out|transcoder|embedding)"
    r"s?([-_.]?(\d+\w*|canonical|all))*|\d+|blocks\.\d+\..+|(layers|h)\.\d+(\.\w+)?|layer_\d+_width_.*)(\.[a-z]+){0,2}"
)


def display_name(path: Path) -> str:
    """The last folders of a path, as many as it takes to reach one whose name is its own.

    `runs/topk/trainer_0` is `topk/trainer_0`; in the hub's cache the repository comes first.
    """
    parts = [part for part in Origin.of(path).parts if part != "/"]
    if repository := Origin.of(path).repository:
        return "/".join((repository, *parts))
    first = len(parts) - 1
    while first > 0 and _ALIKE.fullmatch(parts[first]):
        first -= 1
    return "/".join(parts[first:])
