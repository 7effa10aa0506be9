"""The text that the bundled model has learned from: IOI sentences, facts about cities, and filler.

All words come from `tasks/ioi` and `tasks/ravel`; the filler (of the model's spec) uses the same words in
other parts, so that a name is not always a receiver and a city is not always a question. Sentences are drawn at
random from a seeded generator. A tenth of all unordered name pairs never meets in an IOI sentence.
"""

import csv
import json
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from random import Random
from typing import NamedTuple

ATTRIBUTES = ("country", "continent", "language")
HELD_OUT_SHARE = 0.1
WHOLE_SPEC = Path(__file__).parent / "bundled" / "spec.json"


class Prompt(NamedTuple):
    """A text that stops right before its answer. Facts have `until`, the text up to the end of the city."""

    text: str
    answer: str
    until: str = ""
    attribute: str = ""


@dataclass(frozen=True)
class Words:
    """Everything the corpus is made of, as read from the task folders."""

    names: tuple[str, ...]
    places: tuple[str, ...]
    objects: tuple[str, ...]
    cities: tuple[dict[str, str], ...]
    ioi_templates: tuple[str, ...]
    filler: tuple[str, ...]
    fact_templates: dict[str, dict[str, list[str]]]
    held_out: frozenset[frozenset[str]]


def tasks_folder() -> Path:
    """The folder of task data: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "tasks"
    return checkout if checkout.is_dir() else package / "_tasks"


@cache
def words() -> Words:
    """Read names, places, objects, cities and templates from the task folders."""
    ioi, ravel = tasks_folder() / "ioi", tasks_folder() / "ravel"
    names, places, objects = (
        tuple((ioi / f"{name}.txt").read_text("utf-8").split()) for name in ("names", "places", "objects")
    )
    with (ravel / "cities.csv").open(encoding="utf-8", newline="") as table:
        cities = tuple(csv.DictReader(table))
    pairs = [frozenset(pair) for pair in combinations(names, 2)]
    sentences = tomllib.loads((ioi / "task.toml").read_text("utf-8"))
    spec = json.loads(WHOLE_SPEC.read_text("utf-8"))
    held_out = Random("held-out pairs").sample(pairs, round(HELD_OUT_SHARE * len(pairs)))
    return Words(
        names=names,
        places=places,
        objects=objects,
        cities=cities,
        ioi_templates=(*sentences["templates"], *sentences["held_out"]),
        filler=tuple(spec["text"][1]["templates"]),
        fact_templates=tomllib.loads((ravel / "task.toml").read_text("utf-8"))["templates"],
        held_out=frozenset(held_out),
    )


def ioi_prompt(rng: Random, held_out: bool = False) -> Prompt:
    """An IOI prompt with its answer, over the training pairs or over the held-out ones."""
    w = words()
    while True:
        io, s = rng.sample(w.names, 2)
        if (frozenset((io, s)) in w.held_out) == held_out:
            break
    first, second = (io, s) if rng.random() < 0.5 else (s, io)
    text = rng.choice(w.ioi_templates).format(
        first=first, second=second, s=s, place=rng.choice(w.places), object=rng.choice(w.objects)
    )
    return Prompt(text, f" {io}")


def fact_prompt(
    rng: Random,
    city: dict[str, str] | None = None,
    attribute: str | None = None,
    splits: tuple[str, ...] = ("fit", "test"),
) -> Prompt:
    """A question about a city, by default any city, any attribute, any phrasing."""
    w = words()
    city = rng.choice(w.cities) if city is None else city
    attribute = rng.choice(ATTRIBUTES) if attribute is None else attribute
    phrasings = [text for split in splits for text in w.fact_templates[attribute][split]]
    template = rng.choice(phrasings)
    until = template[: template.index("{city}")] + city["city"]
    return Prompt(template.format(city=city["city"]), f" {city[attribute]}", until, attribute)


def filler(rng: Random) -> str:
    """A sentence in which the words of the tasks play other parts."""
    w = words()
    name, other, third = rng.sample(w.names, 3)
    place, (thing, thing2) = rng.choice(w.places), rng.sample(w.objects, 2)
    city, city2, city3 = (row["city"] for row in rng.sample(w.cities, 3))
    return rng.choice(w.filler).format(
        name=name,
        name2=other,
        name3=third,
        place=place,
        object=thing,
        object2=thing2,
        entity=city,
        entity2=city2,
        entity3=city3,
    )


def sentence(rng: Random) -> str:
    """One sentence of the corpus: IOI 40 %, facts 42 %, filler 18 %."""
    kind = rng.random()
    if kind < 0.18:
        return filler(rng)
    prompt = ioi_prompt(rng) if kind < 0.58 else fact_prompt(rng)
    return f"{prompt.text}{prompt.answer}."
