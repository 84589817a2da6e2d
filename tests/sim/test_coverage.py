"""What a launch says it tried: of each load, store and atomic, which masks, and how far it reached."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from fp4guard.checks.coverage import Coverage
from fp4guard.memory import Role

N = 11


@triton.jit
def copy_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0), mask=i < n)


@triton.jit
def add_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out + i, 1, mask=i < n)


@triton.jit
def unmasked_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if tl.program_id(0) < n:
        tl.store(out + i, tl.load(x + i))


def covered(new_run, kernel, programs, n, block):
    """{operation: what is known of it}."""
    run = new_run()
    x, out = run.place(torch.arange(N)), run.place(torch.zeros(N, dtype=torch.int64), name="out", role=Role.OUTPUT)
    run.launch(kernel, (programs,), x, out, n, BLOCK=block)
    assert not run.incidents()
    return {site.operation.name: seen for site, seen in run.simulator.trace.coverage.items()}


EVERY = [(copy_kernel, "tt.load"), (copy_kernel, "tt.store"), (add_kernel, "tt.atomic_rmw")]


@pytest.mark.parametrize(("kernel", "name"), EVERY, ids=[name for _, name in EVERY])
@pytest.mark.parametrize(("programs", "n", "block", "everything", "partly", "nothing", "last", "overshoot"), [
    (3, N, 4, True, True, False, True, 1), (2, 8, 4, True, False, False, False, 0),
    (1, 3, 4, False, True, False, False, 0), (4, N, 4, True, True, True, True, 5),
    (2, 0, 4, False, False, True, False, 0), (1, N, 16, False, True, False, True, 5),
    (3, 8, 4, True, False, True, False, 1),
])  # fmt: skip
def test_masks_and_reach(new_run, kernel, name, programs, n, block, everything, partly, nothing, last, overshoot):
    seen = covered(new_run, kernel, programs, n, block)[name]
    assert seen.masked
    assert (seen.everything, seen.partly, seen.nothing) == (everything, partly, nothing)
    assert seen.last == last
    assert seen.overshoot == 8 * overshoot
    assert seen.exercised == (partly or (everything and nothing))


def test_programs_that_do_not_run_there_cover_nothing(new_run):
    for seen in covered(new_run, unmasked_kernel, 6, 2, 4).values():
        assert not seen.masked
        assert not seen.last


@triton.jit
def count_kernel(x, out, n, BLOCK: tl.constexpr):
    tl.atomic_add(out, 1)
    tl.atomic_add(out + tl.arange(0, BLOCK), 1)


def test_an_atomic_without_a_mask_has_none_to_exercise(new_run):
    assert not covered(new_run, count_kernel, 2, 0, 4)["tt.atomic_rmw"].masked


def test_what_runs_covered_is_one(new_run):
    total = Coverage()
    for programs, n, block in ((2, 8, 4), (2, 0, 4)):
        run = new_run()
        x, out = run.place(torch.arange(N)), run.empty((N,), torch.int64)
        run.launch(copy_kernel, (programs,), x, out, n, BLOCK=block)
        total.add(run.simulator.trace.coverage)
    assert [(seen.everything, seen.partly, seen.nothing, seen.exercised) for _, seen in total.masks()] == [
        (True, False, True, True)
    ] * 2
    assert total.partial_masks == 0
