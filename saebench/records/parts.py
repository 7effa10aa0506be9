"""Outcomes at each of several sites beside those of their joint edit, in one table.

A part's columns and facts stand under `AXIS@SITE`, and the splits of its own latents under `SPLIT@SITE`.
"""

from dataclasses import replace

from saebench.records.outcomes import OWN, Key, Outcomes

_AT = "@"


def flat(outcomes: Outcomes) -> Outcomes:
    """The outcomes with those of their parts as columns of the same table."""
    whole = replace(
        outcomes,
        cluster=dict(outcomes.cluster),
        columns=dict(outcomes.columns),
        facts=dict(outcomes.facts),
        parts={},
    )
    for site, part in outcomes.parts.items():
        for split, cluster in part.cluster.items():
            whole.cluster = {**whole.cluster, _split(split, site): cluster}
        whole.columns |= {_under(key, site): column for key, column in part.columns.items()}
        whole.facts |= {_under(key, site): value for key, value in part.facts.items()}
    return whole


def parted(whole: Outcomes) -> Outcomes:
    """The outcomes of a joint edit with its parts apart again; without any parts the same."""
    sites = list(dict.fromkeys(key.axis.partition(_AT)[2] for key in (*whole.columns, *whole.facts)))
    sites = [site for site in sites if site]
    if not sites:
        return whole
    own = {name: cluster for name, cluster in whole.cluster.items() if _AT not in name}
    shared = {name: cluster for name, cluster in own.items() if name not in OWN}
    parts = {}
    for site in sites:
        mine = {
            name.partition(_AT)[0]: cluster
            for name, cluster in whole.cluster.items()
            if name.partition(_AT)[2] == site
        }
        columns = {_out_of(k): v for k, v in whole.columns.items() if k.axis.partition(_AT)[2] == site}
        facts = {_out_of(k): v for k, v in whole.facts.items() if k.axis.partition(_AT)[2] == site}
        parts[site] = replace(whole, cluster={**shared, **mine}, columns=columns, facts=facts, headlines={})
    return replace(
        whole,
        cluster=own,
        columns={k: v for k, v in whole.columns.items() if _AT not in k.axis},
        facts={k: v for k, v in whole.facts.items() if _AT not in k.axis},
        parts=parts,
    )


def _split(split: str, site: str) -> str:
    return f"{split}{_AT}{site}" if split in OWN else split


def _under(key: Key, site: str) -> Key:
    return key._replace(axis=f"{key.axis}{_AT}{site}", split=_split(key.split, site))


def _out_of(key: Key) -> Key:
    return key._replace(axis=key.axis.partition(_AT)[0], split=key.split.partition(_AT)[0])
