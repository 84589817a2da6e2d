"""Data regimes of MXFP4 matrices: functions of (rows, k, numpy Generator), each hard in its own way."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fp4guard.formats import BLOCK, MXFP4, e8m0
from fp4guard.oracle.budget import budget, require, top_exponent

Codes = NDArray[np.uint8]

_SMALL = np.array([0x0, 0x1, 0x2, 0x8, 0x9, 0xA], np.uint8)  # +-0, +-0.5, +-1
_LARGEST = 12  # 6, counted in E2M1's lowest bit, 0.5


def exact(rows: int, k: int, rng: Generator) -> MXFP4:
    """All sixteen codes, and scales as far apart around 127 as the certificate allows."""
    if budget(k) < _LARGEST:
        require(k, 2)
        return _uniform(rng.choice(_SMALL, (rows, k)), np.full(rows, 127))
    elements = rng.integers(0, 16, (rows, k), dtype=np.uint8)
    return MXFP4.from_elements(elements, _certified_scales(rows, k, rng))


def wild(rows: int, k: int, rng: Generator) -> MXFP4:
    """Scales of every size; no certificate.

    Most rows keep to a window of scales, so that many products stay in range and remain checkable. The
    others get the ends of E8M0: a NaN block, blocks at 253 and 254, many at 0 and 1, or bytes drawn from
    all.
    """
    elements = rng.integers(0, 16, (rows, k), dtype=np.uint8)
    shape = (rows, k // BLOCK)
    centre = np.rint(rng.normal(127, 20, (rows, 1)))
    width = rng.choice([1, 8, 30], (rows, 1))
    scales = np.clip(centre + np.rint(rng.uniform(-width, width, shape)), 0, e8m0.MAX).astype(np.uint8)
    kind = rng.integers(0, 10, rows)[:, None]
    one_block = _one_per_row(shape, rng)
    many = rng.random(shape) < 0.5
    scales = np.where((kind == 0) & one_block, np.uint8(e8m0.NAN), scales)
    scales = np.where((kind == 1) & one_block, rng.choice(_bytes(253, 254), shape), scales)
    scales = np.where((kind >= 2) & (kind <= 3) & many, rng.choice(_bytes(0, 0, 1), shape), scales)
    scales = np.where(kind == 4, rng.integers(0, e8m0.NAN, shape, dtype=np.uint8), scales)
    return MXFP4.from_elements(elements, scales)


def ties(rows: int, k: int, rng: Generator) -> MXFP4:
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
    require(k, _LARGEST)
    small = rng.choice(_bytes(0x1, 0x3, 0x4, 0x5), (rows, k))
    large = rng.choice(_bytes(0x7, 0x6, 0x3, 0x1), (rows, k), p=[0.6, 0.2, 0.1, 0.1])
    elements = np.where(rng.random((rows, 1)) < 0.5, small, large)
    # A column takes part where neither operand has a zero in it: p^2 * k = 32.
    elements = np.where(rng.random((rows, k)) < np.sqrt(BLOCK / max(k, BLOCK)), elements, np.uint8(0))
    elements |= rng.choice(_bytes(0x0, 0x8), (rows, 1))
    return _uniform(elements, rng.integers(125, 130, rows))


def zeros(rows: int, k: int, rng: Generator) -> MXFP4:
    """Zero elements and whole zero blocks, -0 among them, the zero blocks under arbitrary scales; certified.

    The scales of zero blocks go up to 190 only: a kernel may multiply two scales first, and 0 * Inf is NaN.
    A row in sixteen has a zero block with scale 255, which makes its outputs NaN.
    """
    require(k, _LARGEST)
    shape = (rows, k // BLOCK)
    zero_blocks = rng.random(shape) < 0.5
    elements = rng.integers(0, 16, (rows, k), dtype=np.uint8)
    zero = np.repeat(zero_blocks, BLOCK, axis=1) | (rng.random((rows, k)) < 0.5)
    elements = np.where(zero, elements & np.uint8(0x8), elements)
    arbitrary = rng.integers(0, 191, shape, dtype=np.uint8)
    scales = np.where(zero_blocks, arbitrary, _certified_scales(rows, k, rng))
    nan = zero_blocks & _one_per_row(shape, rng) & (rng.random((rows, 1)) < 1 / 16)
    return MXFP4.from_elements(elements, np.where(nan, np.uint8(e8m0.NAN), scales))


def maxima(rows: int, k: int, rng: Generator) -> MXFP4:
    """+-6 everywhere, a row's scale 2^0 or the largest for which no sum can overflow; certified."""
    require(k, 3)  # 6 = 3 * 2: two bits of significand
    elements = rng.choice(_bytes(0x7, 0xF), (rows, k))
    return _uniform(elements, rng.choice([127, 127 + top_exponent(k, 6)], rows))


def _certified_scales(rows: int, k: int, rng: Generator) -> Codes:
    spread = (budget(k) // _LARGEST).bit_length() - 1
    lowest = 127 - spread // 2
    return rng.integers(lowest, lowest + spread + 1, (rows, k // BLOCK), dtype=np.uint8)


def _uniform(elements: Codes, scale: NDArray[np.integer]) -> MXFP4:
    blocks = elements.shape[1] // BLOCK
    return MXFP4.from_elements(elements, np.repeat(scale.astype(np.uint8)[:, None], blocks, axis=1))


def _one_per_row(shape: tuple[int, int], rng: Generator) -> NDArray[np.bool_]:
    rows, columns = shape
    chosen: NDArray[np.bool_] = np.arange(columns) == rng.integers(0, max(columns, 1), (rows, 1))
    return chosen


def _bytes(*values: int) -> Codes:
    return np.array(values, np.uint8)
