"""Data regimes of block-scaled matrices: each hard in its own way.

(format, rows, k, numpy Generator, bits of the accumulator in which products are certified) to a matrix.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fp4guard.formats import E8M0, BlockFormat, BlockScaled, codec, e8m0
from fp4guard.formats.blocks import element_values, per_element
from fp4guard.oracle.regimes.alphabet import Codes, alphabet, full_ratio, powers_of_two
from fp4guard.oracle.regimes.budget import budget, require, top_exponent

_TIES = 12  # of E2M1's 6 to its 0.5: what the codes of `ties` need
_TAKING_PART = 32


def exact(format: BlockFormat, rows: int, k: int, rng: Generator, bits: int) -> BlockScaled:
    """As many codes, and scales as far apart around 1, as the certificate allows."""
    elements, scales = _alphabets(format, k, bits)
    return BlockScaled(format, rng.choice(elements, (rows, k)), rng.choice(scales, (rows, format.blocks(k))))


def wild(format: BlockFormat, rows: int, k: int, rng: Generator, bits: int) -> BlockScaled:
    """All codes, and scales of every size; NaN, and where the format has it Inf, in some rows; no certificate.

    A quarter of the rows are of one sign and have no zero: elsewhere 0 * Inf and Inf - Inf make a NaN of nearly every
    sum in which a kernel's Inf takes part, and hide where it came from.
    """
    values = element_values(format.element)
    finite = np.flatnonzero(np.isfinite(values)).astype(np.uint8)
    elements = rng.choice(finite, (rows, k))
    signs = [rng.choice(finite[side], (rows, k)) for side in (values[finite] > 0, values[finite] < 0)]
    kind = rng.integers(0, 8, (rows, 1))
    elements = np.where(kind == 0, signs[0], np.where(kind == 1, signs[1], elements))
    special = np.setdiff1d(np.arange(format.element.codes, dtype=np.uint8), finite)
    if special.size:
        one = _one_per_row((rows, k), rng) & (rng.random((rows, 1)) < 1 / 8)
        elements = np.where(one, rng.choice(special, (rows, k)), elements)
    shape = (rows, format.blocks(k))
    scales = _wild_e8m0(shape, rng) if format.scale is E8M0 else _wild_scales(format, shape, rng)
    return BlockScaled(format, elements, scales)


def ties(format: BlockFormat, rows: int, k: int, rng: Generator, bits: int) -> BlockScaled:
    """Sums that lie halfway between two bfloat16 or two float16 values, certified.

    bfloat16 has 8 significant bits and float16 has 11. So an odd integer in [2^8, 2^9) is halfway for the
    one, an odd integer in [2^11, 2^12) for the other, and in the binade above it is every second multiple
    of two, and so on. Counted in quarters (E2M1's lowest bit squared) the sums are integers; what is left
    is to aim them at these binades with an even chance to be odd. About 32 columns of a row take part, the
    others are 0, so that sums depend little on k. "Small" rows draw 0.5, 1.5, 2, 3 with mean 3.5 halves:
    small times small gives 32 * 3.5^2 = 392. "Large" rows draw mostly 4 and 6 with mean 9.2 halves: 32 *
    9.2^2 = 2708; a few odd codes make the sum odd. Signs and scales are a row's own, for neither moves a
    tie.
    """
    require(k, _TIES, bits)
    small = rng.choice([0.5, 1.5, 2.0, 3.0], (rows, k))
    large = rng.choice([6.0, 4.0, 1.5, 0.5], (rows, k), p=[0.6, 0.2, 0.1, 0.1])
    values = np.where(rng.random((rows, 1)) < 0.5, small, large)
    # A column takes part where neither operand has a zero in it: p^2 * k = 32.
    values = np.where(rng.random((rows, k)) < np.sqrt(_TAKING_PART / max(k, _TAKING_PART)), values, 0.0)
    signed = np.copysign(values, rng.choice([-1.0, 1.0], (rows, 1)))
    return _uniform(format, codec.encode(format.element, signed), rng.integers(-2, 3, rows))


def zeros(format: BlockFormat, rows: int, k: int, rng: Generator, bits: int) -> BlockScaled:
    """Zero elements and whole zero blocks, -0 among them, the zero blocks under arbitrary scales; certified.

    The E8M0 scales of zero blocks go up to 190 only: a kernel may multiply two scales first, and 0 * Inf is NaN.
    A row in sixteen has a zero block under a NaN scale, which makes its outputs NaN.
    """
    matrix = exact(format, rows, k, rng, bits)
    shape = matrix.scales.shape
    zero_blocks = rng.random(shape) < 0.5
    zero = per_element(zero_blocks, k, format.length) | (rng.random((rows, k)) < 0.5)
    both = np.array([0, format.element.codes // 2], np.uint8)  # +0 and -0
    elements = np.where(zero, rng.choice(both, (rows, k)), matrix.elements)
    arbitrary = rng.integers(0, 191 if format.scale is E8M0 else format.nan_scale, shape, dtype=np.uint8)
    scales = np.where(zero_blocks, arbitrary, matrix.scales)
    nan = zero_blocks & _one_per_row(shape, rng) & (rng.random((rows, 1)) < 1 / 16)
    return BlockScaled(format, elements, np.where(nan, np.uint8(format.nan_scale), scales))


def nans(format: BlockFormat, rows: int, k: int, rng: Generator, bits: int) -> BlockScaled:
    """The exact regime with a NaN scale in half of the rows, in any block or in the last; certified.

    Where elements have NaN or Inf, an eighth of the rows has one among them.
    """
    matrix = exact(format, rows, k, rng, bits)
    shape = matrix.scales.shape
    kind = rng.integers(0, 8, (rows, 1))
    last = np.arange(shape[1]) == shape[1] - 1
    nan = ((kind < 2) & _one_per_row(shape, rng)) | ((kind >= 2) & (kind < 4) & last)
    elements = matrix.elements
    special = np.flatnonzero(~np.isfinite(element_values(format.element))).astype(np.uint8)
    if special.size:
        elements = np.where((kind == 4) & _one_per_row((rows, k), rng), rng.choice(special, (rows, k)), elements)
    return BlockScaled(format, elements, np.where(nan, np.uint8(format.nan_scale), matrix.scales))


def maxima(format: BlockFormat, rows: int, k: int, rng: Generator, bits: int) -> BlockScaled:
    """The largest element everywhere, a row's scale 1 or the largest for which no sum can overflow; certified."""
    largest = format.element.max
    require(k, _odd_part(largest), bits)
    elements = codec.encode(format.element, rng.choice([-largest, largest], (rows, k)))
    top = min(top_exponent(k, math.ceil(largest)), format.scale.max_exponent)
    return _uniform(format, elements, rng.choice([0, top], rows))


def _alphabets(format: BlockFormat, k: int, bits: int) -> tuple[Codes, Codes]:
    """The codes of elements and of scales that share a budget: all elements if they fit, else most of it is theirs."""
    require(k, 2, bits)
    whole = full_ratio(format.element)
    ratio = whole if whole <= budget(k, bits) else max(budget(k, bits) // 4, 2)
    positive = element_values(format.scale) > 0
    scales = alphabet(format.scale, budget(k, bits) // ratio)
    return alphabet(format.element, ratio), scales[positive[scales]]


def _odd_part(value: float) -> int:
    """The odd n of `value` = n * 2^e."""
    integer, _ = value.as_integer_ratio()
    return integer // (integer & -integer)


def _wild_e8m0(shape: tuple[int, int], rng: Generator) -> Codes:
    """Scale bytes of every size. Most rows keep to a window, so that many products stay in range and checkable.

    The others get the ends of E8M0: a NaN block, blocks at 253 and 254, many at 0 and 1, or bytes drawn from all.
    """
    rows = shape[0]
    centre = np.rint(rng.normal(127, 20, (rows, 1)))
    width = rng.choice([1, 8, 30], (rows, 1))
    scales = np.clip(centre + np.rint(rng.uniform(-width, width, shape)), 0, e8m0.MAX).astype(np.uint8)
    kind = rng.integers(0, 10, (rows, 1))
    one_block = _one_per_row(shape, rng)
    many = rng.random(shape) < 0.5
    scales = np.where((kind == 0) & one_block, np.uint8(e8m0.NAN), scales)
    scales = np.where((kind == 1) & one_block, rng.choice(np.array([253, 254], np.uint8), shape), scales)
    scales = np.where((kind >= 2) & (kind <= 3) & many, rng.choice(np.array([0, 0, 1], np.uint8), shape), scales)
    return np.where(kind == 4, rng.integers(0, e8m0.NAN, shape, dtype=np.uint8), scales)


def _wild_scales(format: BlockFormat, shape: tuple[int, int], rng: Generator) -> Codes:
    """Scales without a sign, as the hardware reads them: zeros and the least in many rows, NaN blocks in some."""
    scales = rng.integers(0, format.nan_scale, shape, dtype=np.uint8)
    kind = rng.integers(0, 8, (shape[0], 1))
    least = rng.integers(0, 1 << format.scale.mantissa_bits, shape, dtype=np.uint8)
    scales = np.where((kind <= 1) & (rng.random(shape) < 0.5), least, scales)
    return np.where((kind == 2) & _one_per_row(shape, rng), np.uint8(format.nan_scale), scales)


def _uniform(format: BlockFormat, elements: Codes, exponents: NDArray[np.integer]) -> BlockScaled:
    rows, k = elements.shape
    scales = np.broadcast_to(powers_of_two(format.scale, exponents)[:, None], (rows, format.blocks(k)))
    return BlockScaled(format, elements, scales)


def _one_per_row(shape: tuple[int, int], rng: Generator) -> NDArray[np.bool_]:
    rows, columns = shape
    chosen: NDArray[np.bool_] = np.arange(columns) == rng.integers(0, max(columns, 1), (rows, 1))
    return chosen
