"""The product of two operands: value, enclosure, NaN and Inf."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fp4guard.oracle.certificate import MAX_SUM, SLACK, Accumulator, certify, lowest_products, summation_bound
from fp4guard.oracle.expected import Expected, enclosed
from fp4guard.oracle.operand import Bools, Float64, Operand, from_dense
from fp4guard.oracle.reach import MIN_NORMAL, fragile, lost, may_lose_scales


def product(a: Operand, b: Operand, accumulator: Accumulator) -> Expected:
    """What a.values @ b.values.T may be in any order of summation: (rows of a, rows of b).

    ValueError where the two k differ, or k is too large for a bound (see `certificate.gamma`).
    """
    if a.values.shape[1] != b.values.shape[1]:
        raise ValueError(f"b: k = {b.values.shape[1]}; a has k = {a.values.shape[1]} (b is given as (n, k))")
    value = a.values @ b.values.T
    certificate = certify(a, b, value, accumulator)
    nan = a.nan_rows[:, None] | b.nan_rows[None, :]
    unconstrained = certificate.unconstrained
    if a.infinities is not None or b.infinities is not None:
        value, invalid = _with_infinities(a, b, value)
        nan |= invalid
        unconstrained = unconstrained | _infinity_meets_fragile(a, b)
    return enclosed(value, certificate.below, certificate.above, nan, unconstrained)


def enclosure(a: Expected, b: Operand, accumulator: Accumulator) -> Expected:
    """`product` of what an earlier step left: every element of `a` may be anywhere in its interval.

    Rows of single values are as certain as in `product`. Of others, with r the interval's radius, the result moves by
    up to r @ |B|, and the sum is rounded. A row that holds a NaN is NaN; one of which an element is unconstrained, or
    that may be infinite or not, is unconstrained. ValueError as `product`, and where `a` is not 2-D.
    """
    left = from_dense(np.where(a.nan, np.nan, a.value) if a.nan.any() else a.value, "a", b.group)
    result = product(left, b, accumulator)
    open_rows: Bools = np.logical_or.reduce(a.unconstrained & ~a.nan, axis=1)
    if not a.is_point:
        with np.errstate(invalid="ignore"):
            apart: Bools = np.asarray((a.low != a.high) & ~a.nan)
            radius = np.where(apart, np.fmax(a.high - a.value, a.value - a.low), 0.0)
        open_rows = open_rows | np.isinf(radius).any(axis=1)
        radius = np.where(np.isfinite(radius), radius, 0.0)
        spread = radius @ np.abs(b.values).T
        if b.infinities is not None:
            open_rows = open_rows | apart.any(axis=1)
        k = b.values.shape[1]
        magnitude = np.abs(left.values) @ np.abs(b.values).T + spread
        lowest = lowest_products(left, b)
        # Of a value in the interval, flushing takes away what it takes of the centre's product, and some of the spread.
        sides = lost(left, b, lowest)
        rounding = summation_bound(k, magnitude, lowest, accumulator)
        # The other ends' bits are not known, so any of 2 K operations may be flushed, those before a scale of b too.
        scale = 1.0 if b.scale is None else 2.0 ** max(int(b.scale.max(initial=0)), 0)
        moved = np.logical_or.reduce(apart, axis=1)[:, None]
        below, above = (
            np.where(moved, (spread + rounding + side) * SLACK + 2 * k * MIN_NORMAL * scale, 0.0) for side in sides
        )
        certain = enclosed(result.value, below, above, result.nan, result.unconstrained)
        low, high = (
            np.where(moved, ours, theirs) for ours, theirs in ((certain.low, result.low), (certain.high, result.high))
        )
        result = replace(
            result, low=low, high=high, unconstrained=result.unconstrained | (moved & (magnitude >= MAX_SUM))
        )
    return replace(result, unconstrained=result.unconstrained | open_rows[:, None]) if open_rows.any() else result


def columns(operand: Operand, start: int, stop: int) -> Operand:
    """Columns [start, stop) of an operand. ValueError where `start` lies within a group."""
    group = operand.group
    if start % group:
        raise ValueError(f"splits: a part begins at column {start}; allowed are multiples of {group}")
    groups = slice(start // group, -(-stop // group))
    return replace(
        operand,
        values=operand.values[:, start:stop],
        infinities=None if operand.infinities is None else operand.infinities[:, start:stop],
        low=operand.low[:, groups],
        scale=None if operand.scale is None else operand.scale[:, groups],
    )


def _with_infinities(a: Operand, b: Operand, value: Float64) -> tuple[Float64, Bools]:
    """`value` with the Infs of the operands put in, and where they make a NaN.

    Signs stand for the factors: a product of two is +Inf or -Inf where one of them is infinite and neither
    is 0.
    """
    inf_a, inf_b = _signs_of_infinities(a), _signs_of_infinities(b)
    sign_a, sign_b = np.sign(a.values) + inf_a, np.sign(b.values) + inf_b
    products = np.abs(inf_a) @ np.abs(sign_b).T + np.abs(sign_a) @ np.abs(inf_b).T - np.abs(inf_a) @ np.abs(inf_b).T
    balance = inf_a @ sign_b.T + sign_a @ inf_b.T - inf_a @ inf_b.T
    zero_times_inf = np.abs(inf_a) @ (sign_b == 0).T + (sign_a == 0) @ np.abs(inf_b).T
    opposed = np.abs(balance) < products
    return np.where(products > 0, np.copysign(np.inf, balance), value), opposed | (zero_times_inf > 0)


def _infinity_meets_fragile(a: Operand, b: Operand) -> Bools:
    """Where an Inf meets a number, or a scale, that a kernel may flush to 0, which makes a NaN of it."""
    inf_a, inf_b = np.abs(_signs_of_infinities(a)), np.abs(_signs_of_infinities(b))
    met: Bools = inf_a @ fragile(b).T + fragile(a) @ inf_b.T > 0
    rows, columns = (np.logical_or.reduce(infinities > 0, axis=1) for infinities in (inf_a, inf_b))
    met |= may_lose_scales(a, b) & (rows[:, None] | columns[None, :])
    return met


def _signs_of_infinities(operand: Operand) -> Float64:
    return np.zeros_like(operand.values) if operand.infinities is None else operand.infinities
