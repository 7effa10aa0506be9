"""A worker in another process: it does units and answers, and writes nothing."""

import sys
import traceback
from collections.abc import Sequence

from saebench.errors import SaebenchError, UnitError, out_of_memory
from saebench.evaluation.units import Done, Keeper, Unit, perform


class Worker:
    """Does one unit after another and keeps what they share."""

    def __init__(self, command: Sequence[str] = ()) -> None:
        self.keeper = Keeper()
        if command:
            # results say which command made them
            sys.argv = list(command)

    def do(self, unit: Unit) -> Done:
        """What became of a unit; it never raises."""
        try:
            return perform(unit, self.keeper)
        # whatever goes wrong with one unit, the next one is another matter
        except Exception as error:
            return Done(unit, error=portable(error))


def portable(error: Exception) -> SaebenchError:
    """An error that can be sent and be told in one paragraph; its traceback goes along as a note."""
    if isinstance(error, SaebenchError):
        return error
    if out_of_memory(error):
        told = UnitError(
            "It ran out of memory, also with the smallest batches. Expected room for the model, the"
            " activations of one site and one dictionary: give fewer --workers, a smaller --budget, or a larger"
            f" machine. ({_first_line(error)})"
        )
    else:
        told = UnitError(f"{type(error).__name__}: {_first_line(error)}. This is a bug; please report it.")
    told.add_note("".join(traceback.format_exception(error)))
    return told


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200].rstrip(".")
