"""E8M0, the scale byte of MX blocks: byte s is 2^(s - 127), 255 is NaN; no zero, no sign, no Inf.

Source: OCP Microscaling Formats v1.0, section 5.4.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import codec
from fp4guard.formats.info import E8M0
from fp4guard.formats.policies import Overflow, Rounding, ScaleDecode

BIAS = E8M0.bias
NAN = 0xFF
MAX = 0xFE

_STANDARD = np.ldexp(1.0, np.arange(256) - BIAS)
_STANDARD[NAN] = np.nan
_SHIFT = _STANDARD.copy()
_SHIFT[0], _SHIFT[NAN] = 0.0, np.inf
_ONE_AT_ZERO = _STANDARD.copy()
_ONE_AT_ZERO[0] = 1.0
_TABLES = {ScaleDecode.STANDARD: _STANDARD, ScaleDecode.SHIFT: _SHIFT, ScaleDecode.ONE_AT_ZERO: _ONE_AT_ZERO}


def decode(scales: ArrayLike, policy: ScaleDecode = ScaleDecode.STANDARD) -> NDArray[np.float64]:
    """Bytes, uint8 of any shape, to their values, float64 of the same shape; exact.

    All of them fit float32 exactly too, 2^-127 as a subnormal. Raises TypeError where `scales` is not uint8.
    """
    scales = np.asarray(scales)
    if scales.dtype != np.uint8:
        raise TypeError(f"scales: dtype {scales.dtype}; allowed is uint8")
    return np.take(_TABLES[policy], scales)


def encode(
    values: ArrayLike,
    rounding: Rounding | None = None,
    *,
    zero: int | None = None,
    infinity: int | None = None,
    overflow: Overflow = Overflow.SATURATE,
    random: codec.Random = None,
) -> NDArray[np.uint8]:
    """Values of any shape to bytes, uint8 of the same shape; NaN to 255.

    The format pins down powers of two and NaN. Libraries differ in the rest, so the caller states it:

    - `rounding`, of other positive values; what is below 2^-127 becomes it. The tie 3.0 goes up to 4.0 to even: a
      significand of one bit is never even, and IEEE 754-2019, section 4.3.1, then takes the larger, as ml_dtypes and
      torch do; gfloat takes the even byte, 2.0.
    - `overflow`, of finite values that round beyond 2^127: byte 254, or 255.
    - `zero`, the byte of +-0: torch writes 0, ml_dtypes 255.
    - `infinity`, the byte of +Inf: 254 or 255.

    How a block's scale follows from its elements is the matter of a `ScaleRule`, not of this function.

    Raises ValueError for every value that has no byte, and as `codec.encode` for `random`.
    """
    values = np.asarray(values, np.float64)
    stated = [(values == number, byte) for number, byte in ((0.0, zero), (np.inf, infinity)) if byte is not None]
    refused = (values <= 0) | np.isinf(values)
    if rounding is None:
        significand, exponent = np.frexp(values)
        refused |= ~np.isnan(values) & ((significand != 0.5) | (exponent - 1 < -BIAS) | (exponent - 1 > MAX - BIAS))
    for special, _ in stated:
        refused &= ~special
    if refused.any():
        first = float(values[refused].ravel()[0])
        raise ValueError(
            f"values: {first!r}; allowed are powers of two in 2^-127 .. 2^127 and NaN, other positive numbers with "
            "rounding=, 0 with zero= and Inf with infinity="
        )
    known = values.copy()
    for special, _ in stated:
        known[special] = 1.0
    codes = codec.encode(E8M0, known, rounding or Rounding.TIES_TO_EVEN, overflow=overflow, random=random)
    for special, byte in stated:
        codes[special] = byte
    return codes.astype(np.uint8)
