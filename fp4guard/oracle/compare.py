"""Holds a kernel's output bits against what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fp4guard.formats.rounding import from_bits, output_type
from fp4guard.oracle.expected import Expected, Interval

Bits = NDArray[np.unsignedinteger]
_NEVER = np.iinfo(np.int64).max
"""The distance, in ulps, between NaN and any number."""


@dataclass(frozen=True)
class Bound:
    """A value in the output's type, with its bits."""

    value: float
    bits: int
    width: int

    def __str__(self) -> str:
        return f"{self.value!r} ({self.bits:#0{self.width // 4 + 2}x})"


@dataclass(frozen=True)
class Element:
    """One output element that is wrong."""

    index: tuple[int, ...]
    actual: Bound
    exact: float
    """The exact result before the output's rounding; NaN where NaN is expected."""
    bound: float
    """How far a correct accumulator may be from `exact`."""
    low: Bound
    high: Bound
    """The interval of results allowed; both are the one right answer where that is certified, or NaN."""
    ulps: int | None
    """Steps of the type from `actual` to the nearest allowed value, None where just one of them is NaN."""

    def __str__(self) -> str:
        if self.low == self.high:
            allowed = f"expected {self.low}, actual {self.actual}"
        else:
            allowed = f"expected {self.low} to {self.high}, actual {self.actual}"
        return f"{allowed}\n    {self._reason()}"

    def _reason(self) -> str:
        if np.isnan(self.exact):
            return "a NaN takes part in this element, so it must be NaN"
        if self.bound == 0:
            sole = f"the one right answer is {self.exact!r}, rounded once"
            return f"{sole}: certified, or given as exact; bits must match"
        error = abs(self.actual.value - self.exact)
        return f"exact {self.exact!r}; differs by {error:.6g}, a correct accumulator by at most {self.bound:.6g}"


@dataclass(frozen=True)
class Mismatch:
    """What `compare` found wrong, printable in the manner of torch.testing."""

    dtype_name: str
    count: int
    total: int
    """Elements compared, those of which nothing is known included."""
    first: Element
    """The first wrong element in row-major order."""
    worst: Element
    """The wrong element farthest from what is allowed; a NaN on one side only is farther than any number."""

    def __str__(self) -> str:
        lines = [f"Mismatched elements: {self.count} / {self.total} ({100 * self.count / self.total:.1f}%)"]
        lines.append(f"Greatest difference: {_ulps(self.worst)} at index {self.worst.index} [{self.dtype_name}]")
        lines.append(f"    {self.worst}")
        if self.first != self.worst:
            lines.append(f"First difference: {_ulps(self.first)} at index {self.first.index}")
            lines.append(f"    {self.first}")
        return "\n".join(lines)


def compare(actual_bits: NDArray[np.integer], dtype_name: str, expected: Expected) -> Mismatch | None:
    """None where every element of `actual_bits` is allowed by `expected`, otherwise what is wrong.

    `actual_bits` holds the bits of "float32" (32-bit integers), "bfloat16" or "float16" (16-bit integers).
    An element may be anything in the interval that `Expected.interval` gives, which is one value where the
    result is certified. Zeros are compared without sign, NaN without payload and sign.

    Raises TypeError for bits of another width, ValueError for another shape or an unknown `dtype_name`.
    """
    unsigned = output_type(dtype_name).bits_dtype
    if actual_bits.dtype.kind not in "iu" or actual_bits.dtype.itemsize != np.dtype(unsigned).itemsize:
        raise TypeError(f"actual_bits: dtype {actual_bits.dtype}; {dtype_name} allows {np.dtype(unsigned)}")
    if actual_bits.shape != expected.shape:
        raise ValueError(f"actual_bits: shape {actual_bits.shape}; expected has {expected.shape}")
    bits = actual_bits.astype(unsigned, casting="unsafe", copy=False)
    actual = from_bits(bits, dtype_name)
    interval = expected.interval(dtype_name)
    inside = (interval.low.value <= actual) & (actual <= interval.high.value)
    wrong = ~np.where(expected.nan, np.isnan(actual), inside | expected.unconstrained)
    if not wrong.any():
        return None
    positions = np.flatnonzero(wrong)
    ulps = _distances(positions, bits, actual, interval, expected)

    def element(nth: int) -> Element:
        position = int(positions[nth])
        index = tuple(int(axis) for axis in np.unravel_index(position, expected.shape))
        return _element(index, int(ulps[nth]), bits, interval, expected, dtype_name)

    return Mismatch(dtype_name, len(positions), actual.size, element(0), element(int(np.argmax(ulps))))


def _distances(
    positions: NDArray[np.intp],
    bits: Bits,
    actual: NDArray[np.float64],
    interval: Interval,
    expected: Expected,
) -> NDArray[np.int64]:
    """How many steps of the output's type the elements at flat `positions` are outside of what is allowed."""
    arrays = (bits, interval.low.bits, interval.high.bits)
    place, low, high = (_ordered(array.ravel()[positions]) for array in arrays)
    one_nan = np.isnan(actual).ravel()[positions] | expected.nan.ravel()[positions]
    return np.where(one_nan, _NEVER, np.maximum(low - place, place - high))


def _ordered(bits: Bits) -> NDArray[np.int64]:
    """Sign and magnitude to integers in the order of the values, both zeros 0, neighbours one apart."""
    sign = np.int64(1) << (8 * bits.dtype.itemsize - 1)
    wide = bits.astype(np.int64)
    return np.where(wide & sign, sign - wide, wide)


def _element(
    index: tuple[int, ...], ulps: int, bits: Bits, interval: Interval, expected: Expected, dtype_name: str
) -> Element:
    width = 8 * bits.dtype.itemsize
    nan = bool(expected.nan[index])
    if nan:
        low = high = Bound(np.nan, output_type(dtype_name).format.nan or 0, width)
    else:
        low, high = (Bound(float(end.value[index]), int(end.bits[index]), width) for end in interval)
    return Element(
        index=index,
        actual=Bound(float(from_bits(np.asarray(bits[index]), dtype_name)), int(bits[index]), width),
        exact=np.nan if nan else float(expected.value[index]),
        bound=float(expected.bound[index]),
        low=low,
        high=high,
        ulps=None if ulps == _NEVER else ulps,
    )


def _ulps(element: Element) -> str:
    if element.ulps is None:
        return "NaN on one side only"
    return f"{element.ulps} ulp" if element.ulps == 1 else f"{element.ulps} ulps"
