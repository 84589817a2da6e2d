"""Enclosures of float32 arithmetic: what the steps of kernels (`steps`, `activations`) are made of."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fp4guard.oracle.expected import Expected, exactly
from fp4guard.oracle.operand import Bools, Float64, to_float64
from fp4guard.oracle.reach import MIN_NORMAL

Term: TypeAlias = "Expected | torch.Tensor | NDArray[np.floating] | float"
"""An operand of a step: an enclosure, or what the kernel holds in float32, of a shape that broadcasts."""


def term(operand: Term, name: str) -> Expected:
    """An operand as an `Expected`: exactly what is given, which has to be float32.

    Raises TypeError for other types; ValueError for a number that float32 does not hold (0.1 is one: give what the
    kernel holds, float(np.float32(0.1))).
    """
    if isinstance(operand, Expected):
        return operand
    given = np.asarray(operand, np.float64) if np.isscalar(operand) else operand
    exact = exactly(to_float64(given, name))
    wrong = ~_is_float32(exact.value)
    if wrong.any():
        raise ValueError(f"{name}: {float(exact.value[wrong][0])!r}; allowed are numbers that float32 holds exactly")
    return exact


def flushed(e: Expected) -> Expected:
    """`e` with 0 in every interval that meets subnormal numbers: a kernel may read them as 0."""
    small = _subnormal(e.low, e.high)
    if not small.any():
        return e
    low, high = (
        np.where(small, extreme(end, 0.0), end) for extreme, end in ((np.minimum, e.low), (np.maximum, e.high))
    )
    return Expected(e.value, low, high, e.nan, e.unconstrained)


def float32(value: Float64, low: Float64, high: Float64, nan: Bools, unconstrained: Bools) -> Expected:
    """What float32 may make of a result in [low, high]: left as it is, rounded, or flushed."""
    rounded_low = nearest_float32(low)
    if low is high and low is value and not ((rounded_low != low).any() or _subnormal(low, low).any()):
        return clean(value, value, value, nan, unconstrained)
    rounded_high = rounded_low if low is high else nearest_float32(high)
    low, high = np.fmin(low, rounded_low), np.fmax(high, rounded_high)
    small = _subnormal(low, high)
    low, high = np.where(small, np.fmin(low, 0.0), low), np.where(small, np.fmax(high, 0.0), high)
    return clean(value, low, high, nan, unconstrained)


def nearest_float32(values: Float64) -> Float64:
    """Values rounded to float32, as float64 again."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest: Float64 = values.astype(np.float32).astype(np.float64)
    return nearest


def clean(value: Float64, low: Float64, high: Float64, nan: Bools, unconstrained: Bools) -> Expected:
    """An Expected of ends that are in order, with zeros where there is nothing to enclose."""
    nothing = nan | unconstrained
    if nothing.any():
        point = low is value and high is value
        value = np.where(nothing, 0.0, value)
        low, high = (value, value) if point else (np.where(nothing, 0.0, low), np.where(nothing, 0.0, high))
    if low is value and high is value:
        return Expected(value, value, value, nan, unconstrained)
    # `value` has float64 errors of its own, up to one step beyond an end.
    return Expected(value, np.minimum(low, value), np.maximum(high, value), nan, unconstrained)


def invalid(x: Expected, y: Expected, possible: Bools, certain: Bools) -> tuple[Bools, Bools]:
    """Where the result of a step is NaN, and where nothing is known of it."""
    certain = certain & (x.low == x.high) & (y.low == y.high) & ~x.unconstrained & ~y.unconstrained
    return x.nan | y.nan | certain, x.unconstrained | y.unconstrained | (possible & ~certain)


def products(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """The exact products' enclosure: one array twice where float64 has them exactly."""
    product = x * y
    exact = _is_float32(x) & _is_float32(y)
    if exact.all():
        return product, product
    return (
        np.where(exact, product, np.nextafter(product, -np.inf)),
        np.where(exact, product, np.nextafter(product, np.inf)),
    )


def sums(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """The exact sums' enclosure: one array twice where float64 has them exactly."""
    result = x + y
    part = result - x
    error = (x - (result - part)) + (y - part)
    inexact = (error != 0) & np.isfinite(result)
    if not inexact.any():
        return result, result
    return (
        np.where(inexact, np.nextafter(result, -np.inf), result),
        np.where(inexact, np.nextafter(result, np.inf), result),
    )


def may_be_zero(e: Expected) -> Bools:
    """Where 0 is in the interval."""
    zero: Bools = (e.low <= 0) & (e.high >= 0)
    return zero


def may_be_infinite(e: Expected) -> Bools:
    """Where the interval has no finite end on one side or the other."""
    infinite: Bools = np.isinf(e.low) | np.isinf(e.high)
    return infinite


def _is_float32(values: Float64) -> Bools:
    same: Bools = (nearest_float32(values) == values) | np.isnan(values)
    return same


def _subnormal(low: Float64, high: Float64) -> Bools:
    met: Bools = (low < MIN_NORMAL) & (high > -MIN_NORMAL) & ((low != 0) | (high != 0))
    return met
