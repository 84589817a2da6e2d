"""Floating-point building blocks that round once, where numpy would round twice."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..elements import Array, round_to_bfloat16


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """A + b rounded, and what rounding lost, exactly (Knuth, TAOCP volume 2, section 4.2.2)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _to_odd(value: Array, lost: Array) -> Array:
    """`value` of float64 moved to the neighbour with an odd last bit where `lost` says that it is not exact.

    Rounding such a number again, to fewer bits, rounds only once (Boldo and Melquiond, IEEE Transactions on Computers
    57(4), 2008).
    """
    bits = value.view(np.int64)
    inexact = np.isfinite(value) & np.isfinite(lost) & (lost != 0)
    # Truncate toward zero first, then set the last bit: the magnitude shrinks by one where the sum was rounded up.
    rounded_up = inexact & ((lost < 0) == (value > 0)) & (value != 0)
    moved = (bits - rounded_up) | 1
    return np.where(inexact, moved.view(np.float64), value)


def narrow(value: Array, element: str) -> Array:
    """float64 rounded once, ties to even, to f16, bf16, f32 or f64; bf16 is held as float32."""
    if element == "f64":
        return value
    if element == "f16":
        return value.astype(np.float16)
    single = value.astype(np.float32)
    if element == "f32":
        return single
    wide = single.astype(np.float64)
    bits = single.view(np.uint32) - (np.abs(wide) > np.abs(value))
    odd = np.where((wide == value) | (value != value), single, (bits | 1).astype(np.uint32).view(np.float32))
    return round_to_bfloat16(odd)


def fma(a: Array, b: Array, c: Array, element: str) -> Array:
    """A * b + c with a single rounding, for operands of f16, bf16 (as float32), f32 or f64."""
    if element == "f64":
        return _fma64(*np.broadcast_arrays(a, b, c))
    wide = [np.asarray(x, np.float64) for x in (a, b, c)]
    # The product of two numbers of 24 bits is exact in float64; only the sum can round.
    total, lost = two_sum(wide[0] * wide[1], wide[2])
    return narrow(_to_odd(total, lost), element)


def _fma64(a: Array, b: Array, c: Array) -> Array:
    """Boldo and Melquiond's, section 5, and exact fractions where a number is too large or too small for it."""
    high, low = _two_product(a, b)
    upper, rest = two_sum(c, low)
    total, lost = two_sum(high, upper)
    smaller, least = two_sum(rest, lost)
    result = total + _to_odd(smaller, least)
    magnitudes = [np.abs(x) for x in (a, b, c, a * b)]
    with np.errstate(all="ignore"):
        plain = np.logical_and.reduce([(x == 0) | ((x > 1e-140) & (x < 1e140)) for x in magnitudes])
    special = ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(c))
    # A product of finite numbers is finite, however large: against an infinite c it counts for nothing.
    unbounded = np.where(np.isfinite(a) & np.isfinite(b), c, a * b + c)
    result = np.where(special, unbounded, np.where((a * b == 0) & ((a == 0) | (b == 0)), a * b + c, result))
    for place in zip(*np.nonzero(~plain & ~special)):
        exact = Fraction(float(a[place])) * Fraction(float(b[place])) + Fraction(float(c[place]))
        result[place] = _nearest(exact) if exact else float(a[place] * b[place] + c[place])
    return result


def _nearest(exact: Fraction) -> float:
    try:
        return exact.numerator / exact.denominator  # Python rounds this once, ties to even
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """A * b rounded, and what rounding lost (Dekker, with Veltkamp's split)."""
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _halves(x: Array) -> tuple[Array, Array]:
    scaled = x * 134217729.0  # 2^27 + 1
    high = scaled - (scaled - x)
    return high, x - high
