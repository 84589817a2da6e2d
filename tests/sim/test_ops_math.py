"""Elementwise functions: exact ones bit for bit, transcendental ones within four ulp of float64's."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=60, deadline=None)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1e-40, -1e-40, 1e-30, 1e30, 88.0, -88.0, np.inf, -np.inf, np.nan]


@triton.jit
def unary(x, out, op: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    if op == "sin":
        r = tl.sin(v)
    elif op == "cos":
        r = tl.cos(v)
    elif op == "erf":
        r = tl.erf(v)
    elif op == "exp":
        r = tl.exp(v)
    elif op == "exp2":
        r = tl.exp2(v)
    elif op == "log":
        r = tl.log(v)
    elif op == "log2":
        r = tl.log2(v)
    elif op == "rsqrt":
        r = tl.rsqrt(v)
    elif op == "sqrt":
        r = tl.sqrt(v)
    elif op == "sqrt_rn":
        r = tl.sqrt_rn(v)
    elif op == "floor":
        r = tl.floor(v)
    elif op == "ceil":
        r = tl.ceil(v)
    elif op == "sigmoid":
        r = tl.sigmoid(v)
    else:
        r = tl.abs(v)
    tl.store(out + i, r)


REFERENCES = {
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "log": torch.log,
    "log2": torch.log2,
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "sqrt": torch.sqrt,
    "sqrt_rn": torch.sqrt,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "abs": torch.abs,
}
EXACT = ("sqrt", "sqrt_rn", "floor", "ceil", "abs")


@pytest.mark.parametrize("op", REFERENCES)
def test_unary(new_run, op):
    rng = np.random.default_rng(1)
    values = np.concatenate([SPECIAL, rng.normal(0, 3, 120), rng.normal(0, 40, 120)]).astype(np.float32)
    run = new_run()
    out = run.empty((256,))
    run.launch(unary, (1,), run.place(values), out, op, N=256)
    expected = REFERENCES[op](torch.from_numpy(values).double()).float()
    if op in EXACT:
        np.testing.assert_array_equal(out.numpy(), expected.numpy())
        number = ~np.isnan(expected.numpy())
        np.testing.assert_array_equal(np.signbit(out.numpy())[number], np.signbit(expected.numpy())[number])
    else:
        finite = np.isfinite(expected.numpy())
        np.testing.assert_array_equal(out.numpy()[~finite], expected.numpy()[~finite])
        # exp overflows where the logistic function is still subnormal.
        ulp = np.spacing(np.abs(expected.numpy()[finite])) + (2.0**-126 if op == "sigmoid" else 0)
        assert (np.abs(out.numpy()[finite] - expected.numpy()[finite]) / ulp).max() <= 4


def test_powers_of_two_are_exact(new_run):
    """As kernels decode the scales of E8M0 with them."""
    exponents = np.arange(-128, 128, dtype=np.float32)
    run = new_run()
    out = run.empty((256,))
    run.launch(unary, (1,), run.place(exponents), out, "exp2", N=256)
    np.testing.assert_array_equal(out.numpy(), np.ldexp(1.0, exponents.astype(int)).astype(np.float32))


@triton.jit
def fused(x, y, z, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.fma(tl.load(x + i), tl.load(y + i), tl.load(z + i)))


def nearest(value, bits, least, most):
    """A fraction to the nearest float of that many bits, ties to even: by exact integers."""
    if value == 0:
        return 0.0
    exponent = max(math.floor(math.log2(abs(value))), least) if abs(value) > 1e-300 else least
    while Fraction(2) ** (exponent + 1) <= abs(value):
        exponent += 1
    while exponent > least and Fraction(2) ** exponent > abs(value):
        exponent -= 1
    quantum = Fraction(2) ** (exponent - bits + 1)
    quotient = value / quantum
    whole = math.floor(quotient)
    rest = quotient - whole
    whole += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
    result = whole * quantum
    if abs(result) > most:
        return math.copysign(math.inf, value)
    return result.numerator / result.denominator


LIMITS = {
    torch.float16: (11, -14, 65504),
    torch.bfloat16: (8, -126, 0xFF * 2**120),
    torch.float32: (24, -126, 0xFFFFFF * 2**104),
    torch.float64: (53, -1022, (2**53 - 1) * 2**971),
}


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_fma_rounds_once(new_run, dtype):
    """Products near a tie with addends far below it, which a second rounding would lose; and cancellation."""
    rng, width = np.random.default_rng(7), LIMITS[dtype][0]
    x = torch.from_numpy(1 + rng.integers(0, 2 ** (width - 1), 512) / 2.0 ** (width - 1)).to(dtype)
    y = torch.from_numpy(1 + rng.integers(0, 2 ** (width - 1), 512) / 2.0 ** (width - 1)).to(dtype)
    scale = torch.from_numpy(np.ldexp(1.0, rng.integers(-2 * width, 2, 512)) * rng.choice([-1, 1], 512)).to(dtype)
    z = torch.where(torch.arange(512) % 4 == 0, -(x.double() * y.double()).to(dtype), scale)
    run = new_run()
    out = run.empty((512,), dtype)
    run.launch(fused, (1,), run.place(x, name="x"), run.place(y, name="y"), run.place(z, name="z"), out, N=512)
    for a, b, c, found in zip(*(t.double().tolist() for t in (x, y, z, out))):
        assert found == nearest(Fraction(a) * Fraction(b) + Fraction(c), *LIMITS[dtype]), (a, b, c)


floats = st.floats(width=32)


@QUICK
@given(st.lists(st.tuples(floats, floats, floats), min_size=1, max_size=32))
def test_fma_of_any_float32(new_run, triples):
    columns = np.array(triples + [(1.0, 1.0, 1.0)] * (32 - len(triples)), np.float32).T
    run = new_run()
    out = run.empty((32,))
    run.launch(fused, (1,), *(run.place(c, name=n) for c, n in zip(columns, "xyz")), out, N=32)
    for (a, b, c), found in zip(triples, out.tolist()):
        if all(map(math.isfinite, (a, b, c))):
            assert found == nearest(Fraction(a) * Fraction(b) + Fraction(c), *LIMITS[torch.float32])
        else:
            with np.errstate(all="ignore"):
                expected = np.float64(a) * np.float64(b) + np.float64(c)
            assert found == expected or (math.isnan(found) and math.isnan(expected))


@QUICK
@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats()), min_size=1, max_size=16))
def test_fma_of_any_float64(new_run, triples):
    columns = np.array(triples + [(1.0, 1.0, 1.0)] * (16 - len(triples)), np.float64).T
    run = new_run()
    out = run.empty((16,), torch.float64)
    run.launch(fused, (1,), *(run.place(c, name=n) for c, n in zip(columns, "xyz")), out, N=16)
    for (a, b, c), found in zip(triples, out.tolist()):
        if all(map(math.isfinite, (a, b, c))):
            exact = Fraction(a) * Fraction(b) + Fraction(c)
            try:
                expected = exact.numerator / exact.denominator
            except OverflowError:
                expected = math.inf if exact > 0 else -math.inf
            assert found == expected, (a, b, c)


@triton.jit
def high(x, y, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.umulhi(tl.load(x + i), tl.load(y + i)))


@pytest.mark.parametrize("bits", [32, 64])
def test_upper_half_of_a_product(new_run, bits):
    rng, top = np.random.default_rng(3), 2**bits - 1
    values = [0, 1, 2, top, top - 1, top // 2, top // 2 + 1, 2 ** (bits // 2), 2 ** (bits // 2) - 1]
    values += [int(n) for n in rng.integers(0, top, 7, np.uint64, endpoint=True)]
    x = np.array([a for a in values for _ in values], f"u{bits // 8}")
    y = np.array(values * len(values), f"u{bits // 8}")
    run = new_run()
    out = run.empty((256,), torch.from_numpy(x).dtype)
    run.launch(high, (1,), run.place(x, name="x"), run.place(y, name="y"), out, N=256)
    assert out.tolist() == [a * b >> bits for a, b in zip(x.tolist(), y.tolist())]


@triton.jit
def clamp(x, out, ALL: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    how: tl.constexpr = tl.PropagateNan.ALL if ALL else tl.PropagateNan.NONE
    tl.store(out + i, tl.clamp(tl.load(x + i), -1.0, 2.0, propagate_nan=how))


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_clamp(new_run, propagate, dtype):
    x = torch.tensor([np.nan, -np.inf, np.inf, -1.0, 2.0, 1.5, -3.0, 0.0], dtype=dtype)
    run = new_run()
    out = run.empty((8,), dtype)
    run.launch(clamp, (1,), run.place(x), out, propagate, N=8)
    first = np.nan if propagate else -1.0  # PTX: max(NaN, low) is low
    np.testing.assert_array_equal(out.float(), [first, -1.0, 2.0, -1.0, 2.0, 1.5, -1.0, 0.0])


@triton.jit
def divide(x, y, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.div_rn(tl.load(x + i), tl.load(y + i)))


def test_precise_division(new_run):
    rng = np.random.default_rng(5)
    x, y = (np.concatenate([SPECIAL, rng.normal(0, 1e3, 48)]).astype(np.float32) for _ in range(2))
    y = np.roll(y, 5)
    run = new_run()
    out = run.empty((64,))
    run.launch(divide, (1,), run.place(x, name="x"), run.place(y, name="y"), out, N=64)
    with np.errstate(all="ignore"):
        # float64 has more than 2 * 24 + 2 bits: rounding twice is rounding once, for normal results.
        expected = (x.astype(np.float64) / y.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(out.numpy(), expected)
