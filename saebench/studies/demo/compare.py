"""The bundled model and its sibling, figure by figure: where is the one that `saebench plant` trains worse?"""

MODELS = ("bundled", "sibling")
SAME = 0.005
"""Figures that differ by no more are called the same."""
SCORES = ("behaviour", "interchange", "kept", "complement", "decodable", "purity", "gradient_inside")
"""What certificates hold that has a better direction."""


def _directed(of: dict) -> dict[str, float]:
    """Every figure of a card that has a better direction, by name and turned so that more is better."""
    better = {f"accuracy, {name.replace('_', ' ')}": value for name, value in of["accuracy"].items()}
    for name, row in {**of["certificate"]["variables"], **of["certificate"]["answers"]}.items():
        for score in SCORES:
            if row.get(score) is not None:
                better[f"{name}, {score.replace('_', ' ')}"] = row[score]
    hook, swaps = next(iter(of["planted"].items()))
    for swap, answers in swaps.items():
        better |= {f"`{hook}@entity`, {swap} swapped, {a} asked": share for a, share in answers.items()}
    end = of["ioi_sites"][0]
    where = f"`{end['hook']}@{end['position']}`"
    better |= {f"{where}, effect of {a.upper()} (size)": abs(end["effect"][a]) for a in ("io", "s")}
    better |= {f"{where}, edit of {a.upper()}": end["edit"][a] for a in ("io", "s", "pos")}
    better[f"{where}, sufficiency (distance from 1)"] = -abs(1 - end["sufficiency"])
    for name, row in of.get("saes", {}).items():
        better |= {
            f"`{name}`, {score.replace('_', ' ')}": -row[score] for score in row if score.startswith("fvu")
        }
    better |= {f"mlp `{name}`, unexplained": -share for name, share in of.get("mlp_unexplained", {}).items()}
    return better


def comparison(notes: dict) -> str:
    """How often the sibling is the same or better, and each figure in which it is worse."""
    one, other = (_directed(notes[model]) for model in MODELS)
    one = {name: value for name, value in one.items() if name in other}
    better = [name for name in one if other[name] > one[name] + SAME]
    worse = [name for name in one if other[name] < one[name] - SAME]
    lines = [
        f"Of {len(one)} figures that have a better direction, {len(one) - len(better) - len(worse)} are the"
        f" same (within {SAME:g}), {len(better)} better in the sibling and {len(worse)} worse"
        + (":" if worse else "."),
        "",
        *(f"- {name}: {abs(one[name]):.3f}, sibling {abs(other[name]):.3f}" for name in worse),
    ]
    return "\n".join(lines).rstrip()
