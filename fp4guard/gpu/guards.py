"""The two kernels of guarded memory on a GPU: one fills a region, one compares all regions of two runs in a pass.

Which byte is an element and which a guard follows from a region's sizes and strides, so no map of bytes is kept.
Offsets are 32-bit: a region is smaller than 2 GiB.
"""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

#: Bytes of pattern per region and run: whole periods of every poison.
PERIOD = 280
#: Dimensions of a region in storage order, neighbours without a gap merged.
DIMENSIONS = 4
#: Bytes that a program looks at.
CHUNK = 4096

#: Columns of a region's row, in order. Strides are in bytes, the largest first; addresses are those of the device.
COLUMNS = (
    "first", "second", "size", "base", "item", "role", "first_values", "second_values",
    *(f"size{d}" for d in range(DIMENSIONS)), *(f"stride{d}" for d in range(DIMENSIONS)),
)  # fmt: skip
#: The column `role`: whose bytes are only watched outside the elements, must not change, must not differ.
SCRATCH, INPUT, OUTPUT = 0, 1, 2
#: What is counted for a region, in bytes.
COUNTS = ("first_guard", "second_guard", "first_input", "second_input", "differing")

_COLUMNS = tl.constexpr(len(COLUMNS))
_COUNTS = tl.constexpr(len(COUNTS))
_PERIOD = tl.constexpr(PERIOD)
_DIMENSIONS = tl.constexpr(DIMENSIONS)
_SIZES = tl.constexpr(COLUMNS.index("size0"))
_INPUT = tl.constexpr(INPUT)
_OUTPUT = tl.constexpr(OUTPUT)


@triton.jit
def _place(row, offset):
    """Of bytes by their offset: whether they are an element's, and which byte of the values in storage order."""
    rest = offset - tl.load(row + 3).to(tl.int32)
    item = tl.load(row + 4).to(tl.int32)
    inside = rest >= 0
    rest = tl.where(inside, rest, 0)
    linear = tl.zeros_like(rest)
    for d in tl.static_range(_DIMENSIONS):
        size = tl.load(row + _SIZES + d).to(tl.int32)
        stride = tl.load(row + _SIZES + _DIMENSIONS + d).to(tl.int32)
        index = rest // stride
        rest -= index * stride
        inside &= index < size
        linear = linear * size + tl.where(inside, index, 0)
    return inside & (rest < item), linear * item + rest


@triton.jit
def fill_kernel(row, pattern, CHUNK: tl.constexpr):
    """Give a region what it holds before the target runs: the values of an input, and poison everywhere else.

    `row` int64 [COLUMNS], `pattern` uint8 [PERIOD]; what they say of the first run is what counts. Grid: chunks.
    """
    offset = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    exists = offset < tl.load(row + 2).to(tl.int32)
    poison = tl.load(pattern + offset % _PERIOD)
    inside, byte = _place(row, offset)
    held = exists & inside & (tl.load(row + 5) == _INPUT)
    values = tl.load(row + 6).to(tl.pointer_type(tl.uint8))
    value = tl.load(values + byte, mask=held, other=0)
    storage = tl.load(row).to(tl.pointer_type(tl.uint8))
    tl.store(storage + offset, tl.where(held, value, poison), mask=exists)


@triton.jit
def check_kernel(rows, patterns, counts, CHUNK: tl.constexpr):
    """Count, for every region, the guard bytes and the bytes of inputs that changed in either run, and the bytes of
    outputs that differ between the two.

    `counts` int32 [regions, COUNTS], zeros at first. Grid: (chunks of the largest region, regions).
    """
    region = tl.program_id(1)
    row = rows + region * _COLUMNS
    size = tl.load(row + 2).to(tl.int32)
    start = tl.program_id(0) * CHUNK
    if start < size:
        offset = start + tl.arange(0, CHUNK)
        exists = offset < size
        first = tl.load(tl.load(row).to(tl.pointer_type(tl.uint8)) + offset, mask=exists, other=0)
        second = tl.load(tl.load(row + 1).to(tl.pointer_type(tl.uint8)) + offset, mask=exists, other=0)
        pattern = patterns + region * 2 * _PERIOD + offset % _PERIOD
        inside, byte = _place(row, offset)
        guard = exists & ~inside
        count = counts + region * _COUNTS
        _count(count, guard & (first != tl.load(pattern)))
        _count(count + 1, guard & (second != tl.load(pattern + _PERIOD)))
        role = tl.load(row + 5)
        held = exists & inside & (role == _INPUT)
        values = tl.load(row + 6).to(tl.pointer_type(tl.uint8))
        _count(count + 2, held & (first != tl.load(values + byte, mask=held, other=0)))
        values = tl.load(row + 7).to(tl.pointer_type(tl.uint8))
        _count(count + 3, held & (second != tl.load(values + byte, mask=held, other=0)))
        _count(count + 4, exists & inside & (role == _OUTPUT) & (first != second))


@triton.jit
def _count(count, wrong):
    number = tl.sum(wrong.to(tl.int32), axis=0)
    tl.atomic_add(count, number, mask=number > 0)
