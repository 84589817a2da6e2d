"""tt.gather, tt.histogram, and what moves whole tensors about."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def gathers(x, index, out, axis: tl.constexpr, M: tl.constexpr, N: tl.constexpr, P: tl.constexpr, Q: tl.constexpr):
    v = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    i = tl.program_id(0) * P * Q + tl.arange(0, P)[:, None] * Q + tl.arange(0, Q)[None, :]
    tl.store(out + i, tl.gather(v, tl.load(index + i), axis))


@pytest.mark.parametrize(("axis", "shape"), [(0, (32, 8)), (0, (4, 8)), (1, (16, 2)), (1, (16, 16))])
def test_gather(new_run, axis, shape):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(16, 8)).astype(np.float32)
    index = rng.integers(0, x.shape[axis], (3, *shape)).astype(np.int32)
    run = new_run()
    out = run.empty((3, *shape))
    run.launch(gathers, (3,), run.place(x), run.place(index, name="index"), out, axis, 16, 8, *shape)
    for p in range(3):
        assert torch.equal(out[p], torch.gather(torch.from_numpy(x), axis, torch.from_numpy(index[p]).long()))
    assert not run.incidents()


@pytest.mark.parametrize("bad", [-1, 16, 2**31 - 1])
def test_gather_out_of_range_is_undefined(new_run, bad):
    index = np.zeros((1, 4, 8), np.int32)
    index[0, 2, 3] = bad
    run = new_run()
    out = run.empty((4, 8))
    run.launch(
        gathers, (1,), run.place(np.ones((16, 8), np.float32)), run.place(index, name="index"), out, 0, 16, 8, 4, 8
    )
    assert out.isnan().nonzero().tolist() == [[2, 3]]
    assert run.incidents()["undefined-value", None].lanes == 1


@triton.jit
def counts(x, out, limit, MASKED: tl.constexpr, N: tl.constexpr, BINS: tl.constexpr):
    v = tl.load(x + tl.program_id(0) * N + tl.arange(0, N))
    if MASKED:  # noqa: SIM108
        h = tl.histogram(v, BINS, mask=v < limit)
    else:
        h = tl.histogram(v, BINS)
    tl.store(out + tl.program_id(0) * BINS + tl.arange(0, BINS), h)


@pytest.mark.parametrize("masked", [False, True])
def test_histogram(new_run, masked):
    x = np.random.default_rng(2).integers(0, 16, (3, 64)).astype(np.int32)
    run = new_run()
    out = run.empty((3, 16), torch.int32)
    run.launch(counts, (3,), run.place(x), out, 9, masked, 64, 16)
    kept = [row[row < 9] if masked else row for row in x]
    np.testing.assert_array_equal(out.numpy(), [np.bincount(row, minlength=16) for row in kept])
    assert not run.incidents()


def test_value_in_no_bin_makes_its_histogram_undefined(new_run):
    x = np.zeros((2, 64), np.int32)
    x[1, 5] = 16
    run = new_run()
    out = run.empty((2, 16), torch.int32)
    run.launch(counts, (2,), run.place(x), out, 9, False, 64, 16)
    assert out[0].tolist() == [64] + [0] * 15
    assert (out[1] == -1).all()
    assert run.incidents()["undefined-value", None].programs == [(1, 0, 0)]


def test_mask_keeps_such_a_value_out(new_run):
    x = np.full((1, 64), 99, np.int32)
    run = new_run()
    out = run.empty((1, 16), torch.int32)
    run.launch(counts, (1,), run.place(x), out, 9, True, 64, 16)
    assert not out.any()
    assert not run.incidents()


@triton.jit
def moves(x, y, out, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(y + i)
    j = tl.join(a, b)
    c, d = tl.split(tl.permute(tl.reshape(j, (2, N // 2, 2)), (1, 2, 0)).reshape(N, 2))
    tl.store(out + i, c)
    tl.store(out + N + i, d)
    tl.store(out + 2 * N + tl.arange(0, 2 * N), tl.interleave(a, b))


def test_join_split_permute(new_run):
    x, y = np.arange(8, dtype=np.int32), np.arange(8, dtype=np.int32) + 100
    run = new_run()
    out = run.empty((32,), torch.int32)
    run.launch(moves, (1,), run.place(x), run.place(y, name="y"), out, N=8)
    joined = np.stack([x, y], -1).reshape(2, 4, 2).transpose(1, 2, 0).reshape(8, 2)
    np.testing.assert_array_equal(out.numpy(), [*joined[:, 0], *joined[:, 1], *np.stack([x, y], -1).ravel()])
