"""device_assert and assume: a claim that is false for a program that runs is an incident; printing changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def asserts(x, out, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    v = tl.load(x + i)
    tl.device_assert(v > 0, 'v "must" be : positive, {x} (%d)')
    tl.device_print("v : %d, is", v)
    tl.store(out + i, v)


def test_assertion(new_run, capfd):
    x = np.arange(-2, 14, dtype=np.int32)
    run = new_run()
    out = run.empty((16,), torch.int32)
    run.launch(asserts, (4,), run.place(x), out, N=4)
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.programs) == ("assert-failed", 3, [(0, 0, 0)])
    assert incident.site.operation.attributes["message"] == 'v "must" be : positive, {x} (%d)'
    assert incident.site.location.source.startswith("tl.device_assert")
    np.testing.assert_array_equal(out.numpy(), x)
    assert capfd.readouterr().out == ""


def test_assertion_that_holds(new_run):
    run = new_run()
    run.launch(asserts, (4,), run.place(np.ones(16, np.int32)), run.empty((16,), torch.int32), N=4)
    assert not run.incidents()


@triton.jit
def behind_a_branch(x, out):
    pid = tl.program_id(0)
    v = tl.load(x + pid)
    if pid < 2:
        tl.device_assert(v == 0, "only the first two")
        tl.store(out + pid, v)


def test_assertion_of_a_branch_is_of_those_that_take_it(new_run):
    run = new_run()
    out = run.empty((5,), torch.int32)
    run.launch(behind_a_branch, (5,), run.place(np.array([0, 0, 7, 7, 7], np.int32)), out)
    assert not run.incidents()
    run.launch(behind_a_branch, (5,), run.place(np.array([0, 4, 7, 7, 7], np.int32)), out)
    assert run.incidents()["assert-failed", None].programs == [(1, 0, 0)]


@triton.jit
def assumes(out, stride):
    tl.assume(stride % 8 == 0)
    tl.store(out + tl.program_id(0) * stride, 1)


@pytest.mark.parametrize("stride", [16, 12])
def test_assumption(new_run, stride):
    run = new_run()
    run.launch(assumes, (3,), run.empty((100,), torch.int32), stride)
    kinds = {kind for kind, _ in run.incidents()}
    assert kinds == ({"assert-failed"} if stride % 8 else set())


@triton.jit
def adds(x, out):
    v = tl.load(x)
    tl.store(out, v + v)
    tl.debug_barrier()
    tl.store(out + 1, v * v)


def test_overflow_of_plain_arithmetic_is_no_assertion(new_run):
    """Compiled with debug, Triton would assert that of every sum."""
    run = new_run()
    out = run.empty((2,), torch.int32)
    run.launch(adds, (1,), run.place(np.array([2**31 - 1], np.int32)), out)
    assert out.tolist() == [-2, 1]
    assert not run.incidents()
