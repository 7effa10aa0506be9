"""Tables are ordered by the axes that deserve it on their board, and say which."""

import json

import pytest
import simulated

from saebench.errors import ResultError
from saebench.records.result import AxisScore
from saebench.reporting.ordering import Verdict, Verdicts, board_title, ordering, read_verdicts


def board(**axes: list[float]):
    """Three SAEs whose axes differ, but for those given."""
    results = []
    for i in range(3):
        values = {axis: simulated.axis_score(0.2 + 0.3 * i) for axis in simulated.AXES}
        values |= {axis: simulated.axis_score(given[i]) for axis, given in axes.items()}
        results.append(simulated.result(i, axes=values))
    return results


def test_every_axis_orders_where_all_tell_dictionaries_apart():
    found = ordering(board())
    assert found.by == tuple(simulated.AXES) and not found.greyed and not found.audited
    assert "Not audited" in found.sentence


@pytest.mark.parametrize(("end", "named"), [(0.0, "floor"), (1.0, "ceiling")])
def test_an_axis_on_which_all_are_at_one_end_is_greyed(end: float, named: str):
    found = ordering(board(occlusion=[end, end + 0.01, end - 0.01]))
    assert "occlusion" not in found.by and named in found.greyed["occlusion"]
    # its twin: one of them is credibly elsewhere
    assert "occlusion" in ordering(board(occlusion=[end, end, 0.5])).by


def test_an_axis_undefined_for_every_sae_is_greyed_with_its_reason():
    results = board()
    nothing = AxisScore(n=60, reason="nothing to hide")
    results = [r.model_copy(update={"axes": {**r.axes, "occlusion": nothing}}) for r in results]
    assert ordering(results).greyed["occlusion"] == "nothing to hide"


def verdicts(board: bool) -> Verdicts:
    return Verdicts({"control": Verdict(False, "a cheat wins")}, board)


def test_what_the_audit_fails_on_every_board_orders_none():
    found = ordering(board(), verdicts(False))
    assert "control" not in found.by and not found.audited
    assert "Not by control: a cheat wins." in found.sentence and "Not audited on this board" in found.sentence


def test_what_the_audit_fails_is_not_ordered_by():
    results = board(control=[0.9, 0.1, 0.5])
    by_all, without = ordering(results), ordering(results, verdicts(True))
    assert without.audited and without.greyed == {"control": "a cheat wins"}
    assert "Not by control: a cheat wins." in without.sentence
    assert by_all.merit(results[0]) == pytest.approx((4 * 0.2 + 0.9) / 5)
    assert without.merit(results[0]) == pytest.approx(0.2)
    nothing = results[0].model_copy(update={"axes": {**results[0].axes, "occlusion": AxisScore(reason="x")}})
    assert by_all.merit(nothing) is None and by_all.place(nothing) > by_all.place(results[1])


def test_verdicts_are_those_of_the_board(tmp_path):
    path, title = tmp_path / "after.json", board_title(board()[0])
    assert read_verdicts(title, path) is None
    content = {"boards": {title: {"axes": {"control": {"passes": False, "reason": "no"}}}}}
    path.write_text(json.dumps(content))
    assert read_verdicts(title, path) == Verdicts({"control": Verdict(False, "no")}, True)
    assert read_verdicts("another", path) == Verdicts({}, False)
    path.write_text(json.dumps(content | {"everywhere": {"occlusion": {"passes": False, "reason": "lost"}}}))
    assert read_verdicts("another", path) == Verdicts({"occlusion": Verdict(False, "lost")}, False)
    path.write_text("{")
    with pytest.raises(ResultError, match="saebench audit"):
        read_verdicts(title, path)
