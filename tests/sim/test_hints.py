"""`tl.multiple_of`: false hints are found, true ones and those about wrapped runs are not."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@pytest.fixture
def run(new_run):
    return new_run()


@triton.jit
def doubled_kernel(x, out, stride, BLOCK: tl.constexpr):
    step = tl.multiple_of(stride * 2, 8)
    i = tl.arange(0, BLOCK)
    tl.store(out + tl.program_id(0) * BLOCK + i, tl.load(x + tl.program_id(0) * step + i))


@pytest.mark.parametrize(("stride", "holds"), [(4, True), (8, True), (3, False)])
def test_numbers(run, stride, holds):
    run.launch(doubled_kernel, (2,), run.place(torch.arange(32.0)), run.empty((16,)), stride, 8)
    assert bool(run.incidents("assert-failed")) != holds


@triton.jit
def pointer_kernel(x, out, by, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(tl.multiple_of(x + by, 16) + i))


@pytest.mark.parametrize(("by", "holds"), [(4, True), (8, True), (2, False)])
def test_pointers(run, by, holds):
    run.launch(pointer_kernel, (1,), run.place(torch.arange(32.0)), run.empty((8,)), by, 8)
    assert bool(run.incidents("assert-failed")) != holds


@triton.jit
def wrapped_kernel(x, out, n, first, BLOCK: tl.constexpr):
    i = first + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i = tl.max_contiguous(tl.multiple_of(i % n, BLOCK), BLOCK)
    tl.store(out + i, tl.load(x + i))


@pytest.mark.parametrize(("first", "holds"), [(0, True), (8, False), (3, False)])
def test_runs_that_wrap(run, first, holds):
    run.launch(wrapped_kernel, (2,), run.place(torch.arange(13.0)), run.empty((13,)), 13, first, 8)
    assert bool(run.incidents("assert-failed")) != holds


@triton.jit
def tile_kernel(x, out, stride, M: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    place = tl.multiple_of(i * stride + j, [1, 4])
    tl.store(out + i * N + j, tl.load(x + place))


@pytest.mark.parametrize(("stride", "holds"), [(8, True), (12, True), (9, False)])
def test_tiles_by_axis(run, stride, holds):
    run.launch(tile_kernel, (1,), run.place(torch.arange(64.0)), run.empty((4, 8)), stride, 4, 8)
    assert bool(run.incidents("assert-failed")) != holds


@triton.jit
def guarded_kernel(x, out, stride, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    if tl.program_id(0) == 1:
        step = tl.multiple_of(stride * tl.program_id(0) * 2, 8)
        tl.store(out + i, tl.load(x + step + i))


def test_programs_that_do_not_run_there_claim_nothing(run):
    run.launch(guarded_kernel, (3,), run.place(torch.arange(64.0)), run.empty((8,)), 4, 8)
    assert not run.incidents()
    run.launch(guarded_kernel, (3,), run.place(torch.arange(64.0)), run.empty((8,)), 3, 8)
    assert run.incidents()["assert-failed", None].programs == [(1, 0, 0)]
