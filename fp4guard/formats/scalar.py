"""What the formats mean, one value at a time in exact rational arithmetic: slow, and meant to be read.

The vectorised functions of this package are held against these definitions by the tests.
"""

from __future__ import annotations

import math
from fractions import Fraction

from fp4guard.formats.info import FloatFormat
from fp4guard.formats.policies import Rounding

_HALF = Fraction(1, 2)


def decode_scalar(fmt: FloatFormat, code: int) -> float:
    """The value of one code of `fmt`; exact, as no format here has more than 24 significant bits.

    Raises ValueError for a code outside 0 .. 2^width - 1.
    """
    if not 0 <= code < fmt.codes:
        raise ValueError(f"code {code:#x} is not one of {fmt.name}'s 0 .. {fmt.codes - 1:#x}")
    magnitude_bits = fmt.exponent_bits + fmt.mantissa_bits
    sign = -1.0 if code >> magnitude_bits else 1.0
    magnitude = code & ((1 << magnitude_bits) - 1)
    if fmt.infinity is not None and magnitude >= fmt.infinity:
        return sign * math.inf if magnitude == fmt.infinity else math.nan
    if fmt.nan in (magnitude, code):
        return math.nan
    field, fraction = divmod(magnitude, 1 << fmt.mantissa_bits)
    if fmt.has_subnormals and field == 0:
        return sign * math.ldexp(fraction, fmt.min_exponent - fmt.mantissa_bits)
    return sign * math.ldexp(fraction + (1 << fmt.mantissa_bits), field - fmt.bias - fmt.mantissa_bits)


def round_scalar(fmt: FloatFormat, value: float, rounding: Rounding = Rounding.TIES_TO_EVEN) -> float:
    """`value` rounded once to the precision and the subnormals of `fmt`, a format with subnormals.

    Beyond `fmt.max` the result is Inf where the format has one (IEEE 754, section 4.3) and `fmt.max` where
    it has not (saturation, OCP MX v1.0, section 5.3.3). NaN is returned as it is.
    """
    if math.isnan(value):
        return value
    limit = fmt.max if fmt.infinity is None else math.inf
    if math.isinf(value):
        return math.copysign(limit, value)
    magnitude = Fraction(abs(value))
    exponent = max(_floor_log2(magnitude), fmt.min_exponent) if magnitude else fmt.min_exponent
    quantum = Fraction(2) ** (exponent - fmt.mantissa_bits)
    rounded = _round_to_int(magnitude / quantum, rounding) * quantum
    return math.copysign(float(rounded) if rounded <= fmt.max else limit, value)


def _floor_log2(positive: Fraction) -> int:
    guess = positive.numerator.bit_length() - positive.denominator.bit_length()
    return guess if positive >= Fraction(2) ** guess else guess - 1


def _round_to_int(positive: Fraction, rounding: Rounding) -> int:
    below = math.floor(positive)
    rest = positive - below
    if rounding is Rounding.TOWARD_ZERO or rest < _HALF:
        return below
    if rest > _HALF or rounding is Rounding.TIES_AWAY:
        return below + 1
    return below + below % 2
