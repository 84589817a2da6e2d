"""The FP8 formats: a table each way, exact.

Sources: OCP 8-bit Floating Point Specification v1.0 (E4M3, E5M2); PTX ISA, `cvt` with `.satfinite`. One code a byte.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import scalar
from fp4guard.formats.info import FloatFormat
from fp4guard.formats.policies import Rounding

_SIGN = 0x80


def decode_scalar(fmt: FloatFormat, code: int) -> float:
    """The value of one code, 0 .. 255; ValueError for any other."""
    return scalar.decode_scalar(fmt, code)


def encode_scalar(
    fmt: FloatFormat, value: float, rounding: Rounding = Rounding.TIES_TO_EVEN, *, saturate: bool = True
) -> int:
    """The code of one value: the definition of `encode`."""
    assert fmt.nan is not None
    if math.isnan(value):
        return fmt.nan
    sign = _SIGN if math.copysign(1.0, value) < 0 else 0
    codes = [code for code in range(_SIGN) if math.isfinite(decode_scalar(fmt, code))]
    wide = FloatFormat("wide", 64, 11, fmt.mantissa_bits, fmt.bias, 2.0**1000, None, None)
    rounded = abs(scalar.round_scalar(wide, value, rounding))  # as if exponents had no end: IEEE 754, section 7.4
    if rounded > fmt.max:
        if not saturate and not (rounding is Rounding.TOWARD_ZERO and math.isfinite(value)):
            return fmt.nan if fmt.infinity is None else sign | fmt.infinity
        rounded = fmt.max
    code = next(code for code in codes if decode_scalar(fmt, code) == rounded)
    return code if code == 0 and not fmt.has_negative_zero else sign | code


def decode(fmt: FloatFormat, codes: ArrayLike) -> NDArray[np.float32]:
    """Codes, uint8 of any shape, to their values, float32 of the same shape; TypeError for another dtype."""
    codes = np.asarray(codes)
    if codes.dtype != np.uint8:
        raise TypeError(f"codes: dtype {codes.dtype}; allowed is uint8, one code a byte")
    return np.take(_tables(fmt).values, codes)


def encode(
    fmt: FloatFormat, values: ArrayLike, rounding: Rounding = Rounding.TIES_TO_EVEN, *, saturate: bool = True
) -> NDArray[np.uint8]:
    """Values of any shape to codes, uint8 of the same shape: rounded once, signs kept where there is a -0.

    Beyond the largest value, Inf included: that value with `saturate` (PTX's `.satfinite`), else Inf, or NaN where the
    format has no Inf. Toward zero, a finite number stays finite. NaN becomes the format's one NaN, its sign dropped.
    """
    assert fmt.nan is not None
    tables = _tables(fmt)
    values = np.asarray(values, np.float64)
    magnitude = np.abs(values)
    codes = np.searchsorted(tables.thresholds[rounding], magnitude, side="right").astype(np.uint8)
    if saturate:
        codes = np.minimum(codes, np.uint8(tables.last))
    elif rounding is Rounding.TOWARD_ZERO:
        codes = np.where(np.isinf(values), codes, np.minimum(codes, np.uint8(tables.last)))
    beyond = codes > tables.last
    sign = np.signbit(values) if fmt.has_negative_zero else np.signbit(values) & (codes != 0)
    codes = codes | (sign.astype(np.uint8) << np.uint8(7))
    if fmt.infinity is None:
        codes = np.where(beyond, np.uint8(fmt.nan), codes)
    result: NDArray[np.uint8] = np.where(np.isnan(values), np.uint8(fmt.nan), codes)
    return result


class _Tables(NamedTuple):
    """`thresholds[i]` is the least magnitude of code i + 1 or beyond; `last` the code of the largest finite value."""

    values: NDArray[np.float32]
    thresholds: dict[Rounding, NDArray[np.float64]]
    last: int


@cache
def _tables(fmt: FloatFormat) -> _Tables:
    values = np.array([decode_scalar(fmt, code) for code in range(fmt.codes)], np.float32)
    last = int(np.flatnonzero(values[:_SIGN] == fmt.max)[0])
    magnitudes = values[: last + 1].astype(np.float64)
    # One step more: where the next value would be if exponents had no end.
    magnitudes = np.append(magnitudes, 2 * magnitudes[-1] - magnitudes[-2])
    middles = (magnitudes[1:] + magnitudes[:-1]) / 2
    to_even = middles.copy()
    to_even[::2] = np.nextafter(middles[::2], np.inf)  # a tie between an even code and the next is the even one's
    toward_zero = magnitudes[1:].copy()
    return _Tables(
        values,
        {Rounding.TIES_TO_EVEN: to_even, Rounding.TIES_AWAY: middles, Rounding.TOWARD_ZERO: toward_zero},
        last,
    )
