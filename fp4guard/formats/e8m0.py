"""E8M0, the scale byte of MX blocks: byte s is 2^(s - 127), 255 is NaN; no zero, no sign, no Inf.

Source: OCP Microscaling Formats v1.0, section 5.4.1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import scalar
from fp4guard.formats.info import E8M0
from fp4guard.formats.policies import ScaleDecode

BIAS = E8M0.bias
NAN = 0xFF
MAX = 0xFE

_STANDARD = np.ldexp(1.0, np.arange(256) - BIAS)
_STANDARD[NAN] = np.nan
_SHIFT = _STANDARD.copy()
_SHIFT[0], _SHIFT[NAN] = 0.0, np.inf
_TABLES = {ScaleDecode.STANDARD: _STANDARD, ScaleDecode.SHIFT: _SHIFT}


def decode_scalar(byte: int) -> float:
    """The value of one byte, 0 .. 255; ValueError for any other."""
    return scalar.decode_scalar(E8M0, byte)


def encode_scalar(value: float) -> int:
    """The byte of one power of two in 2^-127 .. 2^127, or of NaN; ValueError for anything else."""
    if math.isnan(value):
        return NAN
    significand, exponent = math.frexp(value)
    byte = exponent - 1 + BIAS
    if significand != 0.5 or not 0 <= byte <= MAX:
        raise ValueError(f"values: {value!r}; allowed are powers of two in 2^-127 .. 2^127, and NaN")
    return byte


def decode(scales: ArrayLike, policy: ScaleDecode = ScaleDecode.STANDARD) -> NDArray[np.float64]:
    """Bytes, uint8 of any shape, to their values, float64 of the same shape; exact.

    All of them fit float32 exactly too, 2^-127 as a subnormal. Raises TypeError where `scales` is not uint8.
    """
    scales = np.asarray(scales)
    if scales.dtype != np.uint8:
        raise TypeError(f"scales: dtype {scales.dtype}; allowed is uint8")
    return np.take(_TABLES[policy], scales)


def encode(values: ArrayLike, *, zero: int | None = None, infinity: int | None = None) -> NDArray[np.uint8]:
    """Powers of two of any shape to bytes, uint8 of the same shape; NaN to 255.

    The format pins nothing else down, and libraries differ, so the caller states the byte: `zero` for +-0
    (torch writes 0, ml_dtypes 255), `infinity` for +Inf (254 or 255). How a value between two powers rounds
    is the matter of a `ScaleRule`, not of this function.

    Raises ValueError for every value that has no byte.
    """
    values = np.asarray(values, np.float64)
    significand, exponent = np.frexp(values)
    biased = exponent - 1 + BIAS
    codes = np.where(np.isnan(values), NAN, biased)
    known = np.isnan(values) | ((significand == 0.5) & (biased >= 0) & (biased <= MAX))
    for special, byte in ((values == 0, zero), (values == np.inf, infinity)):
        if byte is not None:
            codes = np.where(special, byte, codes)
            known |= special
    if not known.all():
        first = float(values[~known].ravel()[0])
        raise ValueError(
            f"values: {first!r}; allowed are powers of two in 2^-127 .. 2^127 and NaN, "
            "0 with zero= and Inf with infinity="
        )
    return codes.astype(np.uint8)
