"""What a sweep is asked for: a TOML file, or names and globs; its shards.

    saes = ["demo:all", "runs/*/step_*", "control:all"]
    task = ["ioi", "ravel"]        # without: each SAE's own, or ioi
    seeds = [0, 1, 2]
    model = "demo"
    site = ["blocks.1.hook_resid_pre@end"]    # without: where each SAE was trained
    out = "saebench-results"
    budget = "standard"            # and every other option of `saebench evaluate`, by its name there

    [[part]]                       # as often as needed: what differs from the above
    model = "gpt2"
    saes = ["gpt2-small-res-jb/*"]

Globs are about files; a name of SAELens's stands as it is.
"""

import glob
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from saebench import demo
from saebench.errors import OptionError, unknown
from saebench.evaluation.batch import EVERY
from saebench.evaluation.options import Options, Request

_LISTS = {"saes": str, "task": str, "site": str, "seeds": int}
_TEXTS = ("model", "out")
_WILD = "*?["


def read(path: Path, given: Mapping[str, Any] = {}) -> list[Request]:
    """Requests of a file, one a part; `given` was said on the command line and goes first.

    Raises:
        OptionError: for a file that cannot be read, unknown keys, or values of the wrong kind.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(
            f"Cannot read the sweep {str(path)!r}: {error}. Expected a TOML file with saes = [...] in it"
            " (`saebench sweep --help` shows one)."
        ) from error
    parts = table.pop("part", None) or [{}]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise OptionError(f"{path}: `part` is {parts!r}. Expected tables, each headed [[part]].")
    return [request({**table, **part, **given}, str(path)) for part in parts]


def request(given: Mapping[str, Any], where: str = "The command line") -> Request:
    """The request of named values.

    Raises:
        OptionError: for unknown keys, or values of the wrong kind; `where` says whose.
    """
    options = {f.name for f in fields(Options)} - {"seed"}
    known = {*_LISTS, *_TEXTS, "force", *options}
    for name, value in given.items():
        if name not in known:
            raise OptionError(f"{where}: {unknown('key', name, known)}")
        _check(name, value, where)
    saes = _expanded(_listed(given.get("saes", ())))
    if not saes:
        raise OptionError(f"{where} names no dictionary. Expected saes = [...], for example ['demo:all'].")
    return Request(
        saes,
        tuple(_listed(given.get("task", ()))),
        given.get("model", "demo"),
        ",".join(_listed(given.get("site", ()))) or None,
        Path(given.get("out", "saebench-results")).expanduser(),
        given.get("force", False),
        Options.of({name: value for name, value in given.items() if name in options}),
        seeds=tuple(_listed(given.get("seeds", ()))),
        called=tuple(told_apart(saes).items()),
    )


def _check(name: str, value: Any, where: str) -> None:
    if name in _LISTS:
        kind = _LISTS[name]
        right = all(type(one) is kind for one in _listed(value))
        expected = f"a list of {'numbers' if kind is int else 'names'}"
    elif name in _TEXTS:
        right, expected = isinstance(value, str | Path), "a text"
    else:
        return
    if not right:
        raise OptionError(f"{where}: `{name}` is {value!r}. Expected {expected}.")


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _expanded(names: Sequence[str]) -> tuple[str, ...]:
    """Names with globs and `demo:all` written out, each once.

    Raises:
        OptionError: for a glob that nothing fits.
    """
    found: list[str] = []
    for name in names:
        if name == "demo:all":
            found += [f"demo:{one}" for one in demo.names()]
        elif any(sign in name for sign in _WILD) and not name.startswith("control:"):
            paths = sorted(glob.glob(str(Path(name).expanduser()), recursive=True))
            if not paths:
                raise OptionError(f"No file or folder fits {name!r}. Expected the paths of checkpoints.")
            found += paths
        else:
            found.append(name)
    return tuple(dict.fromkeys(found))


def told_apart(saes: Iterable[str]) -> dict[str, str]:
    """Names for paths whose last parts are the same: as many folders above as tell them apart.

    They follow from all paths of a request, so that its shards call everything alike.
    """
    parts = {name: Path(name).absolute().parts for name in saes if ":" not in name and Path(name).exists()}
    found = {}
    for name, mine in parts.items():
        same = [other for other in parts.values() if other[-1] == mine[-1]]
        length = 1
        while sum(other[-length:] == mine[-length:] for other in same) > 1 and length < len(mine):
            length += 1
        if length > 1:
            found[name] = "/".join(mine[-length:])
    return found


def shard(requests: Sequence[Request], number: int, of: int) -> list[Request]:
    """The part of a sweep that job `number` (from 1) of `of` does.

    Nothing is read for that: request × task × seed × dictionary, in this order, are cut into pieces of
    equal length, so that what shares a bench mostly stays together. A table's controls count as one;
    they are made from all its SAEs, which then stand beside.

    Raises:
        OptionError: for a number that there is not.
    """
    if not 1 <= number <= of:
        raise OptionError(f"There is no shard {number} of {of}. Expected 1/{of} to {of}/{of}.")
    cells = [
        (at, task, seed, sae)
        for at, each in enumerate(requests)
        for task in each.tasks or (None,)
        for seed in each.seeds or (each.options.seed,)
        for sae in each.saes
    ]
    mine = cells[(number - 1) * len(cells) // of : number * len(cells) // of]
    groups: dict[tuple[int, str | None, int], list[str]] = {}
    for at, task, seed, sae in mine:
        groups.setdefault((at, task, seed), []).append(sae)
    found = []
    for (at, task, seed), saes in groups.items():
        whole = requests[at]
        # controls stand where SAEs were trained, wherever those are scored
        placed = EVERY not in saes and whole.site not in (None, "all")
        alone = placed or not any(s.startswith("control:") for s in saes)
        beside = () if alone else tuple(s for s in whole.saes if s not in saes)
        tasks = whole.tasks if task is None else (task,)
        found.append(replace(whole, saes=tuple(saes), beside=beside, tasks=tasks, seeds=(seed,)))
    return found


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` as (2, 8).

    Raises:
        OptionError: for anything else.
    """
    number, slash, of = text.partition("/")
    if not (slash and number.isdigit() and of.isdigit() and int(of)):
        raise OptionError(f"Cannot read the shard {text!r}. Expected i/n, for example 3/8.")
    return int(number), int(of)
