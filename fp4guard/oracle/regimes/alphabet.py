"""Which codes may meet in an exact product: those whose values are small multiples of one power of two."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fp4guard.formats import FloatFormat
from fp4guard.formats.blocks import element_values

Codes = NDArray[np.uint8]


@cache
def alphabet(fmt: FloatFormat, ratio: int) -> Codes:
    """The codes of zero and of values n * q, |n| <= ratio, with the power of two q that admits the most of them.

    Of several such q it is the one for which q and ratio * q lie evenly around 1. Read-only.
    """
    values = np.abs(element_values(fmt))
    finite = np.isfinite(values)
    exponents = range(math.frexp(fmt.smallest)[1] - 1, fmt.max_exponent + 1)
    even = -math.log2(ratio) / 2

    def admitted(exponent: int) -> NDArray[np.bool_]:
        multiple = np.ldexp(np.where(finite, values, 0.5), -exponent)
        inside: NDArray[np.bool_] = finite & (multiple <= ratio) & (multiple == np.rint(multiple))
        return inside

    best = max(exponents, key=lambda e: (int(admitted(e).sum()), -abs(e - even)))
    codes = np.flatnonzero(admitted(best)).astype(np.uint8)
    codes.flags.writeable = False
    return codes


@cache
def full_ratio(fmt: FloatFormat) -> int:
    """The ratio that admits every finite code: largest value to smallest."""
    return int(fmt.max / fmt.smallest)


def powers_of_two(fmt: FloatFormat, exponents: NDArray[np.integer]) -> Codes:
    """The codes of 2^exponents, which have to be normal values of `fmt`."""
    codes: Codes = ((exponents + fmt.bias) << fmt.mantissa_bits).astype(np.uint8)
    return codes
