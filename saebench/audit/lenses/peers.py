"""Peers: other scores against the same truth, beside ours."""

from collections.abc import Iterator

from saebench.audit.cards import Card, Question
from saebench.audit.evidence import EXPLAINED, PEERS, Evidence, board_of
from saebench.audit.lenses.truth import Correlations, defined

LENS = "peers"


def cards(evidence: Evidence) -> Iterator[Card]:
    for name in evidence.families:
        frame = evidence.family(name)
        there = [peer for peer in (EXPLAINED, *PEERS) if defined(frame, peer)]
        found = Correlations(frame, there) if there else None
        for peer in (EXPLAINED, *PEERS):
            ask = Question(LENS, board_of(name), peer.split("/")[-1], "recovery")
            got = found.interval(peer) if found is not None and peer in there else None
            if got is None:
                yield ask.missing("undefined for more than half of the SAEs, or not measured")
                continue
            reason = "the weaker of the rank correlations with matched cosine and feature F1, inside L0 bands"
            yield ask.stated(*got, reason, [f"truth.csv: {len(frame)} SAEs"])
