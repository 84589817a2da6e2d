"""tt.dot and tt.dot_scaled against exact arithmetic, on inputs for which every order of summation is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def dot_kernel(a, b, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr):
    pid = tl.program_id(0)
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left = tl.load(a + pid * M * K + m[:, None] * K + k[None, :])
    right = tl.load(b + k[:, None] * N + n[None, :])
    acc = tl.full((M, N), 0.5, tl.float32)
    acc = tl.dot(left, right, acc, input_precision=PRECISION)
    tl.store(out + pid * M * N + m[:, None] * N + n[None, :], acc)


def integers(shape, seed, high=8):
    return torch.from_numpy(np.random.default_rng(seed).integers(-high, high, shape, endpoint=True))


def run_dot(run, a, b, precision="ieee"):
    programs, m, k = a.shape
    out = run.empty((programs, m, b.shape[1]))
    run.launch(dot_kernel, (programs,), run.place(a), run.place(b), out, M=m, N=b.shape[1], K=k, PRECISION=precision)
    return out


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_small_integers_are_exact(new_run, dtype, precision):
    a, b = integers((2, 16, 32), 1), integers((32, 16), 2)
    out = run_dot(new_run(), a.to(dtype), b.to(dtype), precision)
    assert torch.equal(out, (a @ b).float() + 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_of_16_bit_floats_are_not_rounded(new_run, dtype):
    """The product of two numbers with all fraction bits set needs twice as many of them."""
    step = torch.finfo(dtype).eps
    a, b = torch.zeros((1, 16, 16), dtype=dtype), torch.zeros((16, 16), dtype=dtype)
    a[0, 3, 5] = b[5, 7] = 1 + step
    a[0, 3, 6], b[6, 7] = 1, -1 - 2 * step
    assert run_dot(new_run(), a, b)[0, 3, 7].item() == 0.5 + step**2


@pytest.mark.parametrize(("precision", "expected"), [("ieee", 1 + 2**-20), ("tf32", 1.0)])
def test_tf32_drops_the_last_bits_of_its_inputs(new_run, precision, expected):
    a, b = torch.zeros((1, 16, 16)), torch.zeros((16, 16))
    a[0, 0, 0], b[0, 0] = 1 + 2**-20, 1
    assert run_dot(new_run(), a, b, precision)[0, 0, 0].item() == 0.5 + expected


def test_specials_spread_as_ieee_says(new_run):
    a, b = torch.ones((1, 16, 16)), torch.ones((16, 16))
    a[0, 0, 0], a[0, 1, 0], a[0, 1, 1], a[0, 2, 3] = np.inf, np.inf, -np.inf, np.nan
    out = run_dot(new_run(), a, b)[0]
    assert out[0].isinf().all()
    assert out[1:3].isnan().all()
    assert (out[3:] == 16.5).all()


@triton.jit
def scaled_kernel(a, a_scale, b, b_scale, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    codes, groups = tl.arange(0, K // 2), tl.arange(0, K // 32)
    left = tl.load(a + m[:, None] * (K // 2) + codes[None, :])
    right = tl.load(b + n[None, :] * (K // 2) + codes[:, None])
    left_scale = tl.load(a_scale + m[:, None] * (K // 32) + groups[None, :])
    right_scale = tl.load(b_scale + n[:, None] * (K // 32) + groups[None, :])
    acc = tl.full((M, N), 0.25, tl.float32)
    acc = tl.dot_scaled(left, left_scale, "e2m1", right, right_scale, "e2m1", acc)
    tl.store(out + m[:, None] * N + n[None, :], acc)


MAGNITUDES = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def decode(codes, scales):
    """E2M1 with E8M0 scales, by definition."""
    values = np.zeros((codes.shape[0], 2 * codes.shape[1]))
    for row, column in np.ndindex(values.shape):
        code = int(codes[row, column // 2]) >> (4 * (column % 2)) & 15
        scale = 2.0 ** (int(scales[row, column // 32]) - 127)
        values[row, column] = MAGNITUDES[code & 7] * (-1 if code & 8 else 1) * scale
    return values


@pytest.mark.parametrize("k", [64, 128])
def test_scaled_products(new_run, k):
    rng, m, n = np.random.default_rng(k), 32, 16
    a, b = (rng.integers(0, 256, (rows, k // 2), np.uint8) for rows in (m, n))
    a_scale, b_scale = (rng.integers(124, 131, (rows, k // 32)).astype(np.uint8) for rows in (m, n))
    run = new_run()
    out = run.empty((m, n))
    places = [run.place(x, name=name) for name, x in zip("abcd", (a, a_scale, b, b_scale))]
    run.launch(scaled_kernel, (1,), *places, out, M=m, N=n, K=k)
    np.testing.assert_array_equal(out.numpy(), decode(a, a_scale) @ decode(b, b_scale).T + 0.25)
    assert not run.incidents()


def test_extreme_scales_cancel_and_255_is_nan(new_run):
    k, m, n = 64, 32, 16
    a, b = np.full((m, k // 2), 0x22, np.uint8), np.full((n, k // 2), 0x22, np.uint8)  # ones
    a_scale, b_scale = np.zeros((m, 2), np.uint8), np.full((n, 2), 254, np.uint8)  # 2^-127 and 2^127
    a_scale[3, 1] = 255
    run = new_run()
    out = run.empty((m, n))
    places = [run.place(x, name=name) for name, x in zip("abcd", (a, a_scale, b, b_scale))]
    run.launch(scaled_kernel, (1,), *places, out, M=m, N=n, K=k)
    assert out[3].isnan().all()
    assert (out[4:] == k + 0.25).all()
