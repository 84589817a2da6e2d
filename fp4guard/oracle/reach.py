"""What the range of float32 may cost a product on the way: flushed subnormals, and scales that overflow.

A correct kernel may

- flush subnormals, of an operand, of a scale, of a product or of a partial sum;
- apply block scales to the elements before the product, or to the sums of products of a block, both scales multiplied
  with each other first or one after the other. So a scale may meet a number that the other scale would have brought
  back into range.

With e the elements, s the scales and x = s e the values, a kernel may hold, of a group of columns: x_a and x_b;
s_a s_b; sums of e_a x_b and of x_a e_b; and sums of x_a x_b. (Sums of e_a e_b are small integers, in their own unit.)
Sums of multiples of a power of two that is no subnormal number are 0 or normal, rounded or not. So it is the lowest set
bits that say whether anything can be flushed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fp4guard.oracle.operand import GROUP, NO_BIT, Bools, Float64, Operand

MIN_NORMAL = 2.0**-126
_MIN_EXPONENT = -126
_MAX_VALUE = 2.0**127


def holds_at_once(a: Operand, lowest_a: int, b: Operand, lowest_b: int) -> bool:
    """Whether extremes alone show that nothing is lost and nothing overflows; `lowest_*` are the least of `low`."""
    scale_a, scale_b = (lowest - _largest_bit(x) for x, lowest in ((a, lowest_a), (b, lowest_b)))
    return (
        min(scale_a, scale_b) >= _MIN_EXPONENT
        and scale_a + scale_b >= _MIN_EXPONENT
        and lowest_a + _lowest_bit(b) >= _MIN_EXPONENT
        and lowest_b + _lowest_bit(a) >= _MIN_EXPONENT
        and lowest_a + lowest_b >= _MIN_EXPONENT
        and not _can_overflow(a, b)
    )


def lost(a: Operand, b: Operand, lowest: NDArray[np.int16]) -> Float64:
    """float64 (rows of a, rows of b): how much of each output flushing may lose; 0 where it can lose nothing.

    `lowest` is `certificate.lowest_products`.
    """
    k = a.values.shape[1]
    loss = np.where(lowest < _MIN_EXPONENT, 2 * k * MIN_NORMAL, 0.0)
    for one, other, turned in ((a, b, False), (b, a, True)):
        part = _lost_operands(one, other) + _lost_halfway(one, other)
        loss += part.T if turned else part
    return loss + _lost_scales(a, b)


def overflows(a: Operand, b: Operand) -> Bools:
    """Bool (rows of a, rows of b): where a scale may take a sum, or another scale, beyond float32."""
    result = np.zeros((len(a.values), len(b.values)), np.bool_)
    if not _can_overflow(a, b):
        return result
    for one, other, turned in ((a, b, False), (b, a, True)):
        rows = np.abs(one.values).max(axis=1, initial=0.0) >= _largest_value(one, other)
        result |= rows[None, :] if turned else rows[:, None]
    if a.scale is not None and b.scale is not None:
        result |= over_groups(np.maximum, a.scale, b.scale) > 127
    return result


def fragile(operand: Operand) -> Bools:
    """Bool (rows, k): the elements that a kernel may flush to 0 before they meet the other operand."""
    values = operand.values
    small: Bools = (np.abs(values) < MIN_NORMAL) & (values != 0)
    if operand.scale is not None and operand.scale.min(initial=0) < _MIN_EXPONENT:
        flushed = np.repeat(operand.scale < _MIN_EXPONENT, operand.group, axis=1)[:, : values.shape[1]]
        small |= flushed & (values != 0)
    return small


def may_lose_scales(a: Operand, b: Operand) -> Bools:
    """Where, of (rows of a, rows of b), a scale or a product of scales may be flushed to 0, whatever it multiplies."""
    rows, columns = (
        np.zeros(len(x.values), np.bool_) if x.scale is None else np.logical_or.reduce(x.scale < _MIN_EXPONENT, axis=1)
        for x in (a, b)
    )
    result: Bools = rows[:, None] | columns[None, :]
    if a.scale is not None and b.scale is not None:
        result |= over_groups(np.minimum, a.scale, b.scale) < _least_product(a, b)
    return result


def over_groups(extreme: np.ufunc, a: NDArray[np.int16], b: NDArray[np.int16]) -> NDArray[np.int16]:
    """The (extreme, +) product of (M, groups) and (N, groups), one group at a time in two buffers."""
    identity = np.int16(16384 if extreme is np.minimum else -16384)
    result = np.full((len(a), len(b)), identity, np.int16)
    sums = np.empty_like(result)
    for left, right in zip(a.T, b.T, strict=True):
        np.add(left[:, None], right[None, :], out=sums)
        extreme(result, sums, out=result)
    return result


def _lost_operands(one: Operand, other: Operand) -> Float64:
    """Elements flushed by themselves: the sum of their products' magnitudes."""
    small = fragile(one)
    if not small.any():
        return np.zeros((len(one.values), len(other.values)))
    products: Float64 = np.where(small, np.abs(one.values), 0.0) @ np.abs(other.values).T
    return products


def _lost_halfway(one: Operand, other: Operand) -> Float64:
    """Sums of x_one e_other, flushed before the other's scale is applied: 2 operations a column, each less than
    2^-126 of the sum, times that scale.
    """
    nothing = np.zeros((len(one.values), len(other.values)))
    if other.scale is None:
        return nothing
    small = one.low + _lowest_bit(other) < _MIN_EXPONENT
    if not small.any():
        return nothing
    scale = np.where(other.low == NO_BIT, 0.0, np.ldexp(1.0, other.scale.astype(np.int32)))
    result: Float64 = small.astype(np.float64) @ scale.T * (2 * one.group * MIN_NORMAL)
    return result


def _lost_scales(a: Operand, b: Operand) -> Float64:
    """A product of two scales that is flushed loses its group: less than 2^-126 of the sum of e_a e_b."""
    if a.element is None or b.element is None or a.scale is None or b.scale is None:
        return np.zeros((len(a.values), len(b.values)))
    left = np.where(a.low == NO_BIT, np.int16(NO_BIT), a.scale)
    right = np.where(b.low == NO_BIT, np.int16(NO_BIT), b.scale)
    small = over_groups(np.minimum, left, right) < _least_product(a, b)
    return np.where(small, a.values.shape[1] * a.element.max * b.element.max * MIN_NORMAL, 0.0)


def _least_product(a: Operand, b: Operand) -> int:
    """From which sum of exponents in `scale` on a product of scales is a normal number."""
    # `scale` may be one above a scale that is no power of two.
    return _MIN_EXPONENT + 2 - a.power_of_two_scales - b.power_of_two_scales


def _can_overflow(a: Operand, b: Operand) -> bool:
    if a.largest >= _largest_value(a, b) or b.largest >= _largest_value(b, a):
        return True
    if a.scale is None or b.scale is None:
        return False
    return int(a.scale.max(initial=-127)) + int(b.scale.max(initial=-127)) > 127


def _largest_value(one: Operand, other: Operand) -> float:
    """Values from here on may overflow as such, or multiplied with a block of the other's elements."""
    if other.element is not None:
        return _MAX_VALUE / (GROUP * other.element.max)
    return math.inf if one.element is None else _MAX_VALUE


def _lowest_bit(operand: Operand) -> int:
    """The exponent of the lowest bit of any element; 0 of a dense matrix, which no scale is taken from."""
    return 0 if operand.element is None else int(math.log2(operand.element.smallest))


def _largest_bit(operand: Operand) -> int:
    """The exponent of the largest power of two that divides an element; 0 of a dense matrix."""
    return 0 if operand.element is None else operand.element.max_exponent
