"""The preshuffled layout of MX scales that AITER's and Transformer Engine's CDNA4 kernels read.

The matrix unit's lanes want, side by side, the scales of two half-blocks of 16 rows and of two groups four
apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROWS = 32
COLUMNS = 8
_TILE = (2, 16, 2, 4)  # row half, row in half, column half, column in half
_ORDER = (0, 3, 5, 2, 4, 1)  # row block, column block, column in half, row in half, column half, row half
_INVERSE = (0, 5, 3, 1, 4, 2)


def shuffle_scales(scales: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scales (R, C) to their shuffled form (R/32, 32*C); ValueError unless R % 32 == 0 and C % 8 == 0."""
    rows, columns = _checked(scales, ROWS, COLUMNS)
    row_half, row, column_half, column = _TILE
    tiled = scales.reshape(rows // ROWS, row_half, row, columns // COLUMNS, column_half, column)
    shuffled: NDArray[np.uint8] = tiled.transpose(_ORDER).reshape(rows // ROWS, ROWS * columns)
    return shuffled


def unshuffle_scales(shuffled: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse: (R/32, 32*C) to (R, C); ValueError unless the last axis is a multiple of 256."""
    row_blocks, width = _checked(shuffled, 1, ROWS * COLUMNS)
    row_half, row, column_half, column = _TILE
    tiled = shuffled.reshape(row_blocks, width // (ROWS * COLUMNS), column, row, column_half, row_half)
    scales: NDArray[np.uint8] = tiled.transpose(_INVERSE).reshape(row_blocks * ROWS, width // ROWS)
    return scales


def shuffled_offset(row: int, column: int, columns: int) -> int:
    """Where in the flat shuffled buffer the scale (row, column) of (R, columns) scales stands.

    Raises ValueError where `columns` is no multiple of 8, or the position is outside of it.
    """
    if columns % COLUMNS:
        raise ValueError(f"columns: {columns}; allowed are multiples of {COLUMNS}")
    if row < 0 or not 0 <= column < columns:
        raise ValueError(f"position ({row}, {column}) is outside (R, {columns})")
    return (
        row // 32 * 32 * columns
        + column // 8 * 256
        + column % 4 * 64
        + row % 16 * 4
        + column % 8 // 4 * 2
        + row % 32 // 16
    )


def _checked(scales: NDArray[np.uint8], rows: int, columns: int) -> tuple[int, int]:
    if scales.ndim != 2 or scales.shape[0] % rows or scales.shape[1] % columns:
        raise ValueError(f"scales: shape {scales.shape}; allowed is 2-D, a multiple of ({rows}, {columns})")
    return scales.shape[0], scales.shape[1]
