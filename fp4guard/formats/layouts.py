"""Where kernels store the elements of a matrix: invertible maps, each a row of data.

Every map here pads a matrix, cuts it into tiles, and permutes what is inside a tile: reshape, transpose, reshape.
Everything else (offsets, their inverse, which bytes are padding) follows from the same factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Index = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


class Padding(Enum):
    """What the layout's consumer asks of the bytes that belong to no element."""

    NONE = "none"
    """There are none: shapes that are not whole tiles are refused."""
    STATED = "stated"
    """They are read, and what they hold can reach a result: a producer writes them, with a content that it states."""
    OPEN = "open"
    """What they hold reaches no result: they may be anything, and need not be written."""


@dataclass(frozen=True)
class Tile:
    """A permutation of the elements of a tile, and of the tiles among each other.

    With row blocks and column blocks as outermost factors, a matrix has the axes (row block, *rows, column block,
    *columns), the fastest last; `order` says which of these axes the stored one comes from, outermost first.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.rows) + len(self.columns) + 2)):
            raise ValueError(
                f"order: {self.order}; allowed is a permutation of the {len(self.rows)} + {len(self.columns)} factors "
                "and the two blocks"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of one tile."""
        return math.prod(self.rows), math.prod(self.columns)


@dataclass(frozen=True)
class TiledLayout:
    """An invertible map of the last two axes, (rows, columns); the axes before them are a batch of matrices."""

    name: str
    tile: Tile
    padded_to: tuple[int, int]
    """Rows and columns are padded, behind, to multiples of these, which are whole tiles."""
    padding_contract: Padding
    rows_per_stored_row: int = 1
    """How many padded rows a row of the stored matrix holds: it is (rows / this, columns * this)."""

    def __post_init__(self) -> None:
        for size, whole in zip(self.padded_to, self.tile.shape, strict=True):
            if size <= 0 or size % whole:
                raise ValueError(f"padded_to: {self.padded_to}; allowed are multiples of {self.tile.shape}, the tile")
        if self.rows_per_stored_row <= 0 or self.padded_to[0] % self.rows_per_stored_row:
            raise ValueError(f"rows_per_stored_row: {self.rows_per_stored_row}; allowed are divisors of padded_to[0]")

    def padded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (..., rows, columns) of a matrix with its padding.

        Raises ValueError for a shape of less than two axes, and for one that is not whole tiles where the layout has
        no padding.
        """
        if len(shape) < 2 or min(shape) < 0:
            raise ValueError(f"shape: {shape}; allowed is (..., rows, columns), none of them negative")
        *batch, rows, columns = shape
        padded = (
            -(-rows // self.padded_to[0]) * self.padded_to[0],
            -(-columns // self.padded_to[1]) * self.padded_to[1],
        )
        if self.padding_contract is Padding.NONE and padded != (rows, columns):
            raise ValueError(f"shape: {shape}; {self.name} allows multiples of {self.padded_to}")
        return (*batch, *padded)

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the stored buffer of a matrix (..., rows, columns); ValueError as `padded_shape`."""
        *batch, rows, columns = self.padded_shape(shape)
        return (*batch, rows // self.rows_per_stored_row, columns * self.rows_per_stored_row)

    def pack(self, array: NDArray[Scalar], fill: int = 0) -> NDArray[Scalar]:
        """A matrix, of any dtype and shape (..., rows, columns), as it is stored, with `fill` in its padding.

        Raises ValueError as `padded_shape`, and where the dtype does not hold `fill`.
        """
        array = np.asarray(array)
        value = np.asarray(fill).astype(array.dtype)
        if not np.array_equal(value, fill, equal_nan=array.dtype.kind == "f"):
            raise ValueError(f"fill: {fill!r}; allowed is what {array.dtype} holds")
        padded = np.full(self.padded_shape(array.shape), value, array.dtype)
        padded[..., : array.shape[-2], : array.shape[-1]] = array
        batch = array.ndim - 2
        order = (*range(batch), *(batch + axis for axis in self.tile.order))
        tiles = padded.reshape(*array.shape[:-2], *self._axes(*padded.shape[-2:]))
        return np.ascontiguousarray(tiles.transpose(order)).reshape(self.stored_shape(array.shape))

    def unpack(self, stored: NDArray[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
        """The matrix (..., rows, columns) of a stored buffer: the inverse of `pack`, a view of it where nothing moves.

        Raises ValueError for a buffer of another shape.
        """
        stored = np.asarray(stored)
        if stored.shape != self.stored_shape(shape):
            raise ValueError(f"stored: shape {stored.shape}; {self.name} stores {shape} as {self.stored_shape(shape)}")
        padded = self.padded_shape(shape)
        axes, batch = self._axes(*padded[-2:]), len(shape) - 2
        inverse = (*range(batch), *(batch + self.tile.order.index(axis) for axis in range(len(axes))))
        tiles = stored.reshape(*shape[:-2], *(axes[axis] for axis in self.tile.order)).transpose(inverse)
        return np.ascontiguousarray(tiles.reshape(padded)[..., : shape[-2], : shape[-1]])

    def padding(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Bool [*stored_shape]: what is padding in the stored buffer of a matrix (..., rows, columns)."""
        return self.pack(np.zeros(shape, np.bool_), 1).astype(np.bool_)

    def offset(self, row: ArrayLike, column: ArrayLike, shape: tuple[int, ...]) -> Index:
        """Where in its flat stored buffer an element of a matrix of `shape` stands, in elements; for many at a time.

        Positions in the padding have an offset too. Raises ValueError for a position outside of the padded matrix.
        """
        rows, columns = self.padded_shape(shape)[-2:]
        row, column = np.asarray(row, np.int64), np.asarray(column, np.int64)
        if ((row < 0) | (row >= rows)).any() or ((column < 0) | (column >= columns)).any():
            raise ValueError(f"row, column: outside of the padded matrix, {rows} x {columns}")
        axes = self._axes(rows, columns)
        split = 1 + len(self.tile.rows)
        digits = [*_digits(row, axes[:split]), *_digits(column, axes[split:])]
        offset = np.zeros(np.broadcast_shapes(row.shape, column.shape), np.int64)
        for axis in self.tile.order:
            offset = offset * axes[axis] + digits[axis]
        return offset

    def position(self, offset: ArrayLike, shape: tuple[int, ...]) -> tuple[Index, Index]:
        """Row and column, in the padded matrix, of what stands at flat offsets: the inverse of `offset`.

        Raises ValueError for an offset beyond the stored buffer.
        """
        rows, columns = self.padded_shape(shape)[-2:]
        offset = np.asarray(offset, np.int64)
        if ((offset < 0) | (offset >= rows * columns)).any():
            raise ValueError(f"offset: outside of the stored buffer of {rows * columns} elements")
        axes = self._axes(rows, columns)
        stored = dict(zip(self.tile.order, _digits(offset, tuple(axes[axis] for axis in self.tile.order)), strict=True))
        split = 1 + len(self.tile.rows)
        row, column = np.zeros_like(offset), np.zeros_like(offset)
        for axis, length in enumerate(axes):
            if axis < split:
                row = row * length + stored[axis]
            else:
                column = column * length + stored[axis]
        return row, column

    def _axes(self, rows: int, columns: int) -> tuple[int, ...]:
        """The lengths of the axes that `tile.order` permutes."""
        tile_rows, tile_columns = self.tile.shape
        return rows // tile_rows, *self.tile.rows, columns // tile_columns, *self.tile.columns


def _digits(number: Index, lengths: tuple[int, ...]) -> list[Index]:
    """The digits of numbers in the mixed base of `lengths`, outermost first."""
    digits = []
    for length in reversed(lengths):
        number, digit = np.divmod(number, length)
        digits.append(digit)
    return digits[::-1]


# Half tiles of 16 rows, and columns four apart, side by side: what a lane of CDNA4's scaled matrix instructions reads.
_CDNA4_SCALES = Tile(rows=(2, 16), columns=(2, 4), order=(0, 3, 5, 2, 4, 1))
# 16 rows of 16 bytes: what a lane of CDNA's 16x16 matrix instructions reads in one go. The factor 2 in the columns
# moves nothing; with it whole tiles are the 32 columns that the kernels ask for.
_CDNA_16X16 = Tile(rows=(16,), columns=(2, 16), order=(0, 2, 3, 1, 4))

LINEAR = TiledLayout("linear", Tile((), (), (0, 1)), (1, 1), Padding.NONE)
"""Row by row. Nothing is padded."""

SCALES_128X4 = TiledLayout("128x4", Tile(rows=(4, 32), columns=(4,), order=(0, 3, 2, 1, 4)), (128, 4), Padding.STATED)
"""Block scales for Blackwell's tensor cores (cuBLAS, "1D Block Scaling Factors Layout"; vLLM's `scaled_fp4_quant`).
The GEMM multiplies what is in the padding of K, and 0 * NaN is NaN."""

SCALES_8X4 = TiledLayout("8x4", Tile(rows=(8,), columns=(4,), order=(0, 2, 1, 3)), (8, 4), Padding.STATED)
"""The same for GEMMs of few rows (FlashInfer, TensorRT-LLM)."""

SCALES_256X8 = TiledLayout("256x8", _CDNA4_SCALES, (256, 8), Padding.STATED)
"""MX scales of Transformer Engine's cast on CDNA4: 256 rows is what its GEMM's 8 waves take."""

SCALES_32X8 = TiledLayout("32x8", _CDNA4_SCALES, (32, 8), Padding.OPEN, rows_per_stored_row=32)
"""The same permutation as AITER's GEMM takes it, (R/32, 32*C). It loads no padded column, and a padded row reaches
padded outputs only."""

WEIGHTS_16X16 = TiledLayout("16x16", _CDNA_16X16, (16, 32), Padding.NONE)
"""Weights as bytes, (N, K) still, for 16x16 matrix instructions: Transformer Engine, AITER's `shuffle_weight`."""

WEIGHTS_16X16_ROWS = TiledLayout("16x16, rows", _CDNA_16X16, (16, 32), Padding.NONE, rows_per_stored_row=16)
"""The same bytes seen as (N/16, 16*K), as AITER's preshuffled GEMM takes them."""

KV_16X16 = TiledLayout("KV 16x16", _CDNA_16X16, (16, 32), Padding.NONE)
"""The values of a paged key cache, per block (tokens, head size): AITER's preshuffled FP8 MQA logits. Keys are to that
product what weights are to a GEMM, and lie as they do."""

LAYOUTS: dict[str, TiledLayout] = {
    layout.name: layout
    for layout in (
        LINEAR,
        SCALES_128X4,
        SCALES_8X4,
        SCALES_256X8,
        SCALES_32X8,
        WEIGHTS_16X16,
        WEIGHTS_16X16_ROWS,
        KV_16X16,
    )
}
