"""The elementary steps of kernels after a product: what float32 arithmetic may make of a result, step by step.

Every step takes an `Expected` and gives one. The interval [low, high] of the result encloses what a correct kernel may
hold at that point:

- **The interval goes through the step exactly**: monotone steps by their ends, products by their corners.
- **The step may be rounded to float32, or not.** Compilers fuse a multiplication with the addition after it. Rounding
  is monotone, so the hull of the exact ends and the rounded ends holds both. What float32 represents stays as it is:
  certified in, exactly representable, certified out.
- **Subnormal numbers may be flushed**, operands and results: where an interval meets them, it is widened to hold 0.
- **float64's own errors**: exact sums and products are recognised (two float32 numbers have an exact product in
  float64; for sums the error term of Knuth's TwoSum is 0), others are moved outward by one step of float64.

NaN and Inf are IEEE 754's. Where an operation is invalid for some value of the interval but not for all of them (Inf -
Inf after an overflow that may or may not happen), nothing is known: `unconstrained`. A NaN that is certain stays so.

Numbers and arrays given beside an `Expected` are what the kernel holds, so they must be float32 values.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from fp4guard.formats import round_to
from fp4guard.oracle import enclose
from fp4guard.oracle.certificate import FP32, MAX_SUM, Accumulator, exact_sums, gamma
from fp4guard.oracle.enclose import Term
from fp4guard.oracle.expected import Expected
from fp4guard.oracle.operand import lowest_bit
from fp4guard.oracle.reach import MIN_NORMAL


class NanOperand(Enum):
    """What the larger (smaller) of a NaN and a number is."""

    NUMBER = "number"
    """The number: IEEE 754-2019's maximumNumber, C's fmaxf, PTX's max.f32, and what `tl.maximum` does by itself."""
    PROPAGATE = "propagate"
    """NaN: IEEE 754-2019's maximum, torch.relu, numpy.maximum."""


def multiply(e: Expected, factor: Term) -> Expected:
    """The product, rounded once or not at all. TypeError, ValueError where `factor` is no float32: `enclose.term`."""
    x, y = enclose.flushed(e), enclose.flushed(enclose.term(factor, "factor"))
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        if x.is_point and y.is_point:
            low, high = enclose.products(x.value, y.value)
            value = low if low is high else x.value * y.value
        else:
            value = x.value * y.value
            corners = [enclose.products(one, two) for one in (x.low, x.high) for two in (y.low, y.high)]
            low = np.fmin.reduce([corner[0] for corner in corners])
            high = np.fmax.reduce([corner[1] for corner in corners])
    zero_x, zero_y, infinite_x, infinite_y = (
        test(e) for test in (enclose.may_be_zero, enclose.may_be_infinite) for e in (x, y)
    )
    invalid = (zero_x & infinite_y) | (infinite_x & zero_y)
    return enclose.float32(value, low, high, *enclose.invalid(x, y, invalid, np.isnan(value)))


def add(e: Expected, addend: Term) -> Expected:
    """The sum, rounded once or not at all. TypeError, ValueError where `addend` is no float32: `enclose.term`."""
    x, y = enclose.flushed(e), enclose.flushed(enclose.term(addend, "addend"))
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = enclose.sums(x.low, y.low)
        value = low
        if not (x.is_point and y.is_point and low is high):
            value = x.value + y.value
            high = enclose.sums(x.high, y.high)[1]
    opposed = ((x.low == -np.inf) & (y.high == np.inf)) | ((x.high == np.inf) & (y.low == -np.inf))
    return enclose.float32(value, low, high, *enclose.invalid(x, y, opposed, np.isnan(value)))


def negate(e: Expected) -> Expected:
    """-e, exact."""
    if e.is_point:
        value = -e.value
        return Expected(value, value, value, e.nan, e.unconstrained)
    return Expected(-e.value, -e.high, -e.low, e.nan, e.unconstrained)


def maximum(e: Expected, other: Term, nan: NanOperand = NanOperand.NUMBER) -> Expected:
    """The larger of the two: exact but for flushed operands. TypeError, ValueError as `multiply`."""
    x, y = enclose.flushed(e), enclose.flushed(enclose.term(other, "other"))
    value = np.maximum(x.value, y.value)
    low, high = value, value
    if not (x.is_point and y.is_point):
        low, high = np.maximum(x.low, y.low), np.maximum(x.high, y.high)
    lost, open_ = x.nan | y.nan, x.unconstrained | y.unconstrained
    if nan is NanOperand.NUMBER and lost.any():
        for one, two in ((x, y), (y, x)):
            value, low, high = (
                np.where(one.nan, theirs, ours)
                for ours, theirs in ((value, two.value), (low, two.low), (high, two.high))
            )
        lost = x.nan & y.nan
    return Expected(value, low, high, lost, open_)


def minimum(e: Expected, other: Term, nan: NanOperand = NanOperand.NUMBER) -> Expected:
    """The smaller of the two, as `maximum`."""
    return negate(maximum(negate(e), negate(enclose.term(other, "other")), nan))


def clamp(e: Expected, low: float, high: float, nan: NanOperand = NanOperand.NUMBER) -> Expected:
    """min(max(e, low), high), in this order. ValueError where low > high; else TypeError, ValueError as `multiply`."""
    if low > high:
        raise ValueError(f"low: {low}; allowed is up to high, {high}")
    return minimum(maximum(e, low, nan), high, nan)


def relu(e: Expected, nan: NanOperand = NanOperand.NUMBER) -> Expected:
    """max(e, 0)."""
    return maximum(e, 0.0, nan)


def rounded(e: Expected, dtype_name: str) -> Expected:
    """Stored as "float32", "bfloat16" or "float16" in between; loaded again, it is a float32.

    ValueError for another `dtype_name`.
    """
    value = round_to(e.value, dtype_name).value
    if e.is_point:
        return Expected(value, value, value, e.nan, e.unconstrained)
    low, high = round_to(e.low, dtype_name).value, round_to(e.high, dtype_name).value
    return Expected(value, low, high, e.nan, e.unconstrained)


def total(e: Expected, axis: int, accumulator: Accumulator = FP32) -> Expected:
    """The sum over an axis in float32, in any order and any grouping.

    Exact where the terms are certified and sum |t| <= 2^p q for a power of two q that divides all of them; else the
    terms' intervals and gamma_(n-1) sum |t| around them (see `certificate`). A sum that may overflow on the way is
    unconstrained. ValueError where the axis is too long for a bound (see `certificate.gamma`).
    """
    x = enclose.flushed(e)
    with np.errstate(invalid="ignore", over="ignore"):
        value = x.value.sum(axis=axis)
        low = value if x.is_point else x.low.sum(axis=axis)
        high = value if x.is_point else x.high.sum(axis=axis)
        infinite = np.isinf(x.low) | np.isinf(x.high)
        largest = np.abs(x.value) if x.is_point else np.maximum(np.abs(x.low), np.abs(x.high))
        magnitude = np.where(infinite, 0.0, largest).sum(axis=axis)
    lowest = lowest_bit(np.where(infinite, 0.0, x.value)).min(axis=axis, initial=900)
    certain = np.True_ if x.is_point else (x.low == x.high).all(axis=axis)
    n = x.shape[axis]
    exact = exact_sums(magnitude, lowest, accumulator.bits) & (lowest >= -126) & (magnitude < MAX_SUM) & certain
    if not exact.all():
        # Beside the kernel's n - 1 additions, numpy's n - 1 in float64, and the flushing of partial sums.
        bound = (gamma(max(n - 1, 0), accumulator.unit_roundoff) + gamma(n, 2.0**-52)) * magnitude
        bound = np.where(exact, 0.0, bound * (1 + 2.0**-40) + np.where((lowest < -126) | ~certain, n * MIN_NORMAL, 0.0))
        low, high = low - bound, high + bound
        low = np.where(exact, value, np.nextafter(low, -np.inf))
        high = np.where(exact, value, np.nextafter(high, np.inf))
    nan, open_ = x.nan.any(axis=axis), x.unconstrained.any(axis=axis) | (magnitude >= MAX_SUM)
    opposed = (x.high == np.inf).any(axis=axis) & (x.low == -np.inf).any(axis=axis)
    # Certain: an Inf that is one in the whole of its interval, of either sign.
    invalid = (x.low == np.inf).any(axis=axis) & (x.high == -np.inf).any(axis=axis)
    return enclose.clean(value, low, high, nan | invalid, open_ | (opposed & ~invalid))
