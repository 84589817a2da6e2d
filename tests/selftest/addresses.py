"""Addresses: pointers cast to wider types, arithmetic that overflows, tables of pointers, views of one base."""

import torch
import triton
import triton.language as tl

from fp4guard.memory import Layout


def widening(mem, kernel, count=11):
    """Bytes, read four at a time."""
    x = mem.tensor("x", (count,), torch.uint8)
    out = mem.output("out", (triton.cdiv(count, 4),), torch.int32)
    kernel[(1,)](x, out, count, BLOCK=4)
    mem.expect(out, torch.nn.functional.pad(x, (0, -count % 4)).view(torch.int32))


@triton.jit
def widen(x, out, count, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    words = tl.load(x.to(tl.pointer_type(tl.int32)) + i, mask=i * 4 + 3 < count, other=0)
    for byte in tl.static_range(4):
        place = i * 4 + byte
        value = tl.load(x + place, mask=(place < count) & (i * 4 + 3 >= count), other=0).to(tl.int32)
        words |= value << (8 * byte)
    tl.store(out + i, words, mask=i * 4 < count)


@triton.jit
def widen_beyond(x, out, count, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    words = tl.load(x.to(tl.pointer_type(tl.int32)) + i, mask=i * 4 < count, other=0)  # wrong: word across the end
    left = tl.minimum(tl.maximum(count - i * 4, 0), 4) * 8
    tl.store(out + i, tl.where(left == 32, words, words & ((1 << (left & 31)) - 1)), mask=i * 4 < count)


# Overflow


def striding(mem, kernel, rows=4):
    """A stride of 2^30 elements, of which the mask lets the first row pass."""
    x, out = mem.tensor("x", (16,), torch.float32), mem.output("out", (16,), torch.float32)
    kernel[(rows,)](x, out, 2**30, 16, BLOCK=16)
    mem.expect(out, x)


@triton.jit
def stride_wide(x, out, stride, n, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * stride + tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(x + place, mask=place < n), mask=place < n)


@triton.jit
def stride_narrow(x, out, stride, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * stride + tl.arange(0, BLOCK)
    value = tl.load(x + place, mask=place < n)  # wrong: product beyond 32 bits
    tl.store(out + place, value, mask=(place < n) & (place >= 0))


@triton.jit
def walk_wide(x, out, stride, n, BLOCK: tl.constexpr):
    """Each program goes another number of strides."""
    place = tl.arange(0, BLOCK).to(tl.int64)
    total = tl.zeros((BLOCK,), tl.float32)
    for _ in range(tl.program_id(0) + 1):
        total += tl.load(x + place, mask=place < n, other=0.0)
        place += stride
    tl.store(out + tl.arange(0, BLOCK), total, mask=tl.program_id(0) == 0)


@triton.jit
def walk_narrow(x, out, stride, n, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for _ in range(tl.program_id(0) + 1):
        total += tl.load(x + place, mask=place < n, other=0.0)  # wrong: sum that a loop carries beyond 32 bits
        place += stride
    tl.store(out + tl.arange(0, BLOCK), total, mask=tl.program_id(0) == 0)


@triton.jit
def leap_there_and_back(x, out, stride, n, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK).to(tl.int64)
    for _ in range(n):
        place += stride
    for _ in range(n):
        place -= stride
    tl.store(out + place, tl.load(x + place))


@triton.jit
def leap(x, out, stride, n, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    for _ in range(3):
        place += stride
    place = tl.where(place < n, place, 0)
    value = tl.load(x + place)  # wrong: sum that a loop leaves beyond 32 bits
    tl.store(out + tl.arange(0, BLOCK), value, mask=place >= 0)


def summing_rows(mem, kernel):
    """Rows 2^30 elements apart, all of them read."""
    x = mem.tensor("x", (4, 16), torch.float32, (Layout("far rows", reach=3 << 30),))
    out = mem.output("out", (16,), torch.float32)
    kernel[(1,)](x, out, x.stride(0), 4, BLOCK=16)
    mem.expect(out, x.double().sum(0).float())


@triton.jit
def sum_rows(x, out, stride, rows, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK).to(tl.int64)
    total = tl.zeros((BLOCK,), tl.float32)
    for _ in range(rows):
        total += tl.load(x + place)
        place += stride
    tl.store(out + tl.arange(0, BLOCK), total)


@triton.jit
def sum_rows_narrow(x, out, stride, rows, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for _ in range(rows):
        total += tl.load(x + place)  # wrong: rows beyond 32 bits
        place += stride
    tl.store(out + tl.arange(0, BLOCK), total)


def packing(mem, kernel, rows=300, columns=128):
    out = mem.output("out", (rows, columns), torch.uint8)
    kernel[(rows,)](out, BLOCK=columns)
    mem.expect(out, torch.arange(columns).expand(rows, columns).to(torch.uint8))


@triton.jit
def pack(out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + tl.program_id(0) * BLOCK + i, i.to(tl.uint8))


@triton.jit
def pack_in_16_bits(out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int16)
    tl.store(out + (row * BLOCK).to(tl.int32) + i, i.to(tl.uint8))  # wrong: product beyond 16 bits


# Tables of pointers


def adding(mem, kernel):
    """Tensors of several lengths, given by their addresses."""
    lengths = (16, 9, 13)
    parts = [mem.tensor("part", (n,), torch.float32) for n in lengths]
    table = mem.input("table", torch.tensor([part.data_ptr() for part in parts]))
    sizes = mem.input("sizes", torch.tensor(lengths, dtype=torch.int32))
    out = mem.output("out", (16,), torch.float32)
    kernel[(1,)](table, sizes, out, len(parts), BLOCK=16)
    mem.expect(out, sum(torch.nn.functional.pad(part, (0, 16 - len(part))).double() for part in parts).float())


@triton.jit
def add_parts(table, sizes, out, count, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for part in range(count):
        pointer = tl.load(table + part).to(tl.pointer_type(tl.float32))
        total += tl.load(pointer + i, mask=i < tl.load(sizes + part), other=0)
    tl.store(out + i, total)


@triton.jit
def add_parts_of_one_size(table, sizes, out, count, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for part in range(count - 1):
        pointer = tl.load(table + part).to(tl.pointer_type(tl.float32))
        total += tl.load(pointer + i, mask=i < tl.load(sizes), other=0)  # wrong: tensor in a table of pointers
    tl.store(out + i, total)


def adding_copies(mem, kept):
    """Copies of tensors, given by their addresses: of those that are kept, and of those that are gone by then."""
    copies = [mem.tensor("part", (16,), torch.float32) + 0 for _ in range(3)]
    table = torch.tensor([(copy if kept else copy.clone()).data_ptr() for copy in copies])
    out = mem.output("out", (16,), torch.float32)
    add_copies[(1,)](table, out, len(copies), BLOCK=16)
    mem.expect(out, sum(copy.double() for copy in copies).float())


@triton.jit
def add_copies(table, out, count, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), tl.float32)
    for part in range(count):
        pointer = tl.load(table + part).to(tl.pointer_type(tl.float32))
        total += tl.load(pointer + tl.arange(0, BLOCK))  # wrong: tensor that is gone
    tl.store(out + tl.arange(0, BLOCK), total)


# Views


def halving(mem, kernel):
    """The two halves of one tensor, as two arguments."""
    x, out = mem.tensor("x", (9,), torch.float32), mem.output("out", (18,), torch.float32)
    kernel[(1,)](x, out[:9], out[9:], 9, BLOCK=16)
    mem.expect(out, torch.cat([x, -x]))


@triton.jit
def both_halves(x, low, high, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n)
    tl.store(low + i, value, mask=i < n)
    tl.store(high + i, -value, mask=i < n)


@triton.jit
def both_halves_beyond(x, low, high, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0)
    tl.store(low + i, value, mask=i < n)
    tl.store(high + i, -value, mask=i <= n)  # wrong: second view of a base


PAIRS = [
    ("word across the end", widening, widen_beyond, widen, "oob-read", "x"),
    ("product beyond 32 bits", striding, stride_narrow, stride_wide, "int-overflow", "x"),
    ("sum that a loop carries beyond 32 bits", striding, walk_narrow, walk_wide, "int-overflow", "x"),
    (
        "sum that a loop leaves beyond 32 bits",
        striding,
        leap,
        leap_there_and_back,
        "int-overflow",
        "x",
        "unwritten-output",
    ),
    ("rows beyond 32 bits", summing_rows, sum_rows_narrow, sum_rows, "int-overflow", "x"),
    ("product beyond 16 bits", packing, pack_in_16_bits, pack, "int-overflow", "out", "unwritten-output"),
    ("tensor in a table of pointers", adding, add_parts_of_one_size, add_parts, "oob-read", "part#2", "wrong-value"),
    ("tensor that is gone", adding_copies, False, True, "oob-read", None),
    ("second view of a base", halving, both_halves_beyond, both_halves, "oob-write", "out"),
]
