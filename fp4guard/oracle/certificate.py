"""When is a sum of products exact in any order, and how far may it be off when it is not?

**Exact.** Let q_ij be a power of two that divides every product a_ik * b_jk. Whatever the order, the tree,
the split or the fusing, every partial sum is then q times an integer of magnitude at most sum_k |a_ik *
b_jk| / q. If that is at most 2^p, an accumulator of p significant bits holds every partial sum exactly, no
rounding ever happens, and there is one right answer:

    sum_k |a_ik * b_jk| <= 2^p * q_ij

q follows from the lowest set bits: the product's lowest bit is the sum of the factors' lowest bits. They
are kept as minima over groups of 32 columns (the block of MXFP4, so nothing is lost to the scales), and
q_ij is the least sum over the groups: a (min, +) product. It may be smaller than the true common divisor,
never larger.

The range has to hold as well: q >= 2^-126 keeps every partial sum a normal float32, safe from flushing, and
sum |a b| < 2^127 keeps every one finite.

**Bounded.** Where the certificate fails, any order of summation gives |c' - c| <= gamma_K * (|A| |B|^T), with
gamma_n = n u / (1 - n u): Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1,
inequality (3.5). It covers rounded products too (K of them and K - 1 sums, no term passes through more than K
roundings).

**What a correct kernel may do** beyond that, and what therefore costs certainty, is a matter of the range of float32
on the way, and of its own module: `reach`. Flushing takes terms away, so what it adds to the bound differs with the
side: a sum of positive terms may lose any of them, and is no larger for it.

What this module does not model is a kernel that rounds its *operands*: float32 through TF32, say. Such a
kernel agrees on operands that the narrower type holds, as those of the "exact" regime's small integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fp4guard.oracle import reach
from fp4guard.oracle.operand import Bools, Float64, Operand


@dataclass(frozen=True)
class Accumulator:
    """How a kernel adds: a policy, stated by whoever asks for the expected result."""

    bits: int = 24
    """Significant bits that every partial sum keeps; at most 52."""
    unit_roundoff: float = 2.0**-24
    """The largest relative error of one operation."""

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= REFERENCE_BITS:
            raise ValueError(f"bits: {self.bits}; allowed are 1 .. {REFERENCE_BITS}")
        if not 0 <= self.unit_roundoff < 1:
            raise ValueError(f"unit_roundoff: {self.unit_roundoff}; allowed are numbers from 0 to below 1")


REFERENCE_BITS = 52
"""Up to here float64's own sums are exact. One bit less than it has: sum |a b| is itself a float64 sum."""

FP32 = Accumulator()
"""float32, rounded to nearest."""
FP32_TRUNCATING = Accumulator(24, 1.25 * 2.0**-23)
"""float32, truncated, as tensor cores do: Fasi, Higham, Mikaitis, Pranesh, PeerJ Comput. Sci. 7:e330, 2021. An exact
sum stays exact. An adder aligns g products and the accumulator to the largest of them and cuts each, so K products cost
K + K/g errors of up to 2^-23 of the largest; g is 4 or more."""
FP8_HOPPER = Accumulator(14, 1.25 * 2.0**-13)
"""The FP8 tensor cores of Ada and Hopper, which keep about 14 bits, and truncate."""

SLACK = 1 + 2.0**-40
"""A bound is computed in float64, too: of at most 2^20 terms or so."""
MAX_SUM = 2.0**127
"""Partial sums from here on may be Inf in float32; the factor of two to its limit covers their rounding."""


@dataclass(frozen=True)
class Certificate:
    """What is known of the sums: float64 and bool of (rows of a, rows of b), possibly broadcast."""

    below: Float64
    """How far a correct accumulator may be below the reference; 0 where certified."""
    above: Float64
    """How far it may be above."""
    unconstrained: Bools
    """Where float32 may overflow on the way: nothing is known."""


def certify(a: Operand, b: Operand, value: Float64, accumulator: Accumulator = FP32) -> Certificate:
    """The certificate of `value` = a.values @ b.values.T, computed in float64. ValueError as `gamma`."""
    if _certified_at_once(a, b, accumulator.bits):
        nothing = np.broadcast_to(0.0, value.shape)
        return Certificate(nothing, nothing, np.broadcast_to(np.False_, value.shape))
    magnitude = np.abs(a.values) @ np.abs(b.values).T
    lowest = lowest_products(a, b)
    lost = reach.lost(a, b, lowest)
    overflow = (magnitude >= MAX_SUM) | reach.overflows(a, b)
    exact = exact_sums(magnitude, lowest, accumulator.bits) & (lost.below == 0) & (lost.above == 0) & ~overflow
    rounding = summation_bound(a.values.shape[1], magnitude, lowest, accumulator)
    below, above = (np.where(exact, 0.0, (rounding + side) * SLACK) for side in lost)
    return Certificate(below, above, overflow)


def exact_sums(magnitude: Float64, lowest: NDArray[np.int16], accumulator_bits: int = 24) -> Bools:
    """Where sum |a b| <= 2^p * q: `magnitude` is the sum, float64; `lowest` the exponent of q; p the bits."""
    # An exponent beyond 900 is that of a sum of zeros, for which every limit will do.
    limit = np.ldexp(1.0, np.minimum(lowest, 900).astype(np.int32) + accumulator_bits)
    certified: Bools = magnitude <= limit
    return certified


def lowest_products(a: Operand, b: Operand) -> NDArray[np.int16]:
    """int16 (rows of a, rows of b): exponents of powers of two that divide all of an output's products."""
    return reach.over_groups(np.minimum, a.low, b.low)


def gamma(n: int, unit_roundoff: float) -> float:
    """Higham's gamma_n = n u / (1 - n u); ValueError where n u >= 1, where no bound holds."""
    if n * unit_roundoff >= 1:
        raise ValueError(f"n: {n}; with unit roundoff {unit_roundoff} allowed are less than {1 / unit_roundoff}")
    return n * unit_roundoff / (1 - n * unit_roundoff)


def summation_bound(k: int, magnitude: Float64, lowest: NDArray[np.int16], accumulator: Accumulator) -> Float64:
    """How far sums of k products may be from the reference; `magnitude` is sum |a b|. ValueError as `gamma`."""
    bound = gamma(k, accumulator.unit_roundoff) * magnitude
    # The reference is a float64 sum and has an error of its own, unless it is certified at float64's
    # precision.
    reference_exact = exact_sums(magnitude, lowest, REFERENCE_BITS)
    return bound + np.where(reference_exact, 0.0, gamma(k, 2.0**-53) * magnitude)


def _certified_at_once(a: Operand, b: Operand, bits: int) -> bool:
    # One comparison for the whole matrix, with the extremes of everything. Certified inputs usually pass
    # it, and then neither |A| @ |B| nor the group loop is needed.
    lowest_a, lowest_b = (int(operand.low.min(initial=900)) for operand in (a, b))
    largest_sum = a.values.shape[1] * a.largest * b.largest
    return (
        largest_sum <= 2.0 ** min(bits + lowest_a + lowest_b, 1000)
        and largest_sum < MAX_SUM
        and reach.holds_at_once(a, lowest_a, b, lowest_b)
    )
