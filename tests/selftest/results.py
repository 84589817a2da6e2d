"""What a target leaves behind: numbers, elements that were not written or should not have been; and what never ends."""

import itertools

import torch
import triton
import triton.language as tl

from fp4guard import oracle
from fp4guard.formats import E8M0, SCALES_8X4

N, BLOCK = 11, 16


def averaging(mem, kernel):
    x = mem.input("x", torch.arange(N, dtype=torch.float32))
    out = mem.output("out", (1,), torch.float32)
    kernel[(1,)](x, out, N, BLOCK=BLOCK)
    mem.expect(out, torch.full((1,), (N - 1) / 2))


@triton.jit
def average(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n, other=0)) / n)


@triton.jit
def average_over_the_block(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n, other=0)) / BLOCK)


def doubling(mem, kernel):
    x, out = mem.integers("x", (N,), -9, 9), mem.output("out", (N,), torch.int32)
    kernel[(1,)](x, out, N, BLOCK=BLOCK)
    mem.expect(out, 2 * mem.originals["x"].view("i4")[..., 0])


@triton.jit
def double(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, 2 * tl.load(x + i, mask=i < n), mask=i < n)


@triton.jit
def double_but_the_last(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, 2 * tl.load(x + i, mask=i < n), mask=i < n - 1)


@triton.jit
def double_in_place_too(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = 2 * tl.load(x + i, mask=i < n)
    tl.store(out + i, value, mask=i < n)
    tl.store(x + i, value, mask=i < n)  # wrong: input that is written


def padding(mem, kernel):
    x = mem.integers("x", (3, N), 1, 200, torch.uint8)
    out = mem.output("out", SCALES_8X4.stored_shape((3, N)), torch.uint8)
    kernel[(8,)](x, out, 3, N, BLOCK=BLOCK)
    mem.expect(out, oracle.ExpectedCodes(E8M0, x.numpy(), layout=SCALES_8X4, padding=0))


@triton.jit
def fill_in_the_layout(x, out, m, n, BLOCK: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * n + i, mask=(row < m) & (i < n), other=0)
    tl.store(out + i // 4 * 32 + row * 4 + i % 4, value, mask=i < tl.cdiv(n, 4) * 4)


@triton.jit
def fill_with_one(x, out, m, n, BLOCK: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * n + i, mask=(row < m) & (i < n), other=127)
    tl.store(out + i // 4 * 32 + row * 4 + i % 4, value, mask=i < tl.cdiv(n, 4) * 4)


# Loops that do not end


def counting(mem, kernel):
    out = mem.output("out", (1,), torch.int32)
    kernel[(2,)](out, 5)
    mem.expect(out, torch.tensor([5], dtype=torch.int32))


@triton.jit
def count(out, n):
    i = 0
    while i < n:
        i += 1
    tl.store(out, i)


@triton.jit
def count_nowhere(out, n):
    i = 0
    while i < n:  # wrong: loop that does not move
        i += tl.program_id(0)
    tl.store(out, i)


def waiting(mem, kernel):
    flag = mem.output("flag", (1,), torch.int32, fill=0)
    kernel[(2,)](flag)


@triton.jit
def raise_and_wait(flag):
    if tl.program_id(0) == 0:
        tl.atomic_xchg(flag, 1)
    else:
        while tl.atomic_add(flag, 0) == 0:
            pass


@triton.jit
def wait_for_nobody(flag):
    while tl.atomic_add(flag, 0) == 0:  # wrong: wait for a flag that nobody raises
        pass


@triton.jit
def count_while_waiting(flag):
    looked = 0
    while tl.atomic_add(flag, 0) == 0:  # wrong: wait that counts how often it looked
        looked += 1
    tl.store(flag, looked)


def stepping(mem, step):
    out = mem.output("out", (1,), torch.int32)
    add_up_steps[(1,)](out, 5, step)
    mem.expect(out, torch.tensor([sum(range(0, 5, step or 1))], dtype=torch.int32))


@triton.jit
def add_up_steps(out, n, step):
    total = 0
    for i in range(0, n, step):  # wrong: step of zero
        total += i
    tl.store(out, total)


# Host code


def launching(mem, choose):
    x, out = mem.integers("x", (N,), -9, 9), mem.output("out", (N,), torch.int32)
    double[(1,)](x, out, choose(N), BLOCK=BLOCK)
    mem.expect(out, 2 * x)


def itself(n):
    return n


def only_even(n):
    if n % 2:
        raise ValueError("only even sizes")  # wrong: host code that refuses a size
    return n


_calls = itertools.count()


def adding(mem, number):
    x, out = mem.integers("x", (N,), 0, 9), mem.output("out", (N,), torch.int32)
    double[(1,)](x, out, N, BLOCK=BLOCK)
    out.add_(number())


def one():
    return 1


def another():
    return next(_calls)


def writing(mem, width):
    """A store of the host's, beside its tensor."""
    out = mem.output("out", (4, N), torch.int32)
    whole = out.as_strided((4, width), (N, 1))
    whole.copy_(torch.ones(4, width, dtype=torch.int32))


PAIRS = [
    ("average over the block", averaging, average_over_the_block, average, "wrong-value", "out"),
    ("tail that is not written", doubling, double_but_the_last, double, "unwritten-output", "out"),
    ("input that is written", doubling, double_in_place_too, double, "input-modified", "x"),
    ("padding of scales that is not zero", padding, fill_with_one, fill_in_the_layout, "padding-content", "out"),
    ("loop that does not move", counting, count_nowhere, count, "hang", None),
    ("wait for a flag that nobody raises", waiting, wait_for_nobody, raise_and_wait, "hang", None),
    ("wait that counts how often it looked", waiting, count_while_waiting, raise_and_wait, "hang", None),
    ("step of zero", stepping, 0, 3, "hang", None),
    ("host code that refuses a size", launching, only_even, itself, "crash", None),
    ("a number that is another every time", adding, another, one, "nondeterministic", "out"),
    ("host code that writes beyond the end", writing, N + 1, N, "oob-write", "out"),
]
