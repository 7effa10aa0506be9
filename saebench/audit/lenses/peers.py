"""Peers: other scores against the same truth, beside ours."""

from collections.abc import Iterator

import pandas as pd

from saebench.audit.cards import Card, Question
from saebench.audit.correlations import Correlations
from saebench.audit.evidence import EXPLAINED, PEERS, Evidence, board_of
from saebench.audit.lenses.truth import defined

LENS = "peers"


def cards(evidence: Evidence) -> Iterator[Card]:
    for name in evidence.families:
        for end, frame in evidence.parts(name).items():
            yield from _cards(board_of(name), end, frame)


def _cards(board: str, end: str, frame: pd.DataFrame) -> Iterator[Card]:
    there = [peer for peer in (EXPLAINED, *PEERS) if defined(frame, peer)]
    found = Correlations(frame, there) if there else None
    for peer in (EXPLAINED, *PEERS):
        ask = Question(LENS, board, peer.split("/")[-1], "recovery" + end)
        got = found.interval(peer) if found is not None and peer in there else None
        if got is None:
            yield ask.missing("undefined for more than half of the SAEs, or not measured")
            continue
        reason = "the weaker of the rank correlations with matched cosine and feature F1, inside L0 bands"
        yield ask.stated(*got, reason, [f"truth.csv: {len(frame)} SAEs"])
