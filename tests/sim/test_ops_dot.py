"""tt.dot of every element type, against float64 products of the same values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def product(a, b, c, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, precision: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + m[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + n[None, :])
    acc = tl.load(c + m[:, None] * N + n[None, :])
    z = tl.dot(x, y, acc, input_precision=precision, out_dtype=acc.dtype)
    tl.store(out + m[:, None] * N + n[None, :], z)


def small_integers(rng, shape, dtype, limit=3):
    """Exact in every type and in every sum."""
    return torch.from_numpy(rng.integers(-limit, limit + 1, shape)).to(torch.float32).to(dtype)


CASES = [
    (torch.float16, torch.float32), (torch.float16, torch.float16), (torch.bfloat16, torch.float32),
    (torch.float32, torch.float32), (torch.float64, torch.float64), (torch.int8, torch.int32),
    (torch.float8_e4m3fn, torch.float32), (torch.float8_e5m2, torch.float32), (torch.float8_e5m2, torch.float16),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "accumulator"), CASES, ids=str)
@pytest.mark.parametrize("shape", [(16, 16, 32), (16, 32, 64), (64, 16, 32)])
def test_exact_products(new_run, dtype, accumulator, shape):
    m, n, k = shape
    rng = np.random.default_rng(m + k)
    a, b = small_integers(rng, (m, k), dtype), small_integers(rng, (k, n), dtype)
    c = small_integers(rng, (m, n), accumulator, 50)
    run = new_run()
    out = run.empty((m, n), accumulator)
    inputs = [run.place(t, name=name) for t, name in ((a, "a"), (b, "b"), (c, "c"))]
    run.launch(product, (1,), *inputs, out, m, n, k, None)
    expected = a.double() @ b.double() + c.double()
    assert torch.equal(out.double(), expected)
    assert not run.incidents()


def test_int8_extremes_and_wrapping(new_run):
    a = torch.full((16, 32), -128, dtype=torch.int8)
    c = torch.full((16, 16), 2**31 - 1, dtype=torch.int32)
    run = new_run()
    out = run.empty((16, 16), torch.int32)
    run.launch(
        product,
        (1,),
        run.place(a),
        run.place(a.reshape(32, 16), name="b"),
        run.place(c, name="c"),
        out,
        16,
        16,
        32,
        None,
    )
    assert (out == (32 * 128 * 128 + 2**31 - 1) - 2**32).all()


def masked(x, bits):
    return (x.numpy().view(np.uint32) & np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)).view(np.float32).astype(np.float64)


def test_tf32_drops_the_low_thirteen_bits(new_run):
    rng = np.random.default_rng(2)
    a, b = (torch.from_numpy(rng.normal(0, 1, (16, 16)).astype(np.float32)) for _ in range(2))
    run = new_run()
    out, c = run.empty((16, 16)), run.place(torch.zeros(16, 16), name="c")
    run.launch(product, (1,), run.place(a), run.place(b, name="b"), c, out, 16, 16, 16, "tf32")
    np.testing.assert_allclose(out.numpy(), masked(a, 13) @ masked(b, 13), rtol=1e-5, atol=1e-6)
    assert np.abs(out.numpy() - a.double().numpy() @ b.double().numpy()).max() > 1e-4


#: Relative error of a sum of 16 products, and of what is dropped.
ERRORS = {"ieee": 2e-6, "tf32": 3e-3, "tf32x3": 4e-6, "bf16x3": 1e-4, "bf16x6": 4e-6}


@pytest.mark.parametrize("precision", ERRORS)
def test_precisions_of_float32(new_run, precision):
    rng = np.random.default_rng(4)
    a, b = (torch.from_numpy(rng.uniform(0.5, 1, (16, 16)).astype(np.float32)) for _ in range(2))
    run = new_run()
    out, c = run.empty((16, 16)), run.place(torch.zeros(16, 16), name="c")
    run.launch(product, (1,), run.place(a), run.place(b, name="b"), c, out, 16, 16, 16, precision)
    error = (out.double() / (a.double() @ b.double()) - 1).abs().max()
    assert error < ERRORS[precision]


@pytest.mark.parametrize("precision", ["tf32x3", "bf16x3", "bf16x6"])
def test_split_products_of_infinity_are_infinity(new_run, precision):
    a, b = torch.ones(16, 16), torch.ones(16, 16)
    a[0, 0] = np.inf
    run = new_run()
    out, c = run.empty((16, 16)), run.place(torch.zeros(16, 16), name="c")
    run.launch(product, (1,), run.place(a), run.place(b, name="b"), c, out, 16, 16, 16, precision)
    assert torch.isinf(out[0]).all()
    assert (out[1:] == 16).all()


@triton.jit
def batched(a, b, out, B: tl.constexpr, M: tl.constexpr):
    i = tl.arange(0, B)[:, None, None] * M * M + tl.arange(0, M)[None, :, None] * M + tl.arange(0, M)[None, None, :]
    tl.store(out + i, tl.dot(tl.load(a + i), tl.load(b + i)))


def test_batches(new_run):
    rng = np.random.default_rng(6)
    a, b = (small_integers(rng, (4, 16, 16), torch.float16) for _ in range(2))
    run = new_run()
    out = run.empty((4, 16, 16))
    run.launch(batched, (1,), run.place(a), run.place(b, name="b"), out, 4, 16)
    assert torch.equal(out, a.float() @ b.float())
