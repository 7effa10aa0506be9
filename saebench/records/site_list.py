"""Lists of sites, and maps from sites to checkpoints, as people keep them: TOML, or a folder of checkpoints."""

import tomllib
from pathlib import Path
from typing import Any

from saebench.errors import SiteError
from saebench.site import Site

_SITES = (
    'Expected [sites] with lines such as heads = ["blocks.9.attn.hook_z[6]@end", "blocks.9.attn.hook_z[9]@end"]:'
    " `saebench discover` writes such a list."
)
_MAP = (
    'Expected [dictionaries] with lines such as "blocks.9.attn.hook_z[6]" = "saes/9.6": a site, a head or a hook'
    " point, and the checkpoint that stands there."
)


def read_sites(path: Path) -> list[Site]:
    """The sites of a list; every entry is one site, or several that are edited together.

    Raises:
        SiteError: if the file cannot be read or is no such list.
    """
    if path.is_dir():
        raise SiteError(
            f"{path} is a folder. {_SITES} A folder of checkpoints that are named by sites is what is scored:"
            f" `saebench evaluate {path} --sites FILE`."
        )
    table = _table(path, "sites", _SITES)
    found = []
    for name, sites in table.items():
        texts = [sites] if isinstance(sites, str) else sites
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise SiteError(f"{path}: {name} is {sites!r}. {_SITES}")
        found.append(Site.joined([part for text in texts for part in Site.parse(text).parts]))
    # attributes may well act at the same sites
    return list(dict.fromkeys(found))


def read_map(path: Path) -> dict[str, str] | None:
    """Checkpoints by site, head or hook point, of a TOML file or a folder; None for what is neither.

    A folder is one if what lies in it is named by sites; paths in a file start at the file.

    Raises:
        SiteError: if a TOML file cannot be read or holds no such map.
    """
    if path.is_dir():
        inside = {child.name: str(child) for child in sorted(path.iterdir()) if _is_place(child.name)}
        return inside or None
    if path.suffix != ".toml":
        return None
    table = _table(path, "dictionaries", _MAP)
    for place, target in table.items():
        if not isinstance(target, str) or not _is_place(place):
            raise SiteError(f"{path}: [dictionaries] says {place!r} = {target!r}. {_MAP}")
    return {place: _from(path.parent, target) for place, target in table.items()}


def _is_place(name: str) -> bool:
    try:
        return name.startswith("blocks.") and bool(Site.parse(name, "end").position)
    except SiteError:
        return False


def _from(folder: Path, target: str) -> str:
    """A path that starts at the file, where there is one; else a name as it stands."""
    return str(folder / target) if (folder / target).exists() else target


def _table(path: Path, name: str, expected: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get(name)
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"Cannot read {str(path)!r} ({type(error).__name__}). {expected}") from error
    except tomllib.TOMLDecodeError as error:
        raise SiteError(f"{path} is not valid TOML: {error}. {expected}") from error
    if not isinstance(table, dict) or not table:
        raise SiteError(f"{path} has no [{name}]. {expected}")
    return table
