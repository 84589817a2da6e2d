"""tt.dot_scaled in every pair of formats, against ml_dtypes' decoding and float64 products."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch
import triton
import triton.language as tl

M, N, K = 32, 16, 64


@triton.jit
def scaled(
    a,
    a_scale,
    b,
    b_scale,
    out,
    A: tl.constexpr,
    B: tl.constexpr,
    GA: tl.constexpr,
    GB: tl.constexpr,
    A_ALONG_K: tl.constexpr,
    B_ALONG_K: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
):
    AM: tl.constexpr = M // 2 if A == "e2m1" and not A_ALONG_K else M
    AK: tl.constexpr = K // 2 if A == "e2m1" and A_ALONG_K else K
    BN: tl.constexpr = N // 2 if B == "e2m1" and not B_ALONG_K else N
    BK: tl.constexpr = K // 2 if B == "e2m1" and B_ALONG_K else K
    x = tl.load(a + tl.arange(0, AM)[:, None] * AK + tl.arange(0, AK)[None, :])
    y = tl.load(b + tl.arange(0, BK)[:, None] * BN + tl.arange(0, BN)[None, :])
    m, n = tl.arange(0, M)[:, None], tl.arange(0, N)[:, None]
    if GA > 0:  # noqa: SIM108
        xs = tl.load(a_scale + m * (K // GA) + tl.arange(0, K // GA)[None, :])
    else:
        xs = None
    if GB > 0:  # noqa: SIM108
        ys = tl.load(b_scale + n * (K // GB) + tl.arange(0, K // GB)[None, :])
    else:
        ys = None
    z = tl.dot_scaled(x, xs, A, y, ys, B, lhs_k_pack=A_ALONG_K, rhs_k_pack=B_ALONG_K)
    tl.store(out + m * N + tl.arange(0, N)[None, :], z)


TORCH = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "bf16": torch.bfloat16, "fp16": torch.float16}


def operand(rng, fmt, rows, along_k=True):
    """What the kernel is given [rows, K], and its values in float64. Small integers, and all codes of E2M1."""
    if fmt == "e2m1":
        codes = rng.integers(0, 16, (rows, K)).astype(np.uint8)
        values = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
        first, second = (codes[:, ::2], codes[:, 1::2]) if along_k else (codes[::2], codes[1::2])
        return torch.from_numpy(first | second << 4), values
    values = rng.integers(-4, 5, (rows, K)).astype(np.float64)
    return torch.from_numpy(values).to(torch.float32).to(TORCH[fmt]), values


def scale(rng, group, rows):
    """E8M0 for groups of 32, E4M3 for groups of 16; the bytes and the factors by element."""
    shape = (rows, K // group) if group else (rows, 1)
    if group == 16:
        values = rng.choice([0.5, 1.0, 1.5, 2.0, 3.5], shape)
        return torch.from_numpy(values).to(torch.float32).to(torch.float8_e4m3fn), np.repeat(values, group, axis=1)
    codes = rng.integers(124, 131, shape).astype(np.uint8)
    factors = np.repeat(np.ldexp(1.0, codes.astype(int) - 127), group or 1, axis=1) if group else 1.0
    return torch.from_numpy(codes), factors


def check(new_run, a_format, b_format, a_group, b_group, a_along_k=True, b_along_k=True):
    rng = np.random.default_rng(len(a_format) * 7 + a_group)
    a, a_values = operand(rng, a_format, M, a_along_k)
    b, b_values = operand(rng, b_format, N, b_along_k)
    (sa, fa), (sb, fb) = scale(rng, a_group, M), scale(rng, b_group, N)
    run = new_run(arch="sm_100")
    out = run.empty((M, N))
    names = zip((a, sa, b.T.contiguous(), sb), ("a", "sa", "b", "sb"))
    inputs = [run.place(t, name=name) for t, name in names]
    run.launch(scaled, (1,), *inputs, out, a_format, b_format, a_group, b_group, a_along_k, b_along_k, M, N, K)
    np.testing.assert_array_equal(out.double().numpy(), (a_values * fa) @ (b_values * fb).T)
    assert not run.incidents()


FORMATS = ["e2m1", "e4m3", "e5m2", "bf16", "fp16"]


@pytest.mark.parametrize(("a", "b"), list(itertools.product(FORMATS, FORMATS)))
def test_formats_with_a_scale_where_they_need_one(new_run, a, b):
    check(new_run, a, b, 0 if a in ("bf16", "fp16") else 32, 0 if b in ("bf16", "fp16") else 32)


@pytest.mark.parametrize(("a", "b"), [("e4m3", "e5m2"), ("e2m1", "e4m3")])
@pytest.mark.parametrize(("a_group", "b_group"), [(0, 32), (32, 0), (0, 0)])
def test_either_scale_may_lack(new_run, a, b, a_group, b_group):
    check(new_run, a, b, a_group, b_group)


def test_nvfp4(new_run):
    check(new_run, "e2m1", "e2m1", 16, 16)


@pytest.mark.parametrize(("a_along_k", "b_along_k"), [(False, True), (True, False), (False, False)])
def test_packed_along_the_other_dimension(new_run, a_along_k, b_along_k):
    other = ("e2m1", "e2m1") if a_along_k == b_along_k else ("e2m1", "e4m3") if not a_along_k else ("e4m3", "e2m1")
    check(new_run, *other, 32, 32, a_along_k, b_along_k)


def test_a_scale_that_is_nan_makes_its_group_nan(new_run):
    a = torch.full((M, K // 2), 0x22, dtype=torch.uint8)
    scales = torch.full((M, K // 32), 127, dtype=torch.uint8)
    scales[3, 1] = 0xFF
    run = new_run(arch="sm_100")
    out = run.empty((M, N))
    b, sb = (
        run.place(torch.full((K // 2, N), 0x22, dtype=torch.uint8), name="b"),
        run.place(scales[:N] * 0 + 127, name="sb"),
    )
    run.launch(
        scaled, (1,), run.place(a), run.place(scales, name="s"), b, sb, out, "e2m1", "e2m1", 32, 32, True, True, M, N, K
    )
    assert out[3].isnan().all()
    assert (np.delete(out.numpy(), 3, axis=0) == K).all()
