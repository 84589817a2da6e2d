"""Every format's codec by arithmetic on whole arrays, under every policy: what `codec` takes its tables from.

A value is n * 2^(e - mantissa_bits), e its exponent or the smallest normal one. Once n is rounded to an integer, the
magnitude's code is n + ((e - min_exponent) << mantissa_bits): a subnormal's n is its mantissa, a normal's brings the
exponent's first step with it, and an n that rounding carried to the next power of two brings one more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fp4guard.formats.info import FloatFormat
from fp4guard.formats.policies import NanElement, Overflow, Rounding, ZeroSign
from fp4guard.formats.scalar import nan_code


class Policies(NamedTuple):
    """What a conversion chooses."""

    rounding: Rounding
    overflow: Overflow
    nan: NanElement
    zero_sign: ZeroSign


def code_dtype(fmt: FloatFormat) -> type[np.unsignedinteger]:
    """The unsigned integer that codes are held in."""
    return np.uint8 if fmt.width <= 8 else np.uint16 if fmt.width == 16 else np.uint32


def decode(fmt: FloatFormat, codes: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
    """Codes, all below `fmt.codes`, to float32."""
    codes = codes.astype(np.int64)
    magnitude = codes & (fmt.sign_bit - 1)
    field, fraction = magnitude >> fmt.mantissa_bits, magnitude & ((1 << fmt.mantissa_bits) - 1)
    subnormal = (field == 0) & fmt.has_subnormals
    significand = np.where(subnormal, fraction, fraction + (1 << fmt.mantissa_bits))
    exponent = np.where(subnormal, fmt.min_exponent, field - fmt.bias)
    values = np.ldexp(significand.astype(np.float64), exponent - fmt.mantissa_bits)
    values[magnitude > fmt.max_code] = np.nan
    if fmt.nan is not None:
        values[codes == fmt.nan] = np.nan  # of FNUZ, whose magnitude is a zero's
    if fmt.infinity is not None:
        values[magnitude == fmt.infinity] = np.inf
    signed: NDArray[np.float64] = np.copysign(values, np.where(codes >= fmt.sign_bit, -1.0, 1.0))
    return signed.astype(np.float32)


def encode(
    fmt: FloatFormat, values: NDArray[np.float64], policies: Policies, random: NDArray[np.uint32] | None = None
) -> NDArray[np.unsignedinteger]:
    """float64 to codes. NaN gets whatever code where it has none and the policy is RAISE."""
    magnitude = np.abs(values)
    nan, infinite = np.isnan(values), np.isinf(values)
    magnitude[nan | infinite] = 0.0
    codes = _rounded(fmt, magnitude, policies.rounding, random)
    codes[infinite] = fmt.max_code + 1

    beyond = codes > fmt.max_code
    codes[beyond] = fmt.max_code
    if policies.rounding is Rounding.TOWARD_ZERO:
        beyond = infinite
    if policies.overflow is Overflow.NONSATURATING and fmt.infinity is not None:
        codes[beyond] = fmt.infinity
    negative = np.signbit(values)
    if policies.zero_sign is ZeroSign.DROP or not fmt.has_negative_zero:
        negative &= codes != 0
    codes[negative] |= fmt.sign_bit
    if fmt.nan is not None:
        if policies.overflow is Overflow.NONSATURATING and fmt.infinity is None:
            nan |= beyond
        codes[nan] = fmt.nan
    elif policies.nan is not NanElement.RAISE:
        codes[nan] = nan_code(fmt, policies.nan)
    return codes.astype(code_dtype(fmt))


def _rounded(
    fmt: FloatFormat, magnitude: NDArray[np.float64], rounding: Rounding, random: NDArray[np.uint32] | None
) -> NDArray[np.int64]:
    exponent = np.maximum(np.frexp(magnitude)[1].astype(np.int64) - 1, fmt.min_exponent)
    exponent[magnitude == 0] = fmt.min_exponent
    n = np.ldexp(magnitude, fmt.mantissa_bits - exponent)  # exact: at most 2^precision, and no format reaches 2^-1022
    if rounding is Rounding.TIES_TO_EVEN and fmt.mantissa_bits > 0:
        n = np.rint(n)
    else:
        below = np.floor(n)
        n = below + _goes_up(n - below, rounding, random)
    codes: NDArray[np.int64] = n.astype(np.int64) + ((exponent - fmt.min_exponent) << fmt.mantissa_bits)
    # Without subnormals there is no code for n = 0, and n = 2^mantissa_bits is the smallest value's.
    return codes if fmt.has_subnormals else np.maximum(codes - (1 << fmt.mantissa_bits), 0)


def _goes_up(rest: NDArray[np.float64], rounding: Rounding, random: NDArray[np.uint32] | None) -> NDArray[np.bool_]:
    if rounding is Rounding.TOWARD_ZERO:
        return np.zeros(rest.shape, np.bool_)
    if rounding is Rounding.STOCHASTIC:
        assert random is not None
        return random < rest * 2.0**32
    # Ties to even of one-bit significands too: see `scalar`.
    return rest >= 0.5
