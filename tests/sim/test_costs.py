"""What a launch may cost: memory that does not grow with the grid. And the short cuts that make it fast are right."""

import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given

from fp4guard.memory import Role
from fp4guard.sim.atomics import _distinct
from fp4guard.sim.elements import elements_at
from fp4guard.sim.overflow import _BOUNDS, Bounds


@triton.jit
def wrapped_kernel(x, out, n, BLOCK: tl.constexpr):
    i = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)) % n
    tl.store(out + i, tl.load(x + i) * 2)


@triton.jit
def count_kernel(counts, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.atomic_add(counts + i, 1, mask=i < n)


@triton.jit
def add_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out + i % n, tl.load(x + i % n))


@triton.jit
def ticket_kernel(x, counter, n, BLOCK: tl.constexpr):
    """A quarter of the programs write the same, then draw a ticket each."""
    tl.store(x + tl.program_id(0) % 4 * BLOCK + tl.arange(0, BLOCK), tl.zeros((BLOCK,), tl.float32))
    if tl.atomic_add(counter, 1) == n - 1:
        tl.store(counter + 1, n)


def peak(run, kernel, programs, *args):
    run.launch(kernel, (1,), *args, BLOCK=1024)
    tracemalloc.start()
    run.launch(kernel, (programs,), *args, BLOCK=1024)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not run.incidents()
    return found


@pytest.mark.parametrize("kernel", [wrapped_kernel, add_kernel])
def test_the_peak_of_memory_does_not_grow_with_the_grid(new_run, kernel):
    def of(programs):
        run = new_run()
        x, out = run.place(torch.ones(4096)), run.place(torch.zeros(4096), name="out", role=Role.OUTPUT)
        return peak(run, kernel, programs, x, out, 4096)

    assert of(2048) < 1.1 * of(512)


def test_what_atomics_order_is_worked_out_by_program(new_run):
    run = new_run()
    x, counter = run.empty((4096,)), run.place(torch.zeros(2, dtype=torch.int32), name="counter", role=Role.OUTPUT)
    # A clock of every program for each, and not for each of the lanes that all have written.
    assert peak(run, ticket_kernel, 1024, x, counter, 1025) < 32e6


def test_an_atomic_with_no_lane_on_does_nothing(new_run):
    run = new_run()
    counts = run.place(torch.zeros(16, dtype=torch.int32))
    run.launch(count_kernel, (1,), counts, 0, BLOCK=16)
    assert not counts.any()


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 9), st.sampled_from([1, 2, 4, 8]))
def test_elements_at_is_the_division_by_the_width(numbers, start, width):
    for index in (np.array(numbers, np.int64), np.arange(start, start + len(numbers))):
        found = elements_at(index * width, width)
        np.testing.assert_array_equal(np.arange(100)[found], index)


def test_elements_at_gives_a_slice_for_a_run_alone():
    assert elements_at(np.array([8, 12, 16]), 4) == slice(2, 5)
    assert isinstance(elements_at(np.array([8, 16, 12, 20]), 4), np.ndarray)
    assert isinstance(elements_at(np.array([8, 8, 16]), 4), np.ndarray)


@given(st.lists(st.integers(0, 60) | st.integers(0, 10**12), min_size=1, max_size=20))
def test_distinct_offsets_are_those_of_numpy(offsets):
    unique, place = _distinct(np.array(offsets))
    expected, inverse = np.unique(offsets, return_inverse=True)
    np.testing.assert_array_equal(unique, expected)
    np.testing.assert_array_equal(place, inverse.reshape(-1))


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("arith.addi", lambda a, b: a + b),
        ("arith.subi", lambda a, b: a - b),
        ("arith.muli", lambda a, b: a * b),
        ("arith.shli", lambda a, b: a << (b % 32)),
    ],
)
@given(values=st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)), min_size=1))
def test_bounds_hold_every_exact_result(name, compute, values):
    left, right = [a for a, _ in values], [b % 32 if name == "arith.shli" else b for _, b in values]
    low, high = _BOUNDS[name](Bounds(min(left), max(left)), Bounds(min(right), max(right)))
    assert all(low <= compute(a, b) <= high for a, b in zip(left, right))
