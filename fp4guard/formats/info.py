"""Number formats as data: one frozen row each, in the manner of gfloat's `FormatInfo` constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fp4guard.formats.policies import Overflow


@dataclass(frozen=True)
class FloatFormat:
    """A binary format of at most 32 bits: sign, then exponent, then mantissa, from the highest bit down.

    A code whose exponent field is e > 0 and whose mantissa field is f stands for (1 + f / 2^mantissa_bits)
    * 2^(e - bias). With `has_subnormals`, e = 0 drops the implicit one and keeps the exponent of e = 1 (so
    that f = 0 is zero); without, e = 0 is an exponent like any other.
    """

    name: str
    width: int
    exponent_bits: int
    mantissa_bits: int
    bias: int
    max: float
    """The largest finite value."""
    nan: int | None
    """The code written for NaN, None where the format has none."""
    infinity: int | None
    """The code of +Inf, None where the format has none."""
    has_sign: bool = True
    has_subnormals: bool = True
    has_negative_zero: bool = True
    overflow: Overflow = Overflow.SATURATE
    """What conversions do that are told nothing else; the standard's choice."""

    @property
    def min_exponent(self) -> int:
        """The exponent of the smallest normal value."""
        return 1 - self.bias if self.has_subnormals else -self.bias

    @property
    def max_exponent(self) -> int:
        """The exponent of the largest finite value."""
        return math.frexp(self.max)[1] - 1

    @property
    def precision(self) -> int:
        """Significant bits of a normal value, the implicit one included."""
        return self.mantissa_bits + 1

    @property
    def smallest(self) -> float:
        """The smallest value above zero."""
        return 2.0 ** (self.min_exponent - (self.mantissa_bits if self.has_subnormals else 0))

    @property
    def smallest_normal(self) -> float:
        """The smallest normal value."""
        return 2.0**self.min_exponent

    @property
    def largest_subnormal(self) -> float | None:
        """The largest value below `smallest_normal`, None where there are no subnormals."""
        return self.smallest_normal - self.smallest if self.has_subnormals else None

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return 1 << self.width

    @property
    def sign_bit(self) -> int:
        """The code of a set sign alone; without a sign, the bit above all codes."""
        return 1 << (self.exponent_bits + self.mantissa_bits)

    @property
    def max_code(self) -> int:
        """The code of `max`. Those from 0 to it are the magnitudes, in order."""
        if self.infinity is not None:
            return self.infinity - 1
        if self.nan is not None and self.nan < self.sign_bit:
            return self.nan - 1
        return self.sign_bit - 1


# OCP Microscaling Formats v1.0: section 5.3.2 (E2M3, E3M2), section 5.3.3 (E2M1) and section 5.4.1 (E8M0).
E2M3 = FloatFormat("e2m3", 6, 2, 3, bias=1, max=7.5, nan=None, infinity=None)
E3M2 = FloatFormat("e3m2", 6, 3, 2, bias=3, max=28.0, nan=None, infinity=None)
E2M1 = FloatFormat("e2m1", width=4, exponent_bits=2, mantissa_bits=1, bias=1, max=6.0, nan=None, infinity=None)
E8M0 = FloatFormat(
    "e8m0",
    width=8,
    exponent_bits=8,
    mantissa_bits=0,
    bias=127,
    max=2.0**127,
    nan=0xFF,
    infinity=None,
    has_sign=False,
    has_subnormals=False,
)

# The FP8 formats: OCP 8-bit Floating Point Specification v1.0, section 5; a NaN is written as 0x7F, which is what PTX's
# `cvt` writes for both. E5M2 is IEEE 754 in all but its size.
E4M3 = FloatFormat("e4m3", 8, 4, 3, bias=7, max=448.0, nan=0x7F, infinity=None)
E5M2 = FloatFormat("e5m2", 8, 5, 2, bias=15, max=57344.0, nan=0x7F, infinity=0x7C)
# Those of gfx942 (AMD CDNA3 ISA, section 7.3): one bias more, no Inf, and the code of -0 is the only NaN.
E4M3FNUZ = FloatFormat("e4m3fnuz", 8, 4, 3, bias=8, max=240.0, nan=0x80, infinity=None, has_negative_zero=False)
E5M2FNUZ = FloatFormat("e5m2fnuz", 8, 5, 2, bias=16, max=57344.0, nan=0x80, infinity=None, has_negative_zero=False)

# IEEE 754-2019, section 3.6, and its float32 without the lower half.
FLOAT16 = FloatFormat(
    "float16",
    16,
    5,
    10,
    bias=15,
    max=65504.0,
    nan=0x7E00,
    infinity=0x7C00,
    overflow=Overflow.NONSATURATING,
)
BFLOAT16 = FloatFormat(
    "bfloat16",
    16,
    8,
    7,
    bias=127,
    max=0xFF * 2.0**120,
    nan=0x7FC0,
    infinity=0x7F80,
    overflow=Overflow.NONSATURATING,
)
FLOAT32 = FloatFormat(
    "float32",
    32,
    8,
    23,
    bias=127,
    max=0xFFFFFF * 2.0**104,
    nan=0x7FC00000,
    infinity=0x7F800000,
    overflow=Overflow.NONSATURATING,
)

FORMATS: dict[str, FloatFormat] = {
    row.name: row for row in (E2M1, E2M3, E3M2, E4M3, E5M2, E4M3FNUZ, E5M2FNUZ, E8M0, FLOAT16, BFLOAT16, FLOAT32)
}
