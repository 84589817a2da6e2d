"""Programs of one launch that touch the same element, and nothing orders them; atomics and equal values are no race."""

import torch
import triton
import triton.language as tl

N, BLOCK = 32, 8


def flagging(mem, kernel):
    out = mem.output("out", (1,), torch.int32)
    kernel[(4,)](out)
    mem.expect(out, torch.ones(1, dtype=torch.int32))


@triton.jit
def flag_alike(out):
    if tl.program_id(0) == 3:
        tl.store(out, 1)
    else:
        tl.store(out, 1)


@triton.jit
def flag_differently(out):
    if tl.program_id(0) == 3:
        tl.store(out, 2)
    else:
        tl.store(out, 1)  # wrong: two stores of different values


def bucketing(mem, kernel):
    """Several lanes of one store meet."""
    x = mem.input("x", torch.arange(N, dtype=torch.int32) // 4)
    out = mem.output("out", (N // 4,), torch.int32)
    kernel[(1,)](x, out, BLOCK=N)
    mem.expect(out, torch.arange(N // 4, dtype=torch.int32))


@triton.jit
def bucket(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i // 4, tl.load(x + i))


@triton.jit
def bucket_differently(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i) + tl.where(i % 4 == 0, 1, 0)
    tl.store(out + i // 4, value)  # wrong: lanes of one store


def shifting(mem, kernel):
    x = mem.tensor("x", (N + 1,), torch.float32)
    out = mem.output("out", (N + 1,), torch.float32, fill=0)
    out.copy_(x)
    source = x if kernel is shift_apart else out
    kernel[(N // BLOCK,)](source, out, BLOCK=BLOCK)
    if kernel is shift_apart:
        mem.expect(out, torch.cat([x[1:], x[-1:]]))


@triton.jit
def shift_apart(x, out, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i + 1))


@triton.jit
def shift_in_place(x, out, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i + 1)
    tl.store(out + i, value)  # wrong: in place, what another program reads


# Producers and consumers


def handing_over(mem, launches):
    x, out = mem.tensor("x", (N,), torch.float32), mem.output("out", (N,), torch.float32)
    between = mem.scratch("between", (N,), torch.float32)
    for kernel, programs in launches:
        kernel[(programs,)](x, between, out, BLOCK=N)
    mem.expect(out, -x)


@triton.jit
def produce(x, between, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(between + i, -tl.load(x + i))


@triton.jit
def consume(x, between, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(between + i))


@triton.jit
def produce_and_consume(x, between, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        tl.store(between + i, -tl.load(x + i))
    else:
        value = tl.load(between + i)  # wrong: producer and consumer in one launch
        tl.store(out + i, value)


def summing(mem, kernel):
    """Split-K: every program adds its part."""
    x = mem.integers("x", (N,), -9, 9)
    out = mem.output("out", (1,), torch.int32, fill=0)
    kernel[(N // BLOCK,)](x, out, BLOCK=BLOCK)
    if kernel is add_atomically:
        mem.expect(out, x.sum(0, keepdim=True, dtype=torch.int32))


@triton.jit
def add_atomically(x, out, BLOCK: tl.constexpr):
    part = tl.sum(tl.load(x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)))
    tl.atomic_add(out, part)


@triton.jit
def add_plainly(x, out, BLOCK: tl.constexpr):
    part = tl.sum(tl.load(x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)))
    total = tl.load(out)
    tl.store(out, total + part)  # wrong: split-K without an atomic


@triton.jit
def add_and_look(x, out, BLOCK: tl.constexpr):
    part = tl.sum(tl.load(x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)))
    tl.atomic_add(out, part)
    if tl.program_id(0) == tl.num_programs(0) - 1:
        total = tl.load(out)  # wrong: plain load beside atomics
        tl.device_assert(total < 10000)


def zeroing(mem, kernel):
    x = mem.integers("x", (N,), 1, 9)
    out = mem.output("out", (1,), torch.int32)
    if kernel is add_atomically:
        out.zero_()
    kernel[(N // BLOCK,)](x, out, BLOCK=BLOCK)
    if kernel is add_atomically:
        mem.expect(out, x.sum(0, keepdim=True, dtype=torch.int32))


@triton.jit
def zero_and_add(x, out, BLOCK: tl.constexpr):
    part = tl.sum(tl.load(x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)))
    if tl.program_id(0) == 0:
        tl.store(out, 0)
    tl.atomic_add(out, part)  # wrong: zeroed by one of the programs that add


def collecting(mem, kernel):
    """Overlapping tiles: what they share they must write alike."""
    x, out = mem.tensor("x", (20,), torch.float32), mem.output("out", (20,), torch.float32)
    kernel[(3,)](x, out, 20, BLOCK=BLOCK)
    if kernel is collect:
        mem.expect(out, x)


@triton.jit
def collect(x, out, n, BLOCK: tl.constexpr):
    i = tl.minimum(tl.program_id(0) * BLOCK, n - BLOCK) + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i))


@triton.jit
def collect_sums(x, out, n, BLOCK: tl.constexpr):
    i = tl.minimum(tl.program_id(0) * BLOCK, n - BLOCK) + tl.arange(0, BLOCK)
    value = tl.load(x + i) + tl.program_id(0)
    tl.store(out + i, value)  # wrong: overlapping tiles


PAIRS = [
    ("two stores of different values", flagging, flag_differently, flag_alike, "race", "out"),
    ("lanes of one store", bucketing, bucket_differently, bucket, "race", "out"),
    ("in place, what another program reads", shifting, shift_in_place, shift_apart, "race", "out"),
    (
        "producer and consumer in one launch", handing_over, [(produce_and_consume, 2)], [(produce, 1), (consume, 1)],
        "race", "between",
    ),
    ("split-K without an atomic", summing, add_plainly, add_atomically, "race", "out", "race"),
    ("plain load beside atomics", summing, add_and_look, add_atomically, "race", "out"),
    ("zeroed by one of the programs that add", zeroing, zero_and_add, add_atomically, "race", "out"),
    ("overlapping tiles", collecting, collect_sums, collect, "race", "out"),
]  # fmt: skip
