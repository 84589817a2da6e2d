"""How many bits an operand may spend so that its product with any other of the same budget is exact."""

from __future__ import annotations

import math


def budget(k: int, bits: int) -> int:
    """The largest ratio of largest magnitude to lowest set bit that an operand may have, given k and the accumulator's
    bits.

    The certificate asks for sum |a b| <= 2^bits q. With ratios r_a and r_b the sum is at most k * r_a * r_b *
    q, so r = floor(sqrt(2^bits / k)) on both sides is safe, and neither has to know the other. For MXFP4 and float32
    it is 144 * k * 2^D <= 2^24 with D shared evenly: codes spend 12, scales that differ by d spend 2^d.
    """
    return math.isqrt((1 << bits) // max(k, 1))


def require(k: int, ratio: int, bits: int) -> None:
    """ValueError where products of length k leave no budget for `ratio`."""
    if budget(k, bits) < ratio:
        most = (1 << bits) // (ratio * ratio)
        raise ValueError(f"k: {k}; certified regimes of this kind allow up to {most} in {bits} bits")


def top_exponent(k: int, largest: int) -> int:
    """The largest e with k * (largest * 2^e)^2 < 2^126: no partial sum comes near overflow."""
    return (126 - (max(k, 1) * largest * largest).bit_length()) // 2
