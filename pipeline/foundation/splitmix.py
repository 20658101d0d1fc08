"""SplitMix64 (Steele, Lea and Flood 2014) on tensors: 64 random bits of any whole number."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def mixed(state: "Tensor") -> "Tensor":
    """SplitMix64 of whole numbers, int64 for the same unsigned bits.

    torch's int64 wraps around where the original's unsigned numbers do.
    """
    state = state * -7046029254386353131  # 0x9E3779B97F4A7C15, the golden ratio's odd number
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        state.bitwise_xor_(shifted(state, shift)).mul_(factor)
    return state.bitwise_xor_(shifted(state, 31))


def shifted(state: "Tensor", by: int) -> "Tensor":
    """Shift right and fill with zeros; torch's own shift fills with the sign."""
    return (state >> by).bitwise_and_((1 << (64 - by)) - 1)
