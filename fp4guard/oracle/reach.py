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

**Flushing has a direction.** Whatever is flushed, an operand, a scale or a sum of some of the terms, the result is the
sum of the terms that are left. So, the roundings of those aside (`certificate`), a flushed sum is the exact one less
some of its terms: at most the positive ones below it, and at most the negative ones above it. Of these,

- terms with an element or a scale that is subnormal by itself may all be lost, any of them;
- the other operations lose less than 2^-126 each, in their own unit, and no more than all the terms.

**Not flushed, a subnormal result may be rounded**, either way, by less than 2^-149 an operation: where lowest set bits
are below that, the same operations are counted again in this unit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fp4guard.oracle.operand import GROUP, NO_BIT, Bools, Float64, Operand

MIN_NORMAL = 2.0**-126
_MIN_EXPONENT = -126
_LEAST_EXPONENT = -149
"""Of the least subnormal number; float32 holds all of its multiples up to the normal numbers."""
_LEAST_EXPONENT_BF16 = -133
"""The same of bfloat16, in which block-scaled values may be held: but for this they fit into it."""
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


class Lost(NamedTuple):
    """How far what happens to subnormals may take each output, float64 (rows of a, rows of b): 0 where nothing can."""

    below: Float64
    """Below the exact sum: by positive terms that are lost."""
    above: Float64
    """Above it: by negative ones."""


def lost(a: Operand, b: Operand, lowest: NDArray[np.int16]) -> Lost:
    """What flushed, or rounded, subnormals may cost; `lowest` is `certificate.lowest_products`."""
    below, above = _lost_operands(a, b)
    # Of groups with a scale that may be flushed every term is counted by now: sums within them lose no more.
    kept_a, kept_b = _without_small_scales(a), _without_small_scales(b)
    flushed = _operations(kept_a, kept_b, lowest, _MIN_EXPONENT) + _lost_scales(kept_a, kept_b)
    if flushed.any():
        positive, negative = _by_sign(a.values, b.values)
        below, above = np.minimum(below + flushed, positive), np.minimum(above + flushed, negative)
    rounded = _operations(a, b, lowest, _LEAST_EXPONENT) + _rounded_operands(a, b) + _rounded_operands(b, a).T
    return Lost(below + rounded, above + rounded)


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


def _by_sign(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """The sums of the positive products of a @ b.T and of the negative ones, both as magnitudes."""
    up_a, down_a, up_b, down_b = np.fmax(a, 0.0), np.fmax(-a, 0.0), np.fmax(b, 0.0).T, np.fmax(-b, 0.0).T
    return up_a @ up_b + down_a @ down_b, up_a @ down_b + down_a @ up_b


def _lost_operands(a: Operand, b: Operand) -> tuple[Float64, Float64]:
    """Elements flushed by themselves: the sums of their positive and of their negative products."""
    positive, negative = (np.zeros((len(a.values), len(b.values))) for _ in range(2))
    small_a, small_b = fragile(a), fragile(b)
    for small, one, other in (
        (small_a, np.where(small_a, a.values, 0.0), b.values),
        (small_b, a.values, np.where(small_b, b.values, 0.0)),
    ):
        if small.any():
            up, down = _by_sign(one, other)
            positive, negative = positive + up, negative + down
    return positive, negative


def _rounded_operands(one: Operand, other: Operand) -> Float64:
    """Block-scaled values that are rounded to the subnormal numbers of bfloat16, by half a step of these."""
    nothing = np.zeros((len(one.values), len(other.values)))
    if one.element is None or one.low.min(initial=NO_BIT) >= _LEAST_EXPONENT_BF16:
        return nothing
    values = np.abs(one.values)
    low = np.repeat(one.low < _LEAST_EXPONENT_BF16, one.group, axis=1)[:, : values.shape[1]]
    small = low & (values < MIN_NORMAL) & (values != 0)
    result: Float64 = small.astype(np.float64) @ np.abs(other.values).T * 2.0 ** (_LEAST_EXPONENT_BF16 - 1)
    return result


def _without_small_scales(operand: Operand) -> Operand:
    """The operand without the bits of the groups whose scale may be flushed."""
    if operand.scale is None or operand.scale.min(initial=0) >= _MIN_EXPONENT:
        return operand
    return replace(operand, low=np.where(operand.scale < _MIN_EXPONENT, np.int16(NO_BIT), operand.low))


def _operations(a: Operand, b: Operand, lowest: NDArray[np.int16], exponent: int) -> Float64:
    """What 2^exponent comes to, lost in each operation that may give what is no multiple of it: 2 a column."""
    whole = np.where(lowest < exponent, 2 * a.values.shape[1] * 2.0**exponent, 0.0)
    result: Float64 = whole + _halfway(a, b, exponent) + _halfway(b, a, exponent).T
    return result


def _halfway(one: Operand, other: Operand, exponent: int) -> Float64:
    """The same of sums of x_one e_other, before the other's scale is applied, which multiplies what is lost."""
    nothing = np.zeros((len(one.values), len(other.values)))
    if other.scale is None:
        return nothing
    small = one.low + _lowest_bit(other) < exponent
    if not small.any():
        return nothing
    scale = np.where(other.low == NO_BIT, 0.0, np.ldexp(1.0, other.scale.astype(np.int32)))
    result: Float64 = small.astype(np.float64) @ scale.T * (2 * one.group * 2.0**exponent)
    return result


def _lost_scales(a: Operand, b: Operand) -> Float64:
    """A product of two scales that is flushed loses its group: less than 2^-126 of the sum of e_a e_b.

    One that is not flushed is exact, or a power of two below 2^-149, which becomes 0 too.
    """
    nothing = np.zeros((len(a.values), len(b.values)))
    if a.element is None or b.element is None or a.scale is None or b.scale is None:
        return nothing
    left = np.where(a.low == NO_BIT, np.int16(NO_BIT), a.scale)
    right = np.where(b.low == NO_BIT, np.int16(NO_BIT), b.scale)
    least = _least_product(a, b)
    if int(left.min(initial=NO_BIT)) + int(right.min(initial=NO_BIT)) >= least:
        return nothing
    small = over_groups(np.minimum, left, right) < least
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
