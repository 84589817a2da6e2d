"""Device functions that are not inlined: arguments, results, several returns, effects, calls in divergent branches."""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl


@triton.jit(noinline=True)
def collatz(n, factor: tl.constexpr):
    if n % 2 == 0:
        return n // 2
    if n < 0:
        return n * 0
    return factor * n + 1


@triton.jit(noinline=True)
def write_twice(out, at, value):
    tl.store(out + at, collatz(value, 3))
    tl.store(out + at + 1, collatz(value, 5))


@triton.jit
def calls(x, out):
    pid = tl.program_id(0)
    v = tl.load(x + pid)
    if v != 4:
        write_twice(out, 4 * pid, v)
        v = collatz(v, 3)
    write_twice(out, 4 * pid + 2, v)


def step(n, factor):
    return n // 2 if n % 2 == 0 else 0 if n < 0 else factor * n + 1


def test_calls(new_run):
    values = [6, 7, 4, -3, 9, -8]
    run = new_run()
    out = run.empty((6, 4), torch.int32)
    run.launch(calls, (6,), run.place(np.array(values, np.int32)), out)
    for v, row, written in zip(values, out.tolist(), run.written().tolist()):
        after = v if v == 4 else step(v, 3)
        assert row[2:] == [step(after, 3), step(after, 5)]
        assert written == [v != 4, v != 4, True, True]
        if v != 4:
            assert row[:2] == [step(v, 3), step(v, 5)]
    assert not run.incidents()


def test_fault_in_a_function_is_told_at_its_line(new_run):
    run = new_run()
    run.launch(calls, (6,), run.place(np.array([1, 1, 1, 1, 1, 1], np.int32)), run.empty((5, 4), torch.int32))
    assert run.incidents().keys() == {("oob-write", "out")}
    (incident, *_) = run.incidents().values()
    assert incident.site.location.source.startswith("tl.store(out + at")
