"""E2M1, the four-bit float: magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign; no NaN, no Inf.

Source: OCP Microscaling Formats v1.0, section 5.3.3. One code a byte here; `packing` puts two into one.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import scalar
from fp4guard.formats.info import E2M1
from fp4guard.formats.policies import NanElement, Rounding

MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SIGN = 0x8

_VALUES = np.array(MAGNITUDES + tuple(-m for m in MAGNITUDES), np.float32)
_NAN_CODE = {NanElement.ZERO: 0x0, NanElement.MAX: 0x7}


def decode_scalar(code: int) -> float:
    """The value of one code, 0 .. 15; ValueError for any other."""
    return scalar.decode_scalar(E2M1, code)


def encode_scalar(value: float, rounding: Rounding = Rounding.TIES_TO_EVEN) -> int:
    """The code of one value: the definition of `encode`. ValueError for NaN."""
    if math.isnan(value):
        raise ValueError("values: NaN has no E2M1 code")
    rounded = scalar.round_scalar(E2M1, value, rounding)
    return MAGNITUDES.index(abs(rounded)) | (SIGN if math.copysign(1.0, value) < 0 else 0)


def decode(codes: ArrayLike) -> NDArray[np.float32]:
    """Codes, uint8 of any shape, to their values, float32 of the same shape.

    Raises TypeError where `codes` is not uint8, and ValueError where a byte is above 15: high bits that are
    not zero are a packing error, and ignoring them (ml_dtypes reads 0x17 as -6) would hide it.
    """
    codes = np.asarray(codes)
    if codes.dtype != np.uint8:
        raise TypeError(f"codes: dtype {codes.dtype}; allowed is uint8, one code a byte")
    if codes.size and codes.max() > 0xF:
        first = int(codes.ravel()[np.argmax(codes.ravel() > 0xF)])
        raise ValueError(f"codes: {first:#04x}; allowed are 0x00 .. 0x0f, one code a byte (packed? see unpack)")
    return np.take(_VALUES, codes)


def encode(
    values: ArrayLike,
    rounding: Rounding = Rounding.TIES_TO_EVEN,
    nan: NanElement = NanElement.RAISE,
) -> NDArray[np.uint8]:
    """Values of any shape to codes, uint8 of the same shape: rounded once, saturating at +-6, signs kept.

    float64 is compared as float64 (ml_dtypes rounds it to float32 first: 0.25 + 1e-12 becomes 0); half
    types and integers are converted exactly. A negative value that rounds to zero becomes -0, code 8.

    Raises ValueError where `values` holds a NaN and `nan` is NanElement.RAISE.
    """
    values = np.asarray(values)
    if values.dtype != np.float32:
        values = values.astype(np.float64, copy=False)
    is_nan = np.isnan(values)
    any_nan = bool(is_nan.any())
    if any_nan and nan is NanElement.RAISE:
        raise ValueError("values: NaN has no E2M1 code; allowed with nan=NanElement.ZERO or NanElement.MAX")
    magnitude = np.abs(values)
    codes = np.zeros(values.shape, np.uint8)
    for threshold in _thresholds(rounding, values.dtype.type):
        codes += magnitude >= threshold
    codes |= np.signbit(values).astype(np.uint8) << np.uint8(3)
    if any_nan:
        codes[is_nan] = _NAN_CODE[nan]
    return codes


def _thresholds(rounding: Rounding, dtype: type[np.floating]) -> list[np.floating]:
    """For each magnitude but 0, the least value that rounds to it or beyond.

    A tie between codes i and i + 1 is i's under TIES_TO_EVEN where i is even: there the threshold is one
    ulp, of the type that is compared, above the midpoint.
    """
    if rounding is Rounding.TOWARD_ZERO:
        return [dtype(m) for m in MAGNITUDES[1:]]
    middles = [dtype((low + high) / 2) for low, high in pairwise(MAGNITUDES)]
    if rounding is Rounding.TIES_TO_EVEN:
        middles[::2] = [np.nextafter(m, dtype(np.inf)) for m in middles[::2]]
    return middles
