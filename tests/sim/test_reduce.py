"""tt.reduce: one and several operands, every axis, and values held lazily."""

# ruff: noqa: SIM108 (kernels are written as their authors write them)
from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def sums_kernel(x, out, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr):
    pid = tl.program_id(0)
    rows, columns = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    total = tl.sum(tl.load(x + pid * M * N + rows * N + columns), axis=AXIS)
    size: tl.constexpr = N if AXIS == 0 else M
    tl.store(out + pid * size + tl.arange(0, size), total)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 8), (8, 1), (4, 8)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.float16])
def test_sums_along_each_axis(new_run, m, n, axis, dtype):
    run = new_run()
    x = torch.arange(3 * m * n).reshape(3, m, n).to(dtype)
    out = run.empty((3, n if axis == 0 else m), dtype)
    run.launch(sums_kernel, (3,), run.place(x), out, M=m, N=n, AXIS=axis)
    assert out.tolist() == x.sum(1 + axis).tolist()


@triton.jit
def lazy_kernel(x, out, N: tl.constexpr):
    """The same value along the reduced axis; the same for all programs; and both."""
    ones = tl.full((N, 4), 3, tl.int32)
    tl.store(out + tl.arange(0, 4), tl.sum(ones, axis=0))
    row = tl.load(x + tl.arange(0, 4))[None, :] + tl.zeros((N, 4), tl.int32)
    tl.store(out + 4 + tl.arange(0, 4), tl.sum(row, axis=0))
    pid = tl.full((N, 4), 0, tl.int32) + tl.program_id(0)
    tl.store(out + 8 + 4 * tl.program_id(0) + tl.arange(0, 4), tl.max(pid, axis=0) + tl.sum(tl.sum(pid, 1), 0))


def test_values_that_are_held_lazily(new_run):
    run = new_run()
    out = run.empty((16,), torch.int32)
    run.launch(lazy_kernel, (2,), run.place(np.arange(4, dtype=np.int32)), out, N=8)
    assert out.tolist() == [24] * 4 + [0, 8, 16, 24] + [0] * 4 + [33] * 4


@triton.jit
def extremes_kernel(x, out, N: tl.constexpr):
    value = tl.load(x + tl.program_id(0) * N + tl.arange(0, N))
    tl.store(out + 4 * tl.program_id(0), tl.argmax(value, 0).to(tl.float32))
    tl.store(out + 4 * tl.program_id(0) + 1, tl.argmin(value, 0).to(tl.float32))
    tl.store(out + 4 * tl.program_id(0) + 2, tl.max(value, 0))
    tl.store(out + 4 * tl.program_id(0) + 3, tl.min(value, 0))


def test_extremes_and_where_they_are_with_ties(new_run):
    x = np.array([[3, -1, 7, 7, -1, 2, 0, 7], [0, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    run = new_run()
    out = run.empty((2, 4))
    run.launch(extremes_kernel, (2,), run.place(x), out, N=8)
    assert out.tolist() == [[2, 1, 7, -1], [0, 0, 0, 0]]


@triton.jit
def _branching(a, b):
    if tl.constexpr(True):
        return a * 2 + b
    return a


@triton.jit
def order_kernel(x, out, N: tl.constexpr):
    tl.store(out, tl.reduce(tl.load(x + tl.arange(0, N)), 0, _branching))


def test_a_combination_of_the_users_own(new_run):
    """Halves are combined: (x0, x2), (x1, x3), then the two results."""
    run = new_run()
    out = run.empty((1,), torch.int32)
    run.launch(order_kernel, (1,), run.place(np.array([1, 2, 3, 4], np.int32)), out, N=4)
    assert out.tolist() == [2 * (2 * 1 + 3) + (2 * 2 + 4)]


@triton.jit
def _divergent(a, b):
    if a > b:
        result = a
    else:
        result = b * 2
    return result


@triton.jit
def divergent_kernel(x, out, N: tl.constexpr):
    pid = tl.program_id(0)
    tl.store(out + pid, tl.reduce(tl.load(x + pid * N + tl.arange(0, N)), 0, _divergent))


def test_a_combination_that_branches_does_so_for_each_pair(new_run):
    def combine(a, b):
        return a if a > b else b * 2

    x = np.array([[1, 5, 3, 2], [9, 1, 1, 8], [0, 0, 7, 7]], np.int32)
    run = new_run()
    out = run.empty((3,), torch.int32)
    run.launch(divergent_kernel, (3,), run.place(x), out, N=4)
    assert out.tolist() == [combine(combine(a, c), combine(b, d)) for a, b, c, d in x.tolist()]


@triton.jit
def _constant(a, b):
    return tl.full((), 5, tl.int32)


@triton.jit
def constant_kernel(x, out, N: tl.constexpr):
    tl.store(
        out + tl.arange(0, N),
        tl.reduce(tl.load(x + tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]), 0, _constant),
    )


def test_a_combination_may_ignore_its_operands(new_run):
    run = new_run()
    out = run.empty((4,), torch.int32)
    run.launch(constant_kernel, (2,), run.place(np.zeros((4, 4), np.int32)), out, N=4)
    assert out.tolist() == [5] * 4
