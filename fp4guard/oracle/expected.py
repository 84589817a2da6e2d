"""What a kernel's output has to be: the exact result, and how far a correct kernel may be from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fp4guard.formats import Rounded, round_to
from fp4guard.oracle.operand import Bools, Float64, to_float64


class Interval(NamedTuple):
    """The smallest and the largest result allowed, rounded to a type; equal where bits must match."""

    low: Rounded
    high: Rounded


@dataclass(frozen=True, eq=False)
class Expected:
    """The exact result of every output element, before the output's rounding. Immutable, hashed by identity.

    Arrays of one shape, made read-only. ValueError where their shapes differ or a bound is negative or NaN.
    """

    value: Float64
    """float64: the exact result; +-Inf is a result like any other."""
    bound: Float64
    """float64: how far a correct kernel's accumulator may be from `value`; 0 where certified exact."""
    nan: Bools
    """bool: the elements that must be NaN."""
    unconstrained: Bools
    """bool: the elements of which nothing is known, except that those in `nan` must be NaN all the same."""

    def __post_init__(self) -> None:
        for name in ("value", "bound", "nan", "unconstrained"):
            array = np.asarray(getattr(self, name)).view()
            if array.shape != self.value.shape:
                raise ValueError(f"{name}: shape {array.shape}; value has {self.value.shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not (self.bound >= 0).all():
            raise ValueError("bound: a negative number or NaN; allowed are numbers from 0 on")

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape."""
        return self.value.shape

    @property
    def certified(self) -> Bools:
        """bool: the elements for which there is one right answer, bit for bit."""
        exact: Bools = (self.bound == 0) & ~self.unconstrained
        return exact | self.nan

    def interval(self, dtype_name: str) -> Interval:
        """The results allowed in "float32", "bfloat16" or "float16".

        A correct accumulator lies in [value - bound, value + bound]. Rounding is monotone, so that the
        result, rounded once, lies between the two ends rounded once. Meaningless in `nan` and
        `unconstrained`.
        """
        return _interval(self, dtype_name)


@lru_cache(maxsize=16)
def _interval(expected: Expected, dtype_name: str) -> Interval:
    # Cached, for the fuzzer compares several runs of a case with the same expectation.
    if not expected.bound.any():
        exact = round_to(expected.value, dtype_name)
        return Interval(exact, exact)
    low, high = expected.value - expected.bound, expected.value + expected.bound
    # The two sums were rounded; one step outward makes up for it.
    moved = expected.bound > 0
    low = np.where(moved, np.nextafter(low, -np.inf), low)
    high = np.where(moved, np.nextafter(high, np.inf), high)
    return Interval(round_to(low, dtype_name), round_to(high, dtype_name))


def exactly(values: object) -> Expected:
    """A result known exactly: a float tensor or array of any shape, rounded by the output's type at most.

    NaN elements must be NaN. Raises TypeError for other types.
    """
    value = to_float64(values, "values")
    nan = np.isnan(value)
    return Expected(
        value=np.where(nan, 0.0, value),
        bound=np.broadcast_to(0.0, value.shape),
        nan=nan,
        unconstrained=np.broadcast_to(np.False_, value.shape),
    )


def within(values: object, bound: object) -> Expected:
    """A result of which the caller knows how far a correct kernel may be from it: a sum, an exponential.

    `values` is a float tensor or array (the exact result, best in float64), `bound` a number from 0 on, or a tensor or
    array of the same shape: how far the kernel's result may be from it before the output's rounding. Derive it; for a
    sum of n float32 terms it is (n - 1) * 2**-24 * sum(abs(terms)), to first order. NaN elements must be NaN.

    Raises TypeError for other types, ValueError for a negative bound or another shape.
    """
    exact = exactly(values)
    given = np.asarray(bound, np.float64) if np.isscalar(bound) else to_float64(bound, "bound")
    if given.shape not in ((), exact.shape):
        raise ValueError(f"bound: shape {given.shape}; allowed are a number and {exact.shape}, the shape of values")
    return Expected(exact.value, np.broadcast_to(given, exact.shape), exact.nan, exact.unconstrained)
