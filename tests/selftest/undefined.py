"""What is not defined: masked lanes without `other`, memory that nobody wrote, some arithmetic; and false claims."""

import torch
import triton
import triton.language as tl

N, BLOCK = 11, 16


def reducing(mem, kernel, negative=False):
    x = mem.integers("x", (N,), -99, -1).float() if negative else mem.integers("x", (N,), 1, 99).float()
    x = mem.input("values", x)
    out = mem.output("out", (1,), torch.float32)
    kernel[(1,)](x, out, N, BLOCK=BLOCK)
    mem.expect(out, x.sum().reshape(1) if kernel in SUMS else x.max().reshape(1))


def reducing_negative(mem, kernel):
    reducing(mem, kernel, negative=True)


@triton.jit
def add_up(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n, other=0)))


@triton.jit
def add_up_undefined(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n)  # wrong: sum over undefined lanes
    tl.store(out, tl.sum(value))


@triton.jit
def add_up_weighted(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    weight = tl.where(i < n, 1.0, 0.0)
    value = tl.load(x + i, mask=i < n)  # wrong: undefined lane times 0
    tl.store(out, tl.sum(value * weight))


@triton.jit
def add_up_selected(x, out, n, BLOCK: tl.constexpr):
    """An undefined lane that is discarded harms nobody."""
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.where(i < n, tl.load(x + i, mask=i < n), 0)))


def subtracting(mem, kernel):
    q, z = mem.integers("q", (N,), 0, 15, torch.int8), mem.integers("z", (N,), 0, 15, torch.int8)
    out = mem.output("out", (1,), torch.int32)
    kernel[(1,)](q, z, out, N, BLOCK=BLOCK)
    mem.expect(out, (q.long() - z).sum().reshape(1))


@triton.jit
def add_up_differences(q, z, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(q + i, mask=i < n, other=0).to(tl.int32) - tl.load(z + i, mask=i < n, other=0).to(tl.int32)
    tl.store(out, tl.sum(value))


@triton.jit
def add_up_undefined_differences(q, z, out, n, BLOCK: tl.constexpr):
    """What is undefined on both sides is no longer 0 as soon as it is not the same."""
    i = tl.arange(0, BLOCK)
    code = tl.load(q + i, mask=i < n).to(tl.int32)  # wrong: difference of undefined lanes
    zero = tl.load(z + i, mask=i < n).to(tl.int32)
    tl.store(out, tl.sum(code - zero))


@triton.jit
def greatest(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.max(tl.load(x + i, mask=i < n, other=float("-inf"))))


@triton.jit
def greatest_or_zero(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.max(tl.load(x + i, mask=i < n, other=0)))


SUMS = (add_up, add_up_undefined, add_up_weighted, add_up_selected)


def multiplying(mem, kernel):
    """A matrix product whose last block of k is not whole: both operands must be 0 there."""
    m, n, k = 16, 16, 24
    a, b = mem.tensor("a", (m, k), torch.float16), mem.tensor("b", (k, n), torch.float16)
    out = mem.output("out", (m, n), torch.float32)
    kernel[(1,)](a, b, out, k, M=m, N=n, BLOCK=16)
    mem.expect(out, (a.double() @ b.double()).float())


@triton.jit
def multiply(a, b, out, k, M: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr):
    i, j, p = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :], tl.arange(0, BLOCK)
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, k, BLOCK):
        left = k - start
        x = tl.load(a + i * k + (start + p)[None, :], mask=p[None, :] < left, other=0)
        y = tl.load(b + (start + p)[:, None] * N + j, mask=p[:, None] < left, other=0)
        total = tl.dot(x, y, total)
    tl.store(out + i * N + j, total)


@triton.jit
def multiply_half_masked(a, b, out, k, M: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr):
    i, j, p = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :], tl.arange(0, BLOCK)
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, k, BLOCK):
        left = k - start
        x = tl.load(a + i * k + (start + p)[None, :], mask=p[None, :] < left, other=0)
        y = tl.load(b + (start + p)[:, None] * N + j, mask=p[:, None] < left)  # wrong: 0 in one operand of two
        total = tl.dot(x, y, total)
    tl.store(out + i * N + j, total)


# Memory


def accumulating(mem, make):
    x, out = mem.tensor("x", (N,), torch.float32), mem.output("out", (N,), torch.float32)
    total = make(mem)
    accumulate[(1,)](x, total, N, BLOCK=BLOCK)
    out.copy_(total)
    mem.expect(out, x)


def scratch(mem):
    return mem.scratch("total", (N,), torch.float32)


def zeroed(mem):
    return scratch(mem).zero_()


@triton.jit
def accumulate(x, total, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    before = tl.load(total + i, mask=i < n, other=0)  # wrong: scratch that nobody cleared
    tl.store(total + i, before + tl.load(x + i, mask=i < n, other=0), mask=i < n)


def counting_from(mem, make):
    """An atomic on memory that nobody cleared."""
    x = mem.integers("x", (N,), 0, 9)
    out = make(mem)
    count_up[(1,)](x, out, N, BLOCK=BLOCK)
    mem.expect(out, x.sum(0, keepdim=True, dtype=torch.int32))


def fresh_counter(mem):
    return mem.output("counter", (1,), torch.int32)


def cleared_counter(mem):
    return mem.output("counter", (1,), torch.int32, fill=0)


@triton.jit
def count_up(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.atomic_add(out, tl.sum(tl.load(x + i, mask=i < n, other=0)))  # wrong: counter that nobody cleared


def adding_on_the_host(mem, make):
    """What torch computes from memory that nobody wrote."""
    x, out = mem.tensor("x", (N,), torch.float32), mem.output("out", (N,), torch.float32)
    out.copy_(x + make(mem))
    mem.expect(out, x)


# Undefined arithmetic


def shifting(mem, kernel):
    x = mem.input("x", torch.tensor([0, 1, 31, 32, 40, 7], dtype=torch.int32))
    out = mem.output("out", (6,), torch.int32)
    kernel[(1,)](x, out, 6, BLOCK=8)
    mem.expect(out, torch.tensor([1, 2, -(2**31), 0, 0, 128], dtype=torch.int32))


@triton.jit
def shift(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    by = tl.load(x + i, mask=i < n, other=0)
    tl.store(out + i, tl.where(by < 32, 1 << (by & 31), 0), mask=i < n)


@triton.jit
def shift_too_far(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    by = tl.load(x + i, mask=i < n, other=0)
    value = 1 << by  # wrong: shift by the width
    tl.store(out + i, value, mask=i < n)


# Claims


def claiming(mem, kernel):
    x, out = mem.integers("x", (N,), 0, 20), mem.output("out", (N,), torch.int32)
    kernel[(1,)](x, out, N, BLOCK=BLOCK)
    mem.expect(out, x)


@triton.jit
def claim(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0)
    tl.device_assert(value <= 20, "too large")
    tl.assume(n < BLOCK)
    tl.store(out + i, value, mask=i < n)


@triton.jit
def claim_too_much(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=-1)
    tl.device_assert(value >= 0, "negative")  # wrong: assertion that fails
    tl.store(out + i, value, mask=i < n)


@triton.jit
def assume_too_much(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.assume(n % BLOCK == 0)  # wrong: assumption that is false
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)


@triton.jit
def hint(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    first = tl.multiple_of((n // 4) * 4, 4)
    value = tl.load(x + i, mask=i < first, other=0) + tl.load(x + i, mask=(i >= first) & (i < n), other=0)
    tl.store(out + i, value, mask=i < n)


@triton.jit
def hint_too_much(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    first = tl.multiple_of(n // 4, 4)  # wrong: multiple that is none
    value = tl.load(x + i, mask=i < first, other=0) + tl.load(x + i, mask=(i >= first) & (i < n), other=0)
    tl.store(out + i, value, mask=i < n)


PAIRS = [
    ("sum over undefined lanes", reducing, add_up_undefined, add_up, "undefined-lane", "values"),
    ("undefined lane times 0", reducing, add_up_weighted, add_up_selected, "undefined-lane", "values"),
    ("0 in one operand of two", multiplying, multiply_half_masked, multiply, "undefined-lane", "b"),
    (
        "difference of undefined lanes",
        subtracting,
        add_up_undefined_differences,
        add_up_differences,
        "undefined-lane",
        "q",
        "undefined-lane",
    ),
    ("maximum with 0 for nothing", reducing_negative, greatest_or_zero, greatest, "wrong-value", "out"),
    ("scratch that nobody cleared", accumulating, scratch, zeroed, "uninitialized-read", "total"),
    ("counter that nobody cleared", counting_from, fresh_counter, cleared_counter, "uninitialized-read", "counter"),
    ("torch on memory that nobody wrote", adding_on_the_host, scratch, zeroed, "poison-dependent", "out"),
    ("shift by the width", shifting, shift_too_far, shift, "undefined-value", None),
    ("assertion that fails", claiming, claim_too_much, claim, "assert-failed", None),
    ("multiple that is none", claiming, hint_too_much, hint, "assert-failed", None),
    ("assumption that is false", claiming, assume_too_much, claim, "assert-failed", None),
]
