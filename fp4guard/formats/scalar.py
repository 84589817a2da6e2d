"""What the formats mean, one value at a time in exact rational arithmetic: slow, and meant to be read.

The vectorised functions of this package are held against these definitions by the tests.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction
from functools import lru_cache

from fp4guard.formats.info import FloatFormat
from fp4guard.formats.policies import NanElement, Overflow, Rounding, ZeroSign

_HALF = Fraction(1, 2)


def decode_scalar(fmt: FloatFormat, code: int) -> float:
    """The value of one code of `fmt`; exact, as no format here has more than 24 significant bits.

    Raises ValueError for a code outside 0 .. 2^width - 1.
    """
    if not 0 <= code < fmt.codes:
        raise ValueError(f"code: {code:#x}; {fmt.name} allows 0 .. {fmt.codes - 1:#x}")
    negative, magnitude = divmod(code, fmt.sign_bit)
    sign = -1.0 if negative else 1.0
    if magnitude == fmt.infinity:
        return sign * math.inf
    if magnitude > fmt.max_code or code == fmt.nan:
        return math.nan
    return sign * float(_magnitude(fmt, magnitude))


def encode_scalar(
    fmt: FloatFormat,
    value: float,
    rounding: Rounding = Rounding.TIES_TO_EVEN,
    overflow: Overflow | None = None,
    nan: NanElement = NanElement.RAISE,
    zero_sign: ZeroSign = ZeroSign.KEEP,
    random: int | None = None,
) -> int:
    """The code of one value: the definition of `codec.encode`, which documents policies and errors."""
    overflow = overflow or fmt.overflow
    check_policies(fmt, rounding, overflow, nan, random is not None)
    if math.isnan(value):
        return fmt.nan if fmt.nan is not None else nan_code(fmt, nan)
    if not fmt.has_sign and value <= 0:
        raise ValueError(f"values: {value!r}; {fmt.name} has neither a zero nor a sign")

    code = _rounded(fmt, abs(value), rounding, random)
    if code > fmt.max_code:  # IEEE 754, section 7.4: rounded as if exponents had no end, then looked at
        stays_finite = rounding is Rounding.TOWARD_ZERO and math.isfinite(value)
        if overflow is Overflow.SATURATE or stays_finite:
            code = fmt.max_code
        elif fmt.infinity is not None:
            code = fmt.infinity
        else:
            assert fmt.nan is not None
            return fmt.nan
    if code == 0 and (zero_sign is ZeroSign.DROP or not fmt.has_negative_zero):
        return 0
    return code | fmt.sign_bit if math.copysign(1.0, value) < 0 else code


def round_scalar(fmt: FloatFormat, value: float, rounding: Rounding = Rounding.TIES_TO_EVEN) -> float:
    """The value of `value`'s code: rounded once to `fmt`, a format with subnormals.

    Beyond `fmt.max` it becomes Inf where the format has one (but toward zero), else `fmt.max`. NaN stays NaN.
    """
    if math.isnan(value):
        return value
    overflow = Overflow.SATURATE if fmt.infinity is None else Overflow.NONSATURATING
    return decode_scalar(fmt, encode_scalar(fmt, value, rounding, overflow))


def nan_code(fmt: FloatFormat, nan: NanElement) -> int:
    """What stands for NaN in a format without one. ValueError under NanElement.RAISE."""
    if nan is NanElement.RAISE:
        raise ValueError(f"values: NaN has no {fmt.name} code; allowed with NanElement.ZERO or NanElement.MAX")
    return fmt.max_code if nan is NanElement.MAX else 0


def check_policies(fmt: FloatFormat, rounding: Rounding, overflow: Overflow, nan: NanElement, random: bool) -> None:
    """ValueError for policies that `fmt` has no answer to, and where random words lack or have no use."""
    if overflow is Overflow.NONSATURATING and fmt.infinity is None and fmt.nan is None:
        raise ValueError(f"overflow: NONSATURATING; {fmt.name} has neither Inf nor NaN, allowed is Overflow.SATURATE")
    if nan is not NanElement.RAISE and fmt.nan is not None:
        raise ValueError(f"nan: {nan.name}; {fmt.name} has a NaN of its own, {fmt.nan:#x}; allowed is NanElement.RAISE")
    if rounding is Rounding.STOCHASTIC and not random:
        raise ValueError("random: None; Rounding.STOCHASTIC needs a random word, uint32, for each value")
    if rounding is not Rounding.STOCHASTIC and random:
        raise ValueError(f"random: given; Rounding.{rounding.name} allows None")


@lru_cache(1 << 12)  # a bisection asks for the same few again and again
def _magnitude(fmt: FloatFormat, code: int) -> Fraction:
    """The value of a code without a sign, as if there were neither specials nor an end of exponents."""
    field, fraction = divmod(code, 1 << fmt.mantissa_bits)
    if fmt.has_subnormals and field == 0:
        significand, exponent = fraction, fmt.min_exponent
    else:
        significand, exponent = (1 << fmt.mantissa_bits) + fraction, field - fmt.bias
    return significand * Fraction(2) ** (exponent - fmt.mantissa_bits)


def _rounded(fmt: FloatFormat, magnitude: float, rounding: Rounding, random: int | None) -> int:
    """The code, at most one more than `max_code`, of a magnitude; the smallest code's below that."""
    beyond = fmt.max_code + 1
    if magnitude >= _magnitude(fmt, beyond):
        return beyond
    exact = Fraction(magnitude)
    low = bisect_right(range(beyond), exact, key=lambda code: _magnitude(fmt, code)) - 1
    if low < 0:
        return 0
    below, above = _magnitude(fmt, low), _magnitude(fmt, low + 1)
    return low + _goes_up(fmt, low, (exact - below) / (above - below), rounding, random)


def _goes_up(fmt: FloatFormat, low: int, rest: Fraction, rounding: Rounding, random: int | None) -> bool:
    """Whether a value `rest` of the way from code `low` to the next, 0 <= rest < 1, becomes the next."""
    if rounding is Rounding.TOWARD_ZERO:
        return False
    if rounding is Rounding.STOCHASTIC:
        assert random is not None
        return random < rest * 2**32
    if rest != _HALF or rounding is Rounding.TIES_AWAY:
        return rest >= _HALF
    # A significand of one bit is never even; then the larger magnitude is delivered (IEEE 754-2019, section 4.3.1).
    return fmt.mantissa_bits == 0 or low % 2 == 1
