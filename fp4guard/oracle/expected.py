"""What a kernel's output has to be: the exact result, and the interval in which a correct kernel's result lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fp4guard.formats import Rounded, round_to
from fp4guard.oracle.operand import Bools, Float64, to_float64


class Interval(NamedTuple):
    """The smallest and the largest result allowed, rounded to a type; equal where bits must match."""

    low: Rounded
    high: Rounded


@dataclass(frozen=True, eq=False)
class Expected:
    """The exact result of every output element, and its enclosure, before the output's rounding.

    Immutable, hashed by identity. Arrays of one shape, made read-only; `low` and `high` may be `value` itself, which
    says that all is certified and costs no memory. ValueError where shapes differ or low <= value <= high fails.
    """

    value: Float64
    """float64: the exact result; +-Inf is a result like any other. Of no meaning in `nan`."""
    low: Float64
    """float64: what a correct kernel computes, before it rounds to the output's type, is not below this."""
    high: Float64
    """float64: nor above this."""
    nan: Bools
    """bool: the elements that must be NaN."""
    unconstrained: Bools
    """bool: the elements of which nothing is known, except that those in `nan` must be NaN all the same."""

    def __post_init__(self) -> None:
        ends_given = not (self.low is self.value and self.high is self.value)
        views: dict[int, Float64 | Bools] = {}  # one array given twice stays one array
        for name in ("value", "low", "high", "nan", "unconstrained"):
            given = getattr(self, name)
            if id(given) not in views:
                view = np.asarray(given).view()
                view.flags.writeable = False
                views[id(given)] = view
            array = views[id(given)]
            if array.shape != self.value.shape:
                raise ValueError(f"{name}: shape {array.shape}; value has {self.value.shape}")
            object.__setattr__(self, name, array)
        if ends_given:
            for name, right in (("low", self.low <= self.value), ("high", self.value <= self.high)):
                if not right.all():
                    first = tuple(int(axis) for axis in np.argwhere(~right)[0])
                    wrong, value = getattr(self, name)[first], self.value[first]
                    raise ValueError(f"{name}: {wrong} at {first}; allowed is low <= value <= high, value is {value}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape."""
        return self.value.shape

    @property
    def is_point(self) -> bool:
        """Whether every interval is a single value. False where that would have to be looked up."""
        return self.low is self.value and self.high is self.value

    @property
    def bound(self) -> Float64:
        """float64: how far a correct kernel may be from `value` before the output's rounding; 0 where certified."""
        if self.is_point:
            return np.broadcast_to(0.0, self.shape)
        with np.errstate(invalid="ignore"):  # Inf - Inf, of a certain Inf
            farthest = np.fmax(self.high - self.value, self.value - self.low)
        # The differences were rounded: one step outward makes up for it, and stays 0 where the ends are equal.
        return np.where(self.low == self.high, 0.0, np.nextafter(farthest, np.inf))

    @property
    def certified(self) -> Bools:
        """bool: the elements for which there is one right answer, bit for bit."""
        exact: Bools = ~self.unconstrained
        if not self.is_point:
            exact &= self.low == self.high
        return exact | self.nan

    def __getitem__(self, index: Any) -> Expected:
        """A part, indexed as an array is; at least one axis must be left."""
        return self._each(lambda array: array[index])

    def reshape(self, *shape: int) -> Expected:
        """The same elements in another shape, as numpy's."""
        return self._each(lambda array: array.reshape(shape))

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Expected:
        value, nan, unconstrained = change(self.value), change(self.nan), change(self.unconstrained)
        if self.is_point:
            return Expected(value, value, value, nan, unconstrained)
        return Expected(value, change(self.low), change(self.high), nan, unconstrained)

    def interval(self, dtype_name: str) -> Interval:
        """The results allowed in "float32", "bfloat16" or "float16".

        Rounding is monotone, so that a result in [low, high], rounded once, lies between the two ends rounded once.
        Meaningless in `nan` and `unconstrained`.
        """
        return _interval(self, dtype_name)


@lru_cache(maxsize=16)
def _interval(expected: Expected, dtype_name: str) -> Interval:
    # Cached, for the fuzzer compares several runs of a case with the same expectation.
    if expected.is_point:
        exact = round_to(expected.value, dtype_name)
        return Interval(exact, exact)
    return Interval(round_to(expected.low, dtype_name), round_to(expected.high, dtype_name))


def stack(parts: Sequence[Expected]) -> Expected:
    """Results of one shape along a new first axis."""
    value, nan, unconstrained = (
        np.stack([getattr(part, name) for part in parts]) for name in ("value", "nan", "unconstrained")
    )
    if all(part.is_point for part in parts):
        return Expected(value, value, value, nan, unconstrained)
    low, high = (np.stack([getattr(part, name) for part in parts]) for name in ("low", "high"))
    return Expected(value, low, high, nan, unconstrained)


def exactly(values: object) -> Expected:
    """A result known exactly: a float tensor or array of any shape, rounded by the output's type at most.

    NaN elements must be NaN. Raises TypeError for other types.
    """
    value = to_float64(values, "values")
    nan = np.isnan(value)
    if nan.any():
        value = np.where(nan, 0.0, value)
    elif isinstance(values, torch.Tensor) and values.dtype == torch.float64:
        value = value.copy()  # the tensor's own memory otherwise
    return Expected(value, value, value, nan, np.broadcast_to(np.False_, value.shape))


def within(values: object, bound: object) -> Expected:
    """A result of which the caller knows how far a correct kernel may be from it: a sum, an exponential.

    `values` is a float tensor or array (the exact result, best in float64), `bound` a number from 0 on, or a tensor or
    array of the same shape: how far the kernel's result may be from it before the output's rounding. Derive it; for a
    sum of n float32 terms it is (n - 1) * 2**-24 * sum(abs(terms)), to first order. NaN elements must be NaN.

    Raises TypeError for other types, ValueError for a bound that is negative or NaN, or of another shape.
    """
    exact = exactly(values)
    given = np.asarray(bound, np.float64) if np.isscalar(bound) else to_float64(bound, "bound")
    if given.shape not in ((), exact.shape):
        raise ValueError(f"bound: shape {given.shape}; allowed are a number and {exact.shape}, the shape of values")
    bounds = np.broadcast_to(given, exact.shape)
    return enclosed(exact.value, bounds, bounds, exact.nan, exact.unconstrained)


def enclosed(value: Float64, below: Float64, above: Float64, nan: Bools, unconstrained: Bools) -> Expected:
    """The enclosure [value - below, value + above], a bare value where both are 0.

    ValueError where a bound is negative or NaN.
    """
    if not ((below >= 0) & (above >= 0)).all():
        raise ValueError("bound: a negative number or NaN; allowed are numbers from 0 on")
    moved = ((below > 0) | (above > 0)) & np.isfinite(value)
    if not moved.any():
        return Expected(value, value, value, nan, unconstrained)
    # The two sums were rounded; one step outward makes up for it.
    low = np.where(moved, np.nextafter(value - below, -np.inf), value)
    high = np.where(moved, np.nextafter(value + above, np.inf), value)
    return Expected(value, low, high, nan, unconstrained)
