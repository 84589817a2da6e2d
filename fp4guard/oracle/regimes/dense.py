"""Data regimes of dense matrices: (rows, k, format, numpy Generator, bits of the accumulator in which products are
certified) to float64 values that the format holds.

The last axis, of length k, is the one that a product sums over. Each mirrors the MXFP4 regime of its name,
and the two may meet in one product.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fp4guard.formats import MXFP4, FloatFormat, codec, round_to
from fp4guard.formats.rounding import OUTPUT_TYPES
from fp4guard.oracle.regimes.budget import budget, require, top_exponent

BLOCK = MXFP4.length

Float64 = NDArray[np.float64]


def exact(rows: int, k: int, fmt: FloatFormat, rng: Generator, bits: int) -> Float64:
    """Integers up to the certificate's budget (and the format's precision), times one power of two."""
    require(k, 1, bits)
    largest = _largest_integer(k, fmt, bits)
    integers = rng.integers(-largest, largest + 1, (rows, k))
    return np.ldexp(integers.astype(np.float64), int(rng.integers(-1, 2)) - largest.bit_length() // 2)


def wild(rows: int, k: int, fmt: FloatFormat, rng: Generator, bits: int) -> Float64:
    """Numbers of every size; no certificate, whatever the bits."""
    return every_size(rows, k, fmt, rng)


def every_size(rows: int, k: int, fmt: FloatFormat, rng: Generator) -> Float64:
    """Numbers of every size, a row's around a size of its own; NaN, Inf, subnormals, +-max in some rows.

    A quarter of the rows are of one sign, as in `blocks.wild`.
    """
    highest = math.frexp(fmt.max)[1] - 1
    centre = rng.normal(0, highest / 5, (rows, 1))
    width = rng.choice([1, highest / 8, highest / 2], (rows, 1))
    exponents = np.clip(centre + rng.uniform(-width, width, (rows, k)), fmt.min_exponent - 4, highest)
    signs = np.where(
        rng.random((rows, 1)) < 0.25, rng.choice([-1.0, 1.0], (rows, 1)), rng.choice([-1.0, 1.0], (rows, k))
    )
    values = np.exp2(exponents) * signs
    kind = rng.integers(0, 16, (rows, 1))
    one = np.arange(k) == rng.integers(0, max(k, 1), (rows, 1))
    few = rng.random((rows, k)) < 0.1
    sign = rng.choice([-1.0, 1.0], (rows, k))
    values = np.where((kind == 0) & one, np.nan, values)
    values = np.where((kind == 1) & one, sign * np.inf, values)
    values = np.where((kind == 2) & one, sign * fmt.max, values)
    values = np.where((kind >= 3) & (kind <= 5) & few, sign * fmt.smallest * rng.integers(0, 5, (rows, k)), values)
    return _held(values, fmt)


def ties(rows: int, k: int, fmt: FloatFormat, rng: Generator, bits: int) -> Float64:
    """Integers whose sums of products are halfway cases of bfloat16 and float16, as `blocks.ties`.

    Here a row draws four successive integers, two of them odd, whose mean puts the sum of the columns that
    take part near 384 in "small" rows and near 2900 in "large" ones.
    """
    taking_part = min(max(k, 1), BLOCK)
    aim = np.where(rng.random((rows, 1)) < 0.5, 384.0, 2900.0)
    base = np.rint(np.sqrt(aim / taking_part) - 1.5)
    require(k, int(base.max(initial=0)) + 3, bits)
    values = base + rng.integers(0, 4, (rows, k))
    values = np.where(rng.random((rows, k)) < np.sqrt(taking_part / max(k, 1)), values, 0.0)
    values = values * rng.choice([-1.0, 1.0], (rows, 1)) * np.exp2(rng.integers(-2, 3, (rows, 1)))
    return _held(values, fmt)


def zeros(rows: int, k: int, fmt: FloatFormat, rng: Generator, bits: int) -> Float64:
    """The exact regime with most elements, and whole blocks of 32, replaced by +-0."""
    values = exact(rows, k, fmt, rng, bits)
    zero_blocks = np.repeat(rng.random((rows, -(-k // BLOCK))) < 0.5, BLOCK, axis=1)[:, :k]
    zero = zero_blocks | (rng.random((rows, k)) < 0.5)
    return np.where(zero, np.copysign(0.0, rng.choice([-1.0, 1.0], (rows, k))), values)


def nans(rows: int, k: int, fmt: FloatFormat, rng: Generator, bits: int) -> Float64:
    """The exact regime with a NaN in half of the rows, anywhere or last, and an Inf in others; certified."""
    values = exact(rows, k, fmt, rng, bits)
    kind = rng.integers(0, 8, (rows, 1))
    columns = np.arange(k)
    one, last = columns == rng.integers(0, max(k, 1), (rows, 1)), columns == k - 1
    values = np.where(((kind < 2) & one) | ((kind >= 2) & (kind < 4) & last), np.nan, values)
    if fmt.infinity is None:
        return values
    return np.where((kind == 4) & one, np.copysign(np.inf, values), values)


def maxima(rows: int, k: int, fmt: FloatFormat, rng: Generator, bits: int) -> Float64:
    """One magnitude everywhere, all its bits set; in half of the rows as large as no overflow allows."""
    require(k, 1, bits)
    largest = (1 << (_largest_integer(k, fmt, bits) + 1).bit_length() - 1) - 1
    room = math.frexp(fmt.max)[1] - largest.bit_length()
    top = min(top_exponent(k, largest), room - (math.ldexp(largest, room) > fmt.max))
    signs = rng.choice([-1.0, 1.0], (rows, k))
    values: Float64 = np.ldexp(signs * largest, rng.choice([0, top], (rows, 1)))
    return values


def _held(values: Float64, fmt: FloatFormat) -> Float64:
    """The values that `fmt` makes of them."""
    if fmt.name in OUTPUT_TYPES:
        return round_to(values, fmt.name).value
    return codec.decode(fmt, codec.encode(fmt, values)).astype(np.float64)


def _largest_integer(k: int, fmt: FloatFormat, bits: int) -> int:
    return min(budget(k, bits), 1 << fmt.precision)
