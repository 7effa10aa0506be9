"""How far do scores move that must not? `python -m saebench.studies.audit.margin` measures it.

Latents that are on everywhere and write nothing change what no score looks at; but the matched null has as
many latents as a dictionary, so each of them redraws its directions and with them the floor. How far SAEs with
one to eight such latents lead over themselves is what chance alone gives a cheat that is made from an SAE:
`saebench.audit.thresholds.ORDERING_MARGIN` is set from it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

MOST = 8
AXES = ("interpretability", "oversplitting")
"""The axes with a matched null for a floor; what has none does not move at all."""


def rows() -> Iterator[dict[str, Any]]:
    """The headlines of every changed SAE with 0 to `MOST` idle latents more, on IOI and RAVEL."""
    from saebench.audit.cheats import AlwaysOn
    from saebench.audit.stand import Stand
    from saebench.scoring.estimates import Estimate
    from saebench.studies.audit.boards import CHANGED, NULL_SITES

    for task in NULL_SITES:
        stand = Stand(task, "demo", 0, "quick", light=True)
        for name in CHANGED:
            made = stand.dictionary(name)
            for latents in range(MOST + 1):
                headlines = stand.headlines(made, AXES)
                for axis, headline in headlines.items():
                    assert isinstance(headline.normalized, Estimate), "defined for bundled SAEs"
                    value = float(headline.normalized)
                    yield {"task": task, "sae": name, "idle_latents": latents, "axis": axis, "value": value}
                made = AlwaysOn(made)


def main() -> None:
    from saebench.records.files import write_text

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/audit/margin.csv"))
    out = parser.parse_args().out
    frame = pd.DataFrame(rows())
    write_text(out, frame.to_csv(index=False, float_format="%.9g"))
    print(leads(frame).to_string())


def leads(frame: pd.DataFrame) -> pd.DataFrame:
    """The largest lead over the SAE itself, of every SAE: on each axis, and in the mean of three axes.

    The third, control, has no null for a floor.
    """
    apart = frame.pivot(index=["task", "sae", "idle_latents"], columns="axis", values="value")
    apart["ordering"] = apart[list(AXES)].sum(axis=1) / 3
    lead = apart - apart.groupby(["task", "sae"]).transform("first")
    return lead.loc[lead.index.get_level_values("idle_latents") > 0].groupby(["task", "sae"]).max()


if __name__ == "__main__":
    main()
