"""Control flow: loops, branches and early returns, for programs that agree and for those that do not."""

# ruff: noqa: B007, SIM108 (kernels are written as their authors write them)
from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard.memory import ORDINARY
from fp4guard.sim import HangError, Simulator, launch

QUICK = settings(max_examples=25, deadline=None)
TRIPS = st.lists(st.tuples(st.integers(-4, 6), st.integers(-4, 6), st.integers(1, 3)), min_size=1, max_size=6)


@pytest.fixture(params=[1 << 20, 1, 40], ids=["one batch", "program by program", "some programs"])
def batches(request, monkeypatch):
    monkeypatch.setattr(launch, "BATCH_ELEMENTS", request.param)


def columns(rows):
    return [torch.tensor(column, dtype=torch.int32) for column in zip(*rows)]


def ints(run, count, name="out"):
    return run.empty((count,), torch.int32, name=name)


@triton.jit
def loop_kernel(low, high, step, out):
    pid = tl.program_id(0)
    total = 0
    for i in range(tl.load(low + pid), tl.load(high + pid), tl.load(step + pid)):
        total = total * 3 + i
    tl.store(out + pid, total)


@QUICK
@given(rows=TRIPS)
def test_every_program_has_its_own_trip_count(new_run, rows):
    run = new_run()
    low, high, step = (run.place(c) for c in columns(rows))
    out = ints(run, len(rows))
    run.launch(loop_kernel, (len(rows),), low, high, step, out)
    expected = []
    for bounds in rows:
        total = 0
        for i in range(*bounds):
            total = total * 3 + i
        expected.append(total)
    assert out.tolist() == expected
    assert not run.incidents()


@triton.jit
def down_kernel(out, n):
    total = 0
    for i in range(n, -1, -2):
        total = total * 10 + i
    tl.store(out, total)


@pytest.mark.parametrize(("n", "expected"), [(6, 6420), (5, 531), (0, 0), (-2, 0)])
def test_a_loop_may_run_down(new_run, n, expected):
    run = new_run()
    out = ints(run, 1)
    run.launch(down_kernel, (1,), out, n)
    assert out.tolist() == [expected]


@triton.jit
def nested_kernel(n, out, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.int32)
    count = tl.load(n + pid)
    for i in range(count):
        if i % 2 == pid % 2:
            for j in range(i):
                total += offsets * j
        else:
            if pid > 1:
                total -= i
    tl.store(out + pid * BLOCK + offsets, total)


@QUICK
@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_loops_and_branches_nest(new_run, counts):
    run = new_run()
    out = ints(run, 4 * len(counts))
    run.launch(nested_kernel, (len(counts),), run.place(np.array(counts, np.int32)), out, BLOCK=4)
    expected = np.zeros((len(counts), 4), int)
    for pid, count in enumerate(counts):
        for i in range(count):
            if i % 2 == pid % 2:
                expected[pid] += np.arange(4) * sum(range(i))
            elif pid > 1:
                expected[pid] -= i
    assert out.view(-1, 4).tolist() == expected.tolist()


@triton.jit
def branch_kernel(x, out, uniform):
    pid = tl.program_id(0)
    value = tl.load(x + pid)
    result = -1
    if value > 2:
        result = value * 2
        if value > 4:
            result += 100
            if uniform > 0:
                tl.store(out + pid, result)
    else:
        result = value - 1
        if uniform > 0:
            tl.store(out + pid, result)
    if uniform <= 0:
        tl.store(out + pid, result)


@pytest.mark.parametrize("values", [[1, 2], [3, 9], [1, 3, 5, 2], [5]])
def test_branches_on_values_that_differ(new_run, batches, values):
    run = new_run()
    out = ints(run, len(values))
    run.launch(branch_kernel, (len(values),), run.place(np.array(values, np.int32)), out, -5)
    assert out.tolist() == [v - 1 if v <= 2 else v * 2 + 100 * (v > 4) for v in values]


def test_a_store_in_a_branch_writes_for_its_programs_alone(new_run, batches):
    values = [1, 3, 5, 2]
    run = new_run()
    out = ints(run, 4)
    run.launch(branch_kernel, (4,), run.place(np.array(values, np.int32)), out, 7)
    assert run.written().tolist() == [True, False, True, True]
    assert out[run.written()].tolist() == [0, 110, 1]


@triton.jit
def while_kernel(n, out, limit):
    pid = tl.program_id(0)
    value = tl.load(n + pid)
    steps = 0
    while (value != 1) & (steps < limit):
        if value % 2 == 0:
            value = value // 2
        else:
            value = 3 * value + 1
        steps += 1
    tl.store(out + pid, steps)
    tl.store(out + tl.num_programs(0) + pid, value)


@QUICK
@given(starts=st.lists(st.integers(1, 40), min_size=1, max_size=6), limit=st.integers(-1, 30))
def test_while_runs_until_no_program_is_left(new_run, starts, limit):
    run = new_run()
    count = len(starts)
    out = ints(run, 2 * count)
    run.launch(while_kernel, (count,), run.place(np.array(starts, np.int32)), out, limit)
    expected = []
    for value in starts:
        steps = 0
        while value != 1 and steps < limit:
            value = value // 2 if value % 2 == 0 else 3 * value + 1
            steps += 1
        expected.append((steps, value))
    assert out.tolist() == [steps for steps, _ in expected] + [value for _, value in expected]


@triton.jit
def while_in_branch_kernel(n, out):
    pid = tl.program_id(0)
    left = tl.load(n + pid)
    total = 0
    if pid % 2 == 1:
        while left > 0:
            total += left
            left -= 1
    tl.store(out + pid, total)


def test_a_while_under_a_mask_leaves_the_others_alone(new_run, batches):
    """Were the programs of the other branch to run too, the one that never ends would not let it return."""
    run = new_run()
    out = ints(run, 4)
    run.launch(while_in_branch_kernel, (4,), run.place(np.array([2**31 - 1, 3, 2**31 - 1, 4], np.int32)), out)
    assert out.tolist() == [0, 6, 0, 10]


@triton.jit
def loop_in_branch_kernel(bounds, out):
    pid = tl.program_id(0)
    total = 0
    if pid > 0:
        for i in range(0, tl.load(bounds + pid), tl.load(bounds + 4 + pid)):
            total += i
    tl.store(out + pid, total)


def test_bounds_of_programs_that_skip_a_loop_do_not_matter(new_run):
    run = new_run()
    bounds = run.place(np.array([2**31 - 1, 4, 0, -3, 0, 1, 1, 2], np.int32))
    out = ints(run, 4)
    run.launch(loop_in_branch_kernel, (4,), bounds, out)
    assert out.tolist() == [0, 6, 0, 0]


@triton.jit
def early_return_kernel(x, out, n):
    pid = tl.program_id(0)
    if pid >= n:
        return
    value = tl.load(x + pid)
    if value < 0:
        tl.store(out + pid, -1)
        return
    tl.store(out + pid, value * 2)


def test_programs_that_return_early_do_nothing_more(new_run, batches):
    run = new_run()
    out = ints(run, 6)
    run.launch(early_return_kernel, (6,), run.place(np.array([4, -7, 5, -1], np.int32)), out, 4)
    assert out[:4].tolist() == [8, -1, 10, -1]
    assert run.written().tolist() == [True] * 4 + [False] * 2
    assert not run.incidents()


def test_all_programs_may_return_early(new_run):
    run = new_run()
    ints(run, 2)
    run.launch(early_return_kernel, (2,), run.place(np.zeros(1, np.int32)), run.memory.named("out").tensor, -3)
    assert not run.written().any()


@triton.jit
def looking_kernel(x, log, out, n):
    """What it counts changes where it looks, or what it writes: it waits for nothing."""
    place = 0
    while tl.load(x + place) == 0:
        place += 1
    tl.store(out, place)
    looked = 0
    while tl.load(log + n) == 0:
        looked += 1
        if looked > 2:
            tl.store(log + looked, looked)
    tl.store(out + 1, looked)
    rest = 3
    while tl.load(x + rest // 2) == 0:
        for i in range(rest):
            rest += i % 2
    tl.store(out + 2, rest)


def test_a_loop_that_counts_and_gets_somewhere(new_run):
    run = new_run()
    out = ints(run, 3)
    x, log = run.place(np.array([0, 0, 0, 0, 7], np.int32)), run.place(np.zeros(9, np.int32), name="log")
    run.launch(looking_kernel, (1,), x, log, out, 6)
    assert out.tolist() == [4, 6, 9]


@triton.jit
def rewriting_kernel(out, n, step):
    row = tl.program_id(0)
    while row < n:
        tl.store(out, row)
        tl.store(out + 1, 7)
        row += step


def test_a_loop_that_rewrites_what_is_there_is_a_hang_where_it_does_not_advance(new_run):
    run = new_run()
    out = ints(run, 2)
    run.launch(rewriting_kernel, (1,), out, 300, 1)
    assert out.tolist() == [299, 7]
    with pytest.raises(HangError, match="a loop whose iterations change nothing any more"):
        run.launch(rewriting_kernel, (1,), out, 300, 0)


@triton.jit
def stepping_kernel(steps, out, n):
    pid = tl.program_id(0)
    count = 0
    for _ in range(pid, n, tl.load(steps + pid)):
        count += 1
    tl.store(out + pid, count)


def test_a_step_below_1_is_a_hang_where_the_loop_is_entered(new_run):
    run = new_run()
    out = ints(run, 4)
    run.launch(stepping_kernel, (4,), run.place(np.array([2, 1, 3, 0], np.int32)), out, 3)
    assert out.tolist() == [2, 2, 1, 0]
    for step in (0, -1):
        with pytest.raises(HangError, match=f"a step of {step}") as caught:
            run.launch(stepping_kernel, (2,), run.place(np.array([1, step], np.int32)), out, 3)
        assert caught.value.programs == [(1, 0, 0)]


@triton.jit
def pointers_kernel(x, y, out, n, BLOCK: tl.constexpr):
    """Carries pointers, and swaps them: a pointer's region is part of its value."""
    pid = tl.program_id(0)
    here = x + pid * BLOCK + tl.arange(0, BLOCK)
    there = y + pid * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.int32)
    for i in range(n):
        total = total * 10 + tl.load(here)
        here, there = there, here
    tl.store(out + pid * BLOCK + tl.arange(0, BLOCK), total)


def test_loops_carry_pointers_of_several_tensors(new_run, batches):
    run = new_run()
    x, y = run.place(np.full(8, 1, np.int32), name="x"), run.place(np.full(8, 2, np.int32), name="y")
    out = ints(run, 8)
    run.launch(pointers_kernel, (2,), x, y, out, 3, BLOCK=4)
    assert out.tolist() == [121] * 8
    assert not run.incidents()


@triton.jit
def chosen_pointer_kernel(x, y, out):
    pid = tl.program_id(0)
    if pid % 2 == 0:
        source = x
    else:
        source = y
    tl.store(out + pid, tl.load(source + pid))


def test_programs_may_choose_different_tensors(new_run, batches):
    run = new_run()
    x, y = run.place(np.arange(4, dtype=np.int32), name="x"), run.place(np.arange(10, 13, dtype=np.int32), name="y")
    out = ints(run, 4)
    run.launch(chosen_pointer_kernel, (4,), x, y, out)
    assert out[:3].tolist() == [0, 11, 2]
    assert list(run.incidents()) == [("oob-read", "y")]
    assert run.incidents()["oob-read", "y"].programs == [(3, 0, 0)]


@triton.jit
def ids_kernel(out, X, Y):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    linear = x + X * (y + Y * z)
    tl.store(out + linear, x + 10 * y + 100 * z + 1000 * tl.num_programs(1))


@pytest.mark.parametrize("grid", [(3,), (2, 3), (3, 1), (2, 3, 4), (1, 1, 5), (1, 4, 2)])
def test_program_ids_over_every_grid(new_run, batches, grid):
    run = new_run()
    x, y, z = (*grid, 1, 1)[:3]
    out = ints(run, x * y * z)
    run.launch(ids_kernel, grid, out, x, y)
    expected = [i + 10 * j + 100 * k + 1000 * y for k in range(z) for j in range(y) for i in range(x)]
    assert out.tolist() == expected


@triton.jit
def faulty_kernel(x, out, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0) + tl.num_programs(0) * tl.program_id(1)
    offsets = pid * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + offsets, mask=offsets < n + pid)
    if pid % 3 != 1:
        tl.store(out + offsets + pid, value)


@pytest.mark.parametrize("elements", [1, 9, 16, 1 << 20])
def test_batches_change_neither_results_nor_incidents(new_run, monkeypatch, elements):
    def once(elements):
        monkeypatch.setattr(launch, "BATCH_ELEMENTS", elements)
        run = new_run(ORDINARY)
        x, out = run.place(np.arange(30, dtype=np.int32)), ints(run, 40)
        run.launch(faulty_kernel, (2, 5), x, out, 25, BLOCK=4)
        incidents = {
            key: (i.lanes, i.low, i.high, i.programs, i.site.location.line) for key, i in run.incidents().items()
        }
        return out.tolist(), incidents

    found, expected = once(elements), once(1 << 20)
    assert found == expected
    assert set(expected[1]) == {("oob-read", "x"), ("oob-write", "out"), ("undefined-lane", "x")}
    assert max(expected[1]["oob-write", "out"][3]) == (1, 4, 0)


@triton.jit(noinline=True)
def take(lock):
    while tl.atomic_cas(lock, 0, 1, sem="acquire") != 0:
        pass


@triton.jit
def counting_kernel(lock, out):
    take(lock)
    tl.store(out, tl.load(out) + 1)
    tl.atomic_xchg(lock, 0, sem="release")


def test_programs_that_wait_in_a_function_run_one_after_the_other(new_run):
    run = new_run()
    lock, out = (run.place(np.zeros(1, np.int32), name=name) for name in ("lock", "out"))
    run.launch(counting_kernel, (4,), lock, out)
    assert out.tolist() == [4]
    assert not run.incidents("race")


@triton.jit
def twice_kernel(out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, 0)
    tl.store(out + i, i)


@pytest.mark.parametrize("programs", [2, 3, 4, 5, 7])
def test_what_all_do_alike_is_no_race_of_the_last_batch(new_run, monkeypatch, programs):
    monkeypatch.setattr(launch, "BATCH_ELEMENTS", 16)
    run = new_run()
    run.launch(twice_kernel, (programs,), ints(run, 8), BLOCK=8)
    assert not run.incidents()


@triton.jit
def arriving_kernel(arrived, parts, out, PARTS: tl.constexpr):
    me = tl.program_id(0)
    tl.store(parts + me, 1)
    tl.atomic_add(arrived, 1)
    while tl.atomic_add(arrived, 0) < PARTS - 1:
        pass
    tl.store(out + me, tl.sum(tl.load(parts + tl.arange(0, PARTS))))


def test_the_other_way_round_one_program_comes_when_the_others_are_done(new_run):
    run = new_run()
    arrived, parts, out = run.place(np.zeros(1, np.int32)), run.empty((8,), torch.int32, name="parts"), ints(run, 8)
    run.launch(arriving_kernel, (8,), arrived, parts, out, PARTS=8)
    assert out.tolist() == [8] * 8
    assert not run.incidents("uninitialized-read", "race")

    run = new_run()
    arrived, parts, out = run.place(np.zeros(1, np.int32)), run.empty((8,), torch.int32, name="parts"), ints(run, 8)
    with run.simulator.backwards():
        run.launch(arriving_kernel, (8,), arrived, parts, out, PARTS=8)
    assert out[0] == 8
    assert 8 not in out[1:]
    assert ("uninitialized-read", "parts") in run.incidents()


def test_what_is_read_on_the_way_to_a_hang_is_kept_and_nothing_else(new_run):
    run = new_run()
    lock, out = run.empty((1,), torch.int32, name="lock"), run.place(np.zeros(1, np.int32), name="out")
    with pytest.raises(HangError):
        run.launch(counting_kernel, (4,), lock, out)
    assert set(run.incidents()) == {("uninitialized-read", "lock")}
    assert run.simulator.trace.retried


@triton.jit
def counting_looks_kernel(arrived, looks, out, PARTS: tl.constexpr):
    tl.atomic_add(arrived, 1)
    while tl.atomic_add(arrived, 0) < PARTS:
        tl.atomic_add(looks, 1)  # the loop changes something for ever
    tl.store(out + tl.program_id(0), 1)


def test_turns_that_lead_nowhere_are_given_up_soon_and_leave_nothing(new_run, monkeypatch):
    monkeypatch.setattr(launch, "MOST_TRIPS_OF_A_TRY", 8)
    for direction in (nullcontext, Simulator.backwards):
        run = new_run()
        arrived, looks = (run.place(np.zeros(1, np.int32), name=name) for name in ("arrived", "looks"))
        out = ints(run, 4)
        with direction(run.simulator) if direction is not nullcontext else nullcontext():
            run.launch(counting_looks_kernel, (4,), arrived, looks, out, PARTS=4)
        assert (out.tolist(), arrived.tolist(), looks.tolist()) == ([1] * 4, [4], [0])
        assert run.simulator.trace.retried == (direction is not nullcontext)


@triton.jit
def working_kernel(left, arrived, done, out, x, PARTS: tl.constexpr):
    taken = tl.where(tl.load(x + tl.program_id(0)) == 12345, 1, 0)  # of which there are fewer
    while tl.atomic_add(left, -1) > 0:
        taken += 1
    tl.store(out + tl.program_id(0), taken)
    tl.atomic_add(arrived, 1)
    while tl.atomic_add(arrived, 0) < PARTS:
        pass
    tl.atomic_add(done, 1)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_loop_that_works_long_before_a_barrier_is_no_hang(new_run, monkeypatch, backwards):
    monkeypatch.setattr(launch, "MOST_TRIPS_OF_A_TRY", 8)
    run = new_run()
    left, arrived, done = (
        run.place(np.full(1, n, np.int32), name=name) for name, n in (("l", 100), ("a", 0), ("d", 0))
    )
    out, x = ints(run, 4), run.place(np.zeros(3, np.int32), name="x")
    with run.simulator.backwards() if backwards else nullcontext():
        run.launch(working_kernel, (4,), left, arrived, done, out, x, PARTS=4)
    assert (sum(out.tolist()), arrived.tolist(), done.tolist()) == (100, [4], [4])
    (read,) = run.incidents("oob-read").values()
    assert (read.lanes, read.program_ids) == (1, {3})


def test_what_a_try_did_out_of_bounds_is_told_though_another_does_not(new_run):
    run = new_run()
    lock, out = run.place(np.zeros(1, np.int32), name="lock"), ints(run, 4)
    run.launch(racing_past_kernel, (4,), lock, out)
    assert lock.tolist() == [0]
    assert ("oob-write", "out") in run.incidents()


@triton.jit
def racing_past_kernel(lock, out):
    """Where all are there at once, a program finds the lock taken, and then writes beyond the end."""
    if tl.atomic_cas(lock, 0, 1) == 1:
        tl.store(out + 4, 0)
        take(lock)
    tl.store(out + tl.program_id(0), 1)
    tl.atomic_xchg(lock, 0, sem="release")
