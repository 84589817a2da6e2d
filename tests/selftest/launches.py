"""Several launches in one target, grids, and what lies between them."""

import numpy as np
import torch
import triton
import triton.language as tl

BLOCK = 4


@triton.jit
def look_up(x, table, out, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + tl.load(table + i)))  # wrong: second launch, another table


@triton.jit
def copy(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)


def looking_up(mem, second_table):
    x = mem.tensor("x", (8,), torch.float32)
    for table in ([0, 3, 5, 7], second_table):
        table = mem.input("table", torch.tensor(table))
        out = mem.output("out", (BLOCK,), torch.float32)
        look_up[(1,)](x, table, out, BLOCK=BLOCK)
        mem.expect(out, x[table.clamp(max=7)])


def copying(mem, grid):
    n = 11
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    copy[grid(n)](x, out, n, BLOCK=BLOCK)
    mem.expect(out, x)


def copying_two(mem, sizes):
    """One kernel, launched on tensors of different lengths: what the first was given says nothing about the second."""
    for n, given in zip((11, 7), sizes):
        x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
        copy_exactly[(triton.cdiv(given, BLOCK),)](x, out, given, BLOCK=BLOCK)
        mem.expect(out, x)


@triton.jit
def copy_exactly(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0)
    tl.store(out + i, value, mask=i < n)  # wrong: second launch, size of the first


def accumulating(mem, make):
    """Scratch between two launches, of which the first writes a part."""
    x, out = mem.tensor("x", (8,), torch.float32), mem.output("out", (8,), torch.float32)
    half = make(mem)
    copy[(1,)](x, half, BLOCK, BLOCK=BLOCK)
    copy_scratch[(2,)](half, out, 8, BLOCK=BLOCK)
    mem.expect(out, torch.cat([x[:BLOCK], torch.zeros(8 - BLOCK)]))


@triton.jit
def copy_scratch(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)  # wrong: scratch that no launch wrote


def copying_by_hand(mem, storage):
    """A tensor that `mem` did not make."""
    x, out = torch.from_numpy(np.array(storage, np.float32)), mem.output("out", (11,), torch.float32)
    copy_foreign[(3,)](x, out, 11, BLOCK=BLOCK)
    mem.expect(out, torch.arange(11.0))


@triton.jit
def copy_foreign(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0), mask=i < n)  # wrong: tensor from elsewhere


def scratch(mem):
    return mem.scratch("half", (8,), torch.float32)


def zeroed(mem):
    return mem.scratch("half", (8,), torch.float32).zero_()


def rounded_down(n):
    return (n // BLOCK,)


def rounded_up(n):
    return (triton.cdiv(n, BLOCK),)


def keeping_the_kernel(mem, skipped):
    """A compiled kernel that is launched on what begins elsewhere than what it was compiled for."""
    x, out = mem.tensor("x", (11 + skipped,), torch.float32), mem.output("out", (11,), torch.float32)
    compiled = copy_foreign.warmup(x, out, 11, BLOCK=BLOCK, grid=(3,))
    compiled[(3, 1, 1)](x[skipped:], out, 11, BLOCK)  # wrong: kernel compiled for an aligned tensor
    mem.expect(out, x[skipped:])


NINE, ELEVEN = ([float(i) for i in range(n)] for n in (9, 11))

PAIRS = [
    ("second launch, another table", looking_up, [1, 8, 2, 0], [1, 4, 2, 0], "oob-read", "x"),
    ("second launch, size of the first", copying_two, (11, 11), (11, 7), "oob-write", "out#2", "oob-read"),
    ("grid rounded down", copying, rounded_down, rounded_up, "unwritten-output", "out"),
    ("scratch that no launch wrote", accumulating, scratch, zeroed, "uninitialized-read", "half"),
    ("tensor from elsewhere", copying_by_hand, NINE, ELEVEN, "oob-read", "x"),
    ("kernel compiled for an aligned tensor", keeping_the_kernel, 1, 4, "assert-failed", None),
]
