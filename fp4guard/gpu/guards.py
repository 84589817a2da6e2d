"""The kernels of guarded memory on a GPU: one fills a region, one compares all regions of two runs in a pass; a third
returns what a launch has changed in the guarded copy of an argument.

Which byte is an element and which a guard follows from a region's sizes and strides, so no map of bytes is kept.
Offsets are 32-bit: a region is smaller than 2 GiB.
"""

# mypy: ignore-errors

from __future__ import annotations

import math
from typing import Any

import triton
import triton.language as tl

#: Bytes that a program looks at.
CHUNK = 8192
#: The same where every byte has to be looked for, which takes more registers.
PIECE = 1024
#: Whole periods of every poison.
PERIOD = 280
#: Bytes of poison in a row: a chunk's, from any place of a period on.
PATTERN = PERIOD + CHUNK
#: Dimensions of a region in storage order, neighbours without a gap merged.
DIMENSIONS = 4

#: Columns of a region's row, in order. Strides are in bytes, the largest first; addresses are those of the device.
#: `dense` is how many bytes from the base on are elements, without a gap, where all of these are aligned; else 0.
COLUMNS = (
    "first", "second", "size", "base", "item", "role", "first_values", "second_values", "first_pattern",
    "second_pattern", "dense", *(f"size{d}" for d in range(DIMENSIONS)), *(f"stride{d}" for d in range(DIMENSIONS)),
)  # fmt: skip
#: The column `role`: whose bytes are only watched outside the elements, must not change, must not differ.
SCRATCH, INPUT, OUTPUT = 0, 1, 2
#: What is counted for a region, in bytes.
COUNTS = ("first_guard", "second_guard", "first_input", "second_input", "differing")

#: What `dense` promises of the base, and the device's allocators of every buffer: so many bytes are moved at once.
ALIGNED = 16
#: Where a chunk's poison begins in the pattern.
_STEP = math.gcd(CHUNK, PERIOD)
#: Warps of a program, for all kernels.
WARPS = 8

_COLUMNS = tl.constexpr(len(COLUMNS))
_COUNTS = tl.constexpr(len(COUNTS))
_PERIOD = tl.constexpr(PERIOD)
_DIMENSIONS = tl.constexpr(DIMENSIONS)
_FIRST, _SECOND, _SIZE, _BASE, _ITEM, _ROLE, *_OTHERS = map(tl.constexpr, range(len(COLUMNS)))
_FIRST_VALUES, _SECOND_VALUES, _FIRST_PATTERN, _SECOND_PATTERN, _DENSE, _SIZES, *_ = _OTHERS
_INPUT = tl.constexpr(INPUT)
_OUTPUT = tl.constexpr(OUTPUT)
_ALIGNED = tl.constexpr(ALIGNED)
_POISON_ALIGNED = tl.constexpr(_STEP)
_PIECE = tl.constexpr(PIECE)


@triton.jit
def _bytes(column, offset):
    """Bytes by their offset from the address that a column has."""
    return tl.load(column).to(tl.pointer_type(tl.uint8)) + offset


@triton.jit
def _wide(column, offset, ALIGNED: tl.constexpr = _ALIGNED):
    """The same, where every so many of them lie in a row that is aligned so."""
    place = tl.load(column).to(tl.pointer_type(tl.uint8)) + offset  # here: a call's result would lose the promise
    return tl.max_contiguous(tl.multiple_of(place, ALIGNED), ALIGNED)


@triton.jit
def _place(row, offset):
    """Of bytes by their offset: whether they are an element's, and which byte of the values in storage order."""
    rest = offset - tl.load(row + _BASE).to(tl.int32)
    item = tl.load(row + _ITEM).to(tl.int32)
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
def _solid(row, start, CHUNK: tl.constexpr):
    """Whether a chunk lies among elements without a gap: no byte of it has to be looked for."""
    base = tl.load(row + _BASE).to(tl.int32)
    return (start >= base) & (start + CHUNK <= base + tl.load(row + _DENSE).to(tl.int32))


@triton.jit
def fill_kernel(row, CHUNK: tl.constexpr):
    """Give a region what it holds before the target runs: the values of an input, and poison everywhere else.

    `row` int64 [COLUMNS]; what it says of the first run is what counts. Grid: chunks.
    """
    start = tl.program_id(0) * CHUNK
    base = tl.load(row + _BASE).to(tl.int32)
    is_input = tl.load(row + _ROLE) == _INPUT
    if _solid(row, start, CHUNK):
        offset = start + tl.arange(0, CHUNK)
        if is_input:
            tl.store(_wide(row + _FIRST, offset), tl.load(_wide(row + _FIRST_VALUES, offset - base)))
        else:
            poison = start % _PERIOD + tl.arange(0, CHUNK)
            tl.store(_wide(row + _FIRST, offset), tl.load(_wide(row + _FIRST_PATTERN, poison, _POISON_ALIGNED)))
    else:
        size = tl.load(row + _SIZE).to(tl.int32)
        for piece in range(start, min(start + CHUNK, size), _PIECE):
            offset = piece + tl.arange(0, _PIECE)
            exists = offset < size
            inside, byte = _place(row, offset)
            held = exists & inside & is_input
            value = tl.load(_bytes(row + _FIRST_VALUES, byte), mask=held, other=0)
            poison = tl.load(_bytes(row + _FIRST_PATTERN, offset % _PERIOD))
            tl.store(_bytes(row + _FIRST, offset), tl.where(held, value, poison), mask=exists)


@triton.jit
def check_kernel(rows, counts, CHUNK: tl.constexpr):
    """Count, for every region, the guard bytes and the bytes of inputs that changed in either run, and the bytes of
    outputs that differ between the two.

    `rows` int64 [regions, COLUMNS], `counts` int32 [regions, COUNTS], zeros at first. Grid: (chunks of the largest
    region, regions).
    """
    region = tl.program_id(1)
    row = rows + region * _COLUMNS
    count = counts + region * _COUNTS
    size = tl.load(row + _SIZE).to(tl.int32)
    role = tl.load(row + _ROLE)
    start = tl.program_id(0) * CHUNK
    if _solid(row, start, CHUNK):
        offset = start + tl.arange(0, CHUNK)
        if role == _INPUT:
            byte = offset - tl.load(row + _BASE).to(tl.int32)
            _count(count + 2, tl.load(_wide(row + _FIRST, offset)) != tl.load(_wide(row + _FIRST_VALUES, byte)))
            _count(count + 3, tl.load(_wide(row + _SECOND, offset)) != tl.load(_wide(row + _SECOND_VALUES, byte)))
        elif role == _OUTPUT:
            _count(count + 4, tl.load(_wide(row + _FIRST, offset)) != tl.load(_wide(row + _SECOND, offset)))
    else:
        for piece in range(start, min(start + CHUNK, size), _PIECE):
            offset = piece + tl.arange(0, _PIECE)
            exists = offset < size
            first = tl.load(_bytes(row + _FIRST, offset), mask=exists, other=0)
            second = tl.load(_bytes(row + _SECOND, offset), mask=exists, other=0)
            inside, byte = _place(row, offset)
            guard = exists & ~inside
            place = offset % _PERIOD
            _count(count, guard & (first != tl.load(_bytes(row + _FIRST_PATTERN, place))))
            _count(count + 1, guard & (second != tl.load(_bytes(row + _SECOND_PATTERN, place))))
            held = exists & inside & (role == _INPUT)
            _count(count + 2, held & (first != tl.load(_bytes(row + _FIRST_VALUES, byte), mask=held, other=0)))
            _count(count + 3, held & (second != tl.load(_bytes(row + _SECOND_VALUES, byte), mask=held, other=0)))
            _count(count + 4, exists & inside & (role == _OUTPUT) & (first != second))


@triton.jit
def return_kernel(whole, copy, before, size, CHUNK: tl.constexpr):
    """Bytes of a copy that are not as they were `before` become the whole's; all uint8 [size]. Grid: chunks."""
    offset = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    exists = offset < size
    now = tl.load(copy + offset, mask=exists, other=0)
    changed = exists & (now != tl.load(before + offset, mask=exists, other=0))
    tl.store(whole + offset, now, mask=changed)


def give_back(whole: Any, copy: Any, before: Any) -> None:
    """Change in `whole` what has been changed in `copy`, and leave to others what they have changed."""
    return_kernel[(triton.cdiv(len(whole), CHUNK),)](whole, copy, before, len(whole), CHUNK=CHUNK, num_warps=WARPS)


@triton.jit
def _count(count, wrong):
    number = tl.sum(wrong.to(tl.int32), axis=0)
    tl.atomic_add(count, number, mask=number > 0)
