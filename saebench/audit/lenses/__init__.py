"""The eight lenses (docs/methods.md §12): each turns evidence into cards."""

from collections.abc import Callable, Iterator

from saebench.audit.cards import Card
from saebench.audit.evidence import Evidence
from saebench.audit.lenses import (
    convergence,
    gaming,
    order,
    peers,
    repeatability,
    separation,
    specificity,
    truth,
)

__all__ = ["LENSES"]

LENSES: dict[str, Callable[[Evidence], Iterator[Card]]] = {
    "order": order.cards,
    "truth": truth.cards,
    "specificity": specificity.cards,
    "separation": separation.cards,
    "repeatability": repeatability.cards,
    "convergence": convergence.cards,
    "gaming": gaming.cards,
    "peers": peers.cards,
}
