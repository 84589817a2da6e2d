"""Holds a kernel's output bits against what is expected of them."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray

from fp4guard.formats.rounding import from_bits, output_type
from fp4guard.oracle.comparison.codes import compare_codes
from fp4guard.oracle.comparison.mismatch import NEVER, AnyMismatch, Bound, CodesMismatch, Element, Mismatch, places
from fp4guard.oracle.expected import Expected, Interval
from fp4guard.oracle.quantized import ExpectedCodes

Bits = NDArray[np.unsignedinteger]


@overload
def compare(actual_bits: NDArray[np.integer], dtype_name: str, expected: Expected) -> Mismatch | None: ...


@overload
def compare(actual_bits: NDArray[np.integer], dtype_name: str, expected: ExpectedCodes) -> CodesMismatch | None: ...


def compare(
    actual_bits: NDArray[np.integer], dtype_name: str, expected: Expected | ExpectedCodes
) -> AnyMismatch | None:
    """None where every element of `actual_bits` is allowed by `expected`, otherwise what is wrong.

    Against `Expected`, `actual_bits` holds the bits of "float32" (32-bit integers), "bfloat16" or "float16" (16-bit
    integers). An element may be anything in the interval that `Expected.interval` gives, which is one value where the
    result is certified. Zeros are compared without sign, NaN without payload and sign.

    Against `ExpectedCodes` it holds bytes (8-bit integers, "uint8" or another type of one byte) as they are stored.
    Codes are compared bit for bit, but for the bits of NaN; padding where it has a stated content.

    Raises TypeError for bits of another width, ValueError for another shape or an unknown `dtype_name`.
    """
    if isinstance(expected, ExpectedCodes):
        return compare_codes(_checked(actual_bits, "ExpectedCodes", np.uint8, expected.shape), expected)
    return _compare(
        _checked(actual_bits, dtype_name, output_type(dtype_name).bits_dtype, expected.shape), dtype_name, expected
    )


def _checked(
    actual_bits: NDArray[np.integer], allowing: str, unsigned: type[np.unsignedinteger], shape: tuple[int, ...]
) -> Bits:
    if actual_bits.dtype.kind not in "iu" or actual_bits.dtype.itemsize != np.dtype(unsigned).itemsize:
        raise TypeError(f"actual_bits: dtype {actual_bits.dtype}; {allowing} allows {np.dtype(unsigned)}")
    if actual_bits.shape != shape:
        raise ValueError(f"actual_bits: shape {actual_bits.shape}; expected has {shape}")
    return actual_bits.astype(unsigned, casting="unsafe", copy=False)


def _compare(bits: Bits, dtype_name: str, expected: Expected) -> Mismatch | None:
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

    pattern, picture = places(wrong)
    return Mismatch(
        dtype_name,
        len(positions),
        actual.size,
        element(0),
        element(int(np.argmax(ulps))),
        pattern=pattern,
        picture=picture,
    )


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
    return np.where(one_nan, NEVER, np.maximum(low - place, place - high))


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
    actual = float(from_bits(np.asarray(bits[index]), dtype_name))
    exact, least, most = (float(values[index]) for values in (expected.value, expected.low, expected.high))
    certain = least == most
    # Of the side where `actual` is; of both where it is a NaN.
    sides = [0.0] if certain else [exact - least] * (not actual > exact) + [most - exact] * (not actual < exact)
    return Element(
        index=index,
        actual=Bound(actual, int(bits[index]), width),
        exact=np.nan if nan else exact,
        bound=float(np.fmax.reduce(sides)),
        certain=certain,
        low=low,
        high=high,
        ulps=None if ulps == NEVER else ulps,
    )
