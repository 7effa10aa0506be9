"""The option that sets an architecture's sparsity."""

from collections.abc import Mapping

from saebench.dictionaries.training import ARCHITECTURES
from saebench.errors import OptionError, unknown

_FLAGS = {"k": "--k", "max_iterations": "--k", "l1_coefficient": "--l1", "l0_coefficient": "--l0"}
# From SAELens' norm of 0.1 pre-activations start a tenth of what they will be, and the L0 penalty
# switches latents off before they have grown: 95 % dead on `correlated` at weight 1, from norm 1 none.
DEFAULT_SPARSITY = {"l1_coefficient": 1.0, "l0_coefficient": 0.5}


def sparsity_of(architecture: str, given: Mapping[str, float | None], typical_l0: float) -> float:
    """The sparsity among `--k`, `--l1` and `--l0` that the architecture takes.

    Without it: k is `typical_l0`, rounded; penalties take a middling default.

    Raises:
        OptionError: for an unknown architecture, or an option that it does not take.
    """
    if architecture not in ARCHITECTURES:
        raise OptionError(unknown("architecture", architecture, ARCHITECTURES))
    wanted = ARCHITECTURES[architecture].sparsity
    for flag, value in given.items():
        if value is not None and flag != _FLAGS[wanted]:
            raise OptionError(
                f"{flag} was given, but the sparsity of {architecture} is set with"
                f" {_FLAGS[wanted]}. Use {_FLAGS[wanted]} instead."
            )
    value = given.get(_FLAGS[wanted])
    if value is None:
        return DEFAULT_SPARSITY.get(wanted, max(1, round(typical_l0)))
    if value <= 0:
        raise OptionError(f"{_FLAGS[wanted]} is {value:g}; expected a number above 0.")
    return value
