"""What a quantized output has to hold: codes or scale bytes, how they are stored, and what stands between them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fp4guard.formats import LINEAR, FloatFormat, NibbleOrder, TiledLayout, packing
from fp4guard.oracle.operand import Bools

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ExpectedCodes:
    """The bytes of an output of codes: elements or block scales, packed or not, in a layout. Hashed by identity.

    What an element or the padding may hold is either one thing or anything: nothing here is approximate. A NaN will do
    for another NaN, and codes are otherwise compared bit for bit, zeros with their sign.

    Arrays become read-only. Raises TypeError for other dtypes; ValueError for a format above 8 bits, codes that it does
    not have, a packing of what is not 4 bits wide or odd in number, a padding that is no byte, and for shapes that do
    not fit each other or the layout.
    """

    format: FloatFormat
    """Of one code: of an element (E2M1) or of a block scale (E8M0, E4M3)."""
    codes: Bytes
    """uint8 [..., k]: the right answers in their logical order, one code a byte."""
    dont_care: Bools | None = None
    """bool [..., k]: codes that may be anything, and need not be written. None: there are none."""
    _: KW_ONLY
    packing: NibbleOrder | None = None
    """How two codes share a byte; None: one code a byte, its high bits zero."""
    layout: TiledLayout = LINEAR
    """How the bytes, [..., k] or, packed, [..., k/2], are stored."""
    padding: int | None = None
    """What each byte of the layout's padding has to hold. None: anything, and it need not be written."""
    block: int | None = None
    """How many elements share a scale: for messages."""
    scales: Bytes | None = None
    """uint8 [..., ceil(k / block)]: of element codes, the scale bytes of their blocks: for messages."""

    def __post_init__(self) -> None:
        if self.format.width > 8:
            raise ValueError(f"format: {self.format.name}; allowed are formats of at most 8 bits")
        self._take("codes", np.uint8)
        if self.codes.ndim == 0 or (self.codes.ndim == 1 and self.layout is not LINEAR):
            raise ValueError(f"codes: shape {self.codes.shape}; allowed with {self.layout.name} is (..., rows, k)")
        if self.codes.size and self.codes.max() >= self.format.codes:
            worst = int(self.codes.max())
            raise ValueError(f"codes: {worst:#04x}; {self.format.name} allows 0x00 .. {self.format.codes - 1:#04x}")
        if self.dont_care is not None:
            self._take("dont_care", np.bool_, self.codes.shape)
        if self.packing is not None and (self.format.width != 4 or self.codes.shape[-1] % 2):
            raise ValueError(
                f"packing: {self.packing} of {self.codes.shape[-1]} codes of {self.format.name}; "
                "allowed is an even number of 4-bit codes"
            )
        if self.padding is not None and self.padding not in range(256):
            raise ValueError(f"padding: {self.padding!r}; allowed are None and 0 .. 255")
        self._check_blocks()
        self.layout.stored_shape(self.shape_in_bytes)

    def _check_blocks(self) -> None:
        if self.block is not None and self.block < 1:
            raise ValueError(f"block: {self.block}; allowed are numbers from 1 on")
        if self.scales is not None:
            if self.block is None:
                raise ValueError("block: None; scales need the number of elements that share one")
            *leading, k = self.codes.shape
            self._take("scales", np.uint8, (*leading, -(-k // self.block)))

    def _take(self, name: str, dtype: type[np.generic], shape: tuple[int, ...] | None = None) -> None:
        array = np.asarray(getattr(self, name)).view()
        if array.dtype != dtype:
            raise TypeError(f"{name}: dtype {array.dtype}; allowed is {np.dtype(dtype)}")
        if shape is not None and array.shape != shape:
            raise ValueError(f"{name}: shape {array.shape}; codes of shape {self.codes.shape} allow {shape}")
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    @property
    def shape(self) -> tuple[int, ...]:
        """The stored buffer's shape."""
        stored = self.layout.stored_shape(self.shape_in_bytes)
        return stored[1:] if self.codes.ndim == 1 else stored

    @cached_property
    def stored(self) -> Bytes:
        """uint8 [*shape]: a right answer; 0 in padding that may be anything."""
        return self._store(self.codes, self.padding or 0)

    @cached_property
    def left_open(self) -> Bytes:
        """uint8 [*shape]: set bits are those that may be anything; a byte of them alone need not be written."""
        mask = 0xF if self.packing is not None else 0xFF
        dont_care = np.zeros(self.codes.shape, np.bool_) if self.dont_care is None else self.dont_care
        return self._store(dont_care * np.uint8(mask), 0xFF if self.padding is None else 0)

    @cached_property
    def compared(self) -> Bools:
        """Bool [..., k]: the codes that are held against what is expected."""
        return np.ones(self.codes.shape, np.bool_) if self.dont_care is None else ~self.dont_care

    @cached_property
    def padding_mask(self) -> Bools:
        """Bool [*shape]: the bytes that hold no code."""
        return self.layout.padding(self.shape_in_bytes).reshape(self.shape)

    def logical(self, stored: Bytes) -> Bytes:
        """The codes [..., k] that a stored buffer [*shape] holds; unpacked ones with what their high bits hold."""
        matrix = stored.reshape(self.layout.stored_shape(self.shape_in_bytes))
        codes = self.layout.unpack(matrix, self.shape_in_bytes)
        if self.packing is not None:
            codes = packing.unpack(codes, self.packing)
        return codes.reshape(self.codes.shape)

    def stored_index(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """Where in the stored buffer the byte stands that holds the code at a logical index."""
        *leading, column = index
        column //= 1 if self.packing is None else 2
        if not leading:
            return (column,)
        *batch, row = leading
        offset = self.layout.offset(row, column, self.shape_in_bytes)
        inner = np.unravel_index(offset, self.shape[-2:])
        return (*batch, *(int(axis) for axis in inner))

    def padded_position(self, index: tuple[int, ...]) -> tuple[int, int]:
        """Row and column, in bytes, of the padded matrix that a byte of the stored buffer belongs to."""
        *_, stored_row, stored_column = (0, *index)
        row, column = self.layout.position(stored_row * self.shape[-1] + stored_column, self.shape_in_bytes)
        return int(row), int(column)

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The shape of the bytes with the layout's padding, before they are laid out."""
        return self.layout.padded_shape(self.shape_in_bytes)

    @property
    def shape_in_bytes(self) -> tuple[int, ...]:
        """The shape of the bytes before they are laid out; a vector is a matrix of one row."""
        *leading, k = self.codes.shape
        return (*(leading or (1,)), k // 2 if self.packing is not None else k)

    def _store(self, codes: Bytes, fill: int) -> Bytes:
        held = codes if self.packing is None else packing.pack(codes, self.packing)
        stored = self.layout.pack(held.reshape(self.shape_in_bytes), fill).reshape(self.shape)
        stored.flags.writeable = False
        return stored
