"""Data regimes of what a kernel quantizes: (block format, rows, columns, type, numpy Generator) to float64 values.

Values come in square tiles as wide as a block. A tile's elements lie around one power of two, and the largest of
each of its rows and of each of its columns stands on a (shifted) diagonal: so a quantization along either axis finds
the block maxima that a regime wants it to find.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fp4guard.formats import E8M0, BlockFormat, FloatFormat
from fp4guard.formats.blocks import element_values
from fp4guard.formats.rounding import output_type
from fp4guard.oracle.regimes import dense

Float64 = NDArray[np.float64]

_ORDINARY = tuple(range(-3, 4))
"""Exponents of tiles, far from the ends of every type."""


def exact(format: BlockFormat, rows: int, columns: int, fmt: FloatFormat, rng: Generator) -> Float64:
    """Values that the format holds: every element of a tile, under a scale that every rule but CEIL finds."""
    points = _points(format.element)
    return _tiled(format, (rows, columns), fmt, rng, points.values[-1:], points.values)


def wild(format: BlockFormat, rows: int, columns: int, fmt: FloatFormat, rng: Generator) -> Float64:
    """Numbers of every size; NaN, Inf, subnormals, +-max in some rows."""
    return dense.every_size(rows, columns, fmt, rng)


def ties(format: BlockFormat, rows: int, columns: int, fmt: FloatFormat, rng: Generator) -> Float64:
    """Elements halfway between two neighbours, under scales that a block's largest element makes hard to miss."""
    points = _points(format.element)
    raised = 2 * points.middles  # halfway where a rule has doubled the scale
    middles = np.concatenate([points.middles, raised[raised <= format.element.max]])
    return _tiled(format, (rows, columns), fmt, rng, points.peaks, middles)


def zeros(format: BlockFormat, rows: int, columns: int, fmt: FloatFormat, rng: Generator) -> Float64:
    """Zeros of both signs, whole blocks of them in either direction, and subnormals as a block's only content."""
    values = exact(format, rows, columns, fmt, rng)
    length = format.length
    blocks = rng.random((-(-rows // length), -(-columns // length)))
    share = np.repeat(np.repeat(blocks, length, axis=0), length, axis=1)[:rows, :columns]
    least = rng.integers(0, 4, (rows, columns)) * fmt.smallest
    values = np.where(share < 1 / 6, least, values)
    zero = (share > 2 / 3) | (rng.random((rows, columns)) < 0.4) | (rng.random((rows, 1)) < 1 / 8)
    return np.where(zero, np.copysign(0.0, rng.choice([-1.0, 1.0], (rows, columns))), values)


def nans(format: BlockFormat, rows: int, columns: int, fmt: FloatFormat, rng: Generator) -> Float64:
    """Values that the format holds, and in a part of the blocks, in either direction, one NaN or Inf."""
    values = exact(format, rows, columns, fmt, rng)
    one = rng.random((rows, columns)) < 1 / (8 * format.length)
    return np.where(one, rng.choice([np.nan, np.inf, -np.inf], (rows, columns)), values)


def maxima(format: BlockFormat, rows: int, columns: int, fmt: FloatFormat, rng: Generator) -> Float64:
    """Largest elements on both sides of every scale rule's threshold, elements on both sides of every boundary.

    Some tiles lie at the ends of the type: their largest elements are its own, or their smallest subnormal.
    """
    points = _points(format.element)
    boundaries = np.concatenate([points.middles, points.values])
    ends = (math.frexp(fmt.smallest)[1] + 1, fmt.max_exponent - format.element.max_exponent)
    exponents = (*_ORDINARY, *ends)
    middles = _scale_middles(format)
    # Of each sort as many: the middles are more by far.
    peaks = np.concatenate([np.repeat(points.peaks, -(-middles.size // points.peaks.size) or 1), middles])
    return _tiled(format, (rows, columns), fmt, rng, peaks, boundaries, exponents, steps=(-1, 0, 1))


@dataclass(frozen=True)
class _Points:
    """Where an element format's answers change, as magnitudes under the scale 1."""

    values: Float64
    """The finite values."""
    middles: Float64
    """Halfway between two neighbours."""
    peaks: Float64
    """Largest elements at which scale rules part."""


@cache
def _points(element: FloatFormat) -> _Points:
    magnitudes = element_values(element)[: element.codes // 2]
    values = magnitudes[np.isfinite(magnitudes)]
    top = 2.0**element.max_exponent
    even = (2 - 2.0**-element.precision) * top
    return _Points(values, (values[1:] + values[:-1]) / 2, np.array([element.max, top, even, 2 * top]))


@cache
def _scale_middles(format: BlockFormat) -> Float64:
    """Largest elements whose block's scale, a float, lies halfway between two; none where scales are powers of two.

    They lie above the largest element under the scale 1. The scale follows from amax / element.max, so they are middles
    times element.max, for a tensor's scale that is a power of two, and middles, for one that element.max divides.
    """
    if format.scale is E8M0:
        return np.zeros(0)
    steps = 1 << format.scale.precision
    middles = 1 + np.arange(1, steps, 2) / steps
    above = 2.0 ** (format.element.max_exponent + 1)
    return above * np.concatenate([middles, middles * math.frexp(format.element.max)[0] * 2])


def _tiled(
    format: BlockFormat,
    shape: tuple[int, int],
    fmt: FloatFormat,
    rng: Generator,
    peaks: Float64,
    others: Float64,
    exponents: Sequence[int] = _ORDINARY,
    steps: Sequence[int] = (0,),
) -> Float64:
    """Tiles of `others` with `peaks` on a diagonal, times 2^exponents, moved by `steps` of the type, with any sign."""
    rows, columns = shape
    length = format.length
    down, across = np.arange(rows)[:, None], np.arange(columns)[None, :]
    tiles = (-(-rows // length), -(-columns // length))

    def of_tile(values: NDArray[np.integer]) -> NDArray[np.integer]:
        return values[down // length, across // length]

    shift = of_tile(rng.integers(0, length, tiles))
    diagonal = (down + shift) % length == across % length
    magnitudes = np.where(diagonal, rng.choice(peaks, shape), rng.choice(others, shape))
    scaled = np.ldexp(magnitudes, of_tile(rng.choice(np.asarray(exponents), tiles)))
    moved = _step(np.minimum(scaled, fmt.max), rng.choice(np.asarray(steps), shape), fmt)
    signed: Float64 = np.copysign(moved, rng.choice([-1.0, 1.0], shape))
    return signed


def _step(magnitudes: Float64, steps: NDArray[np.integer], fmt: FloatFormat) -> Float64:
    """Magnitudes rounded to the type and moved so many of its values up or down, within 0 .. max."""
    target = output_type(fmt.name)
    bits = target.to_bits(magnitudes).astype(np.int64) + steps
    last = int(target.to_bits(np.array(fmt.max)))
    moved: Float64 = target.from_bits(np.clip(bits, 0, last).astype(target.bits_dtype))
    return moved
