"""tt.scan, sort, top-k, argmax and reductions of several operands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def scans(x, out, op: tl.constexpr, axis: tl.constexpr, reverse: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    base = tl.program_id(0) * M * N
    i = base + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    v = tl.load(x + i)
    if op == "sum":  # noqa: SIM108
        r = tl.cumsum(v, axis, reverse=reverse)
    else:
        r = tl.cumprod(v, axis, reverse=reverse)
    tl.store(out + i, r)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", ["sum", "prod"])
@pytest.mark.parametrize("shape", [(1, 8), (4, 2), (8, 32)])
def test_cumulative(new_run, op, axis, reverse, shape):
    x = np.random.default_rng(1).integers(-9, 9, (3, *shape)).astype(np.int32)
    run = new_run()
    out = run.empty(x.shape, torch.int32)
    run.launch(scans, (3,), run.place(x), out, op, axis, reverse, *shape)
    flipped = np.flip(x, axis + 1) if reverse else x
    with np.errstate(all="ignore"):
        expected = (np.cumsum if op == "sum" else np.cumprod)(flipped, axis + 1, dtype=np.int32)
    np.testing.assert_array_equal(out.numpy(), np.flip(expected, axis + 1) if reverse else expected)


@triton.jit
def _affine(a, b, c, d):
    """Composition of x -> a x + b, which is associative and not commutative."""
    return a * c, b * c + d


@triton.jit
def _later(a, b):
    if b == 0:  # noqa: SIM108
        result = a
    else:
        result = b
    return result


@triton.jit
def compositions(x, y, out_a, out_b, out_c, reverse: tl.constexpr, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    u, v = tl.load(x + i), tl.load(y + i)
    a, b = tl.associative_scan((u, v), 0, _affine, reverse=reverse)
    tl.store(out_a + i, a)
    tl.store(out_b + i, b)
    tl.store(out_c + i, tl.associative_scan(u, 0, _later, reverse=reverse))


@pytest.mark.parametrize("reverse", [False, True])
def test_several_operands_in_order_and_branches(new_run, reverse):
    rng = np.random.default_rng(2)
    x, y = (rng.integers(-2, 3, (4, 16)).astype(np.int64) for _ in range(2))
    run = new_run()
    outs = [run.empty((4, 16), torch.int64, name=n) for n in "abc"]
    run.launch(compositions, (4,), run.place(x), run.place(y, name="y"), *outs, reverse, N=16)
    for row in range(4):
        order = range(15, -1, -1) if reverse else range(16)
        state = None
        for i in order:
            u, v = int(x[row, i]), int(y[row, i])
            if state is None:  # noqa: SIM108
                state = u, v, u
            else:
                state = state[0] * u, state[1] * u + v, u if u else state[2]
            assert tuple(int(o[row, i]) for o in outs) == state


@triton.jit
def sorts(x, out, top, descending: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    v = tl.load(x + i)
    tl.store(out + i, tl.sort(v, descending=descending))
    tl.store(top + tl.program_id(0) * K + tl.arange(0, K), tl.topk(v, K))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.float16], ids=str)
def test_sort_and_top_k(new_run, dtype, descending):
    x = torch.from_numpy(np.random.default_rng(3).integers(-50, 50, (3, 32))).to(dtype)
    run = new_run()
    out, top = run.empty((3, 32), dtype), run.empty((3, 4), dtype, name="top")
    run.launch(sorts, (3,), run.place(x), out, top, descending, 32, 4)
    assert torch.equal(out, x.sort(dim=1, descending=descending).values)
    assert torch.equal(top, x.topk(4, dim=1).values)


@triton.jit
def extremes(x, value, place, LEFT: tl.constexpr, N: tl.constexpr):
    pid = tl.program_id(0)
    v, i = tl.max(tl.load(x + pid * N + tl.arange(0, N)), 0, return_indices=True, return_indices_tie_break_left=LEFT)
    tl.store(value + pid, v)
    tl.store(place + pid, i)
    tl.store(place + pid + 4, tl.argmin(tl.load(x + pid * N + tl.arange(0, N)), 0, tie_break_left=LEFT))


def test_arg_max_and_arg_min(new_run):
    x = np.random.default_rng(4).integers(-3, 3, (4, 64)).astype(np.float32)
    run = new_run()
    value, place = run.empty((4,)), run.empty((2, 4), torch.int32, name="place")
    run.launch(extremes, (4,), run.place(x), value, place, LEFT=True, N=64)
    np.testing.assert_array_equal(value.numpy(), x.max(axis=1))
    np.testing.assert_array_equal(place.numpy(), [x.argmax(axis=1), x.argmin(axis=1)])
