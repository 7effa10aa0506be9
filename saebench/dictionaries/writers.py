"""Which latents of a dictionary write the values of an attribute; `measures.read_write` finds them."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Writers(NamedTuple):
    """The latents that are on somewhere on `select`, and what they do for every value of an attribute."""

    latents: Int[Tensor, "m"]
    rise: Float[Tensor, "m n_values"]
    """δ_v(α_j): how much the code rises with the value."""
    written: Float[Tensor, "m n_values"]
    """c_jv, signed."""
    gain: Float[Tensor, "m n_values"]
    """⟨w_j, u_v⟩ where c_jv > 0 and the value is scored, else 0."""
    stands_for: Float[Tensor, "m n_values"]
    """F_jv in [0, 1]: F1* of the reading by which j writes v."""
    only_for: Float[Tensor, "m n_values"]
    """P_jv in [0, 1]: how little else makes that reading fire."""
    share: Float[Tensor, "m n_values"]
    """1 / the effective number of latents that share the value with j."""
    effective: Float[Tensor, "n_values"]
    """N_v, of the latents that write v by firing; 0 where there is none."""
