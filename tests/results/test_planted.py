"""The committed results on planted models hold the theorems on every model that was scored."""

import pandas as pd
import pytest
from paths import RESULTS

from saebench.studies.audit.summary import shown
from saebench.studies.planted import effects, zoo

FOLDER = RESULTS / "planted"
BELOW = {
    # "none" is answered from the mean activation too: LD over mean ablation divides by little
    ("approximation_normalized", "superposition-100"),
    ("approximation_normalized", "superposition-150"),
    # atoms overlap, and so does what their latents fire on
    ("atom_f1", "superposition-150"),
}
"""Where the oracle stays below a ceiling, with the reason; results/planted/README.md says the same."""
ABOVE = {
    # only the loud variable is credibly there, and random latents read six large classes a little
    ("interpretability_normalized", "norm-8"),
    # what follows the loud variable is read with it
    ("interpretability_normalized", "hidden-follower"),
}
"""Where random latents stay above a floor."""
COLUMNS = ("recovery: subspace overlap", "approximation", "control", "interpretability", "over-splitting")
LEVELS = {
    "dependence: never → half": ("dependence", "half"),
    "dependence: never → always": ("dependence", "always"),
    "superposition: .5 → 1": ("superposition", "1"),
    "superposition: .5 → 1.5 (seed 0)": ("superposition", "1.5"),
    "norm of colour: 1 → 4": ("norm", "4"),
    "norm of colour: 1 → 8": ("norm", "8"),
    "rank of eight values: 7 → 4": ("rank", "4"),
    "rank of eight values: 7 → 2": ("rank", "2"),
    "two copies (to plain)": ("kind", "two copies"),
    "conjunction (to plain)": ("kind", "conjunction"),
    "a circle (to plain)": ("kind", "circle"),
}
"""Rows of the page's table of dials, and where `changes.csv` has them."""


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return effects.read(FOLDER)


def test_the_oracle_is_at_the_ceiling_of_every_axis(scores: pd.DataFrame):
    oracle = scores[scores.dictionary == "oracle"].set_index("model")
    assert set(oracle.index) == set(scores.model)
    for column in effects.SCORES:
        found = oracle[column].dropna()
        # the model's own noise is no part of the truth: approximation is of the whole activation
        least = 0.95 if column.startswith("approximation") else 0.97
        assert {(column, model) for model in found.index[found < least]} == {
            (score, model) for score, model in BELOW if score == column
        }


def test_random_latents_are_at_the_floor(scores: pd.DataFrame):
    random = scores[scores.dictionary == "random:8:256"].set_index("model")
    assert set(random.index) == set(scores.model)
    for column in ("interpretability_normalized", "oversplitting_normalized", *effects.RECOVERY[:2]):
        high = random.index[random[column].abs() >= 0.15]
        assert {(column, model) for model in high} == {pair for pair in ABOVE if pair[0] == column}


def test_the_table_of_changes_is_what_the_scores_say(scores: pd.DataFrame):
    committed = pd.read_csv(FOLDER / "changes.csv", dtype={"from": str, "to": str})
    again = pd.DataFrame(list(effects.changes(scores)))
    keys = ["dial", "from", "to", "score"]
    both = committed.merge(again, on=keys, suffixes=("", "_again"))
    assert len(both) == len(committed) == len(again)
    assert (both.change - both.change_again).abs().max() < 1e-3


@pytest.mark.parametrize("title", LEVELS)
def test_the_page_says_of_a_dial_what_the_table_of_changes_does(title: str):
    dial, to = LEVELS[title]
    changes = pd.read_csv(FOLDER / "changes.csv", dtype={"from": str, "to": str})
    of = changes[(changes.dial == dial) & (changes.to == to)].set_index("score").loc[list(COLUMNS)]
    cells = [
        f"{'+' if change > 0 else ''}{rounded(change)} [{rounded(low)}, {rounded(high)}]"
        for change, low, high in of[["change", "low", "high"]].itertuples(index=False)
    ]
    assert f"| {title} | {' | '.join(cells)} |" in (FOLDER / "README.md").read_text("utf-8")


def rounded(value: float) -> str:
    """Two decimals, and a third where two would hide the sign."""
    return shown(value) if round(value, 2) else f"{value:.3f}".replace("-", "−").replace("0.", ".")


def test_every_dial_names_models_of_the_zoo():
    for dial in effects.DIALS.values():
        assert set(dial.levels) <= set(zoo.names())


def test_where_das_has_less_than_nine_tenths_answers_need_less_than_all():
    """README: the rest, swapped alone, moves no answer, and of what is needed DAS has more."""
    why, das = pd.read_csv(FOLDER / "das-why.csv"), pd.read_csv(FOLDER / "das.csv")
    both = das.merge(why, on=["model", "variable"], suffixes=("", "_again"))
    assert len(both) == len(das) == len(why)
    assert (both.overlap - both.overlap_again).abs().max() < 1e-3
    means: pd.DataFrame = why.groupby("model")[["overlap", "overlap_needed", "planted_rank", "needed"]].mean()
    below = means[means.overlap < 0.9]
    assert len(below) > 3 and (below.needed < below.planted_rank).all()
    assert (below.overlap_needed >= below.overlap).all() and (below.overlap_needed > below.overlap).any()
    # with a copy, half of the source's answers is all that a swap at the entity is to give
    once = why[why.model != "copies"]
    assert once.right_needed.min() >= 0.99 and once.right_das.min() >= 0.94
    assert once[~once.model.str.startswith("superposition-100")].kept_rest.min() > 0.98


def test_das_finds_a_part_of_the_truth_unless_a_variable_is_loud():
    """README: of its edit the part inside moves the answers; a loud variable's needs what lies outside too."""
    why, models = pd.read_csv(FOLDER / "das-why.csv"), pd.read_csv(FOLDER / "models.csv")
    both = why.merge(models[["model", "variable", "norm"]], on=["model", "variable"])
    assert len(both) == len(why)
    assert (both.inside + both.in_others + both.outside - 1).abs().max() < 1e-3
    alike, loud = both[both.norm == 1], both[both.norm >= 4].set_index("model")
    assert (alike.right_das - alike.right_inside).max() < 0.05 and alike.right_rest.max() < 0.02
    illusion = loud.loc[["norm-4", "norm-8"]]
    assert (illusion.right_das > 0.9).all() and (illusion[["right_inside", "right_rest"]] < 0.6).all(
        axis=None
    )


def test_what_the_specs_ask_is_what_certificates_measure():
    """Norm and rank within a tenth and exactly, on every certified model; dependence rises as asked."""
    models = pd.read_csv(FOLDER / "models.csv")
    carried = models[models.certified & (models["rank"] > 0)]
    assert (carried.measured_rank == carried["rank"]).all()
    assert (carried.measured_norm / carried.norm - 1).abs().max() < 0.03
    assert set(carried[carried.norm > 1].model) == {"norm-2", "norm-4", "norm-8", "hidden-follower"}
    pairs = models.dropna(subset=["dependence"]).drop_duplicates("model").set_index("model").dependence
    asked = ["dependence-half", "dependence-most", "dependence-nested", "dependence-full"]
    assert pairs.reindex(asked).is_monotonic_increasing and pairs["dependence-full"] == 1
    crowded = models.drop_duplicates("model").set_index("model")
    for name in ("superposition-050", "superposition-100", "superposition-150", "superposition-200"):
        assert crowded.superposition[name] == int(name[-3:]) / 100
        assert (crowded.coherence[name] > 0.01) == (crowded.superposition[name] > 1)
