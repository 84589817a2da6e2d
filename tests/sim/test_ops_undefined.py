"""Integer division, shifts and float-to-integer conversions: Python's exact integers where the result is defined, the
site's poison and a note where it is not.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from fp4guard.memory import ALL_ONES, ORDINARY


@triton.jit
def integers(a, b, out, op: tl.constexpr, unsigned: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    x, y = tl.load(a + i), tl.load(b + i)
    if unsigned:
        if x.dtype.primitive_bitwidth == 8:
            x, y = x.to(tl.uint8, bitcast=True), y.to(tl.uint8, bitcast=True)
        elif x.dtype.primitive_bitwidth == 32:
            x, y = x.to(tl.uint32, bitcast=True), y.to(tl.uint32, bitcast=True)
        else:
            x, y = x.to(tl.uint64, bitcast=True), y.to(tl.uint64, bitcast=True)
    if op == "div":
        z = x // y
    elif op == "rem":
        z = x % y
    elif op == "shl":
        z = x << y
    else:
        z = x >> y
    tl.store(out + i, z)


def toward_zero(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def exact(op, a, b, bits, unsigned):
    """By definition; None where it is undefined."""
    low, high = (0, 2**bits) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    if unsigned:
        a, b = a % 2**bits, b % 2**bits
    if op in ("div", "rem"):
        if b == 0:
            return None
        quotient = toward_zero(a, b)
        if not low <= quotient < high:
            return None
        return quotient if op == "div" else a - quotient * b
    if not 0 <= b < bits:
        return None
    return (a << b) if op == "shl" else a >> b


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("op", ["div", "rem", "shl", "shr"])
@pytest.mark.parametrize("bits", [8, 32, 64])
@pytest.mark.parametrize("poison", [ALL_ONES, ORDINARY], ids=lambda p: p.pattern)
def test_integers(new_run, bits, op, unsigned, poison):
    dtype = np.dtype(f"i{bits // 8}")
    info, rng = np.iinfo(dtype), np.random.default_rng(bits)
    special = [0, 1, -1, 2, 3, -7, bits - 1, bits, bits + 1, info.min, info.min + 1, info.max]
    a = np.array([x for x in special for _ in special] + rng.integers(info.min, info.max, 112).tolist(), dtype)
    b = np.array(special * len(special) + rng.integers(-9, 9, 112).tolist(), dtype)
    run = new_run(poison)
    out = run.empty((256,), torch.from_numpy(a).dtype)
    run.launch(integers, (1,), run.place(a, name="a"), run.place(b, name="b"), out, op, unsigned, N=256)
    undefined = -1 if poison is ALL_ONES else None
    count = 0
    for x, y, found in zip(a.tolist(), b.tolist(), out.tolist()):
        expected = exact(op, x, y, bits, unsigned)
        if expected is None:
            count += 1
            assert undefined is None or found == undefined, (x, y)
        else:
            assert (found - expected) % 2**bits == 0, (x, y)
    assert run.incidents()["undefined-value", None].lanes == count


@triton.jit
def to_integer(a, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.load(a + i).to(out.dtype.element_ty))


@pytest.mark.parametrize("source", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "target", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.uint32, torch.int64, torch.uint64]
)
def test_float_to_integer(new_run, source, target):
    info = torch.iinfo(target)
    points = [0.0, -0.0, 0.5, -0.5, -0.99, -1.0, 1.5, -1.5, np.nan, np.inf, -np.inf, 1e30, -1e30]
    points += [float(n) + d for n in (info.min, info.max, info.max // 2) for d in (-1.0, 0.0, 1.0, 0.75, -0.75)]
    values = torch.tensor((points + [2.0] * 32)[:32], dtype=torch.float64).to(source)
    run = new_run()
    out = run.empty((32,), target)
    run.launch(to_integer, (1,), run.place(values), out, N=32)
    undefined = 0
    for x, found in zip(values.double().tolist(), out.tolist()):
        if np.isfinite(x) and info.min <= int(x) <= info.max:
            assert found == int(x), x
        else:
            undefined += 1
            assert found == (info.max if info.min == 0 else -1), x
    assert run.incidents()["undefined-value", None].lanes == undefined


@triton.jit
def guarded(a, b, out, N: tl.constexpr):
    i = tl.arange(0, N)
    x, y = tl.load(a + i), tl.load(b + i)
    tl.store(out + i, tl.where(y == 0, 0, x // y))
    if tl.load(b) != 0:
        tl.store(out + i, x // tl.load(b))


def test_branch_that_is_not_taken_divides_nothing(new_run):
    """What select discards is noted and harmless; what no active program does is not even noted."""
    a, b = np.arange(8, dtype=np.int32), np.array([0, 1, 2, 0, 3, 1, 1, 1], np.int32)
    run = new_run()
    out = run.empty((8,), torch.int32)
    run.launch(guarded, (2,), run.place(a, name="a"), run.place(b, name="b"), out, N=8)
    assert out.tolist() == [0, 1, 1, 0, 1, 5, 6, 7]
    (incident,) = run.incidents("undefined-value").values()
    assert incident.lanes == 2
