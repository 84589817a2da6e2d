"""Cases that a review found missed or falsely alarmed; each with its twin."""

import pytest
import torch
import triton
import triton.language as tl

import fp4guard as fg
from fp4guard import oracle


@triton.jit
def maximum_kernel(x, out, n, GUARD: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0) if GUARD else tl.load(x + i, mask=i < n)
    tl.store(out, tl.max(value, 0))


@fg.fuzz(guard=[False, True])
def maximum(mem, guard):
    x = mem.integers("x", (5,), 1, 4096)
    out = mem.output("out", (1,), torch.int32)
    maximum_kernel[(1,)](x, out, 5, guard, 8)
    mem.expect(out, x.max().reshape(1))


@triton.jit
def queue_kernel(queue, n):
    while tl.atomic_add(queue, 1) < n:
        pass


@fg.fuzz(n=[10])
def queue(mem, n):
    counter = mem.output("counter", (1,), torch.int32, fill=0)
    queue_kernel[(3,)](counter, n)
    mem.expect(counter, torch.tensor([n + 3], dtype=torch.int32))


@triton.jit
def wide_store_kernel(x, NEXT: tl.constexpr):
    if tl.program_id(0) == 0:
        tl.store(x.to(tl.pointer_type(tl.int32)), 0x01020304)
    else:
        tl.store(x + NEXT, 9)


@fg.fuzz(place=[2, 4])
def wide_store(mem, place):
    x = mem.output("x", (8,), torch.uint8, fill=0)
    wide_store_kernel[(2,)](x, place)


@triton.jit
def wide_atomic_kernel(x, NEXT: tl.constexpr):
    if tl.program_id(0) == 0:
        tl.atomic_add(x.to(tl.pointer_type(tl.int32)), 0x01010101)
    else:
        tl.store(x + NEXT, 9)


@fg.fuzz(place=[2, 4])
def wide_atomic(mem, place):
    x = mem.output("x", (8,), torch.uint8, fill=0)
    wide_atomic_kernel[(2,)](x, place)


@triton.jit
def sum_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n, other=0.0), 0))


@fg.fuzz(bounded=[False, True])
def row_sum(mem, bounded):
    x = mem.input("x", torch.arange(60) / 7 + 2.0**20)  # a sum that rounds
    out = mem.output("out", (1,), torch.float32)
    sum_kernel[(1,)](x, out, 60, 64)
    exact = x.double().sum().reshape(1)
    mem.expect(out, oracle.within(exact, 63 * 2.0**-24 * exact.abs()) if bounded else exact + 1)


def kinds(report):
    return [finding.kind for finding in report.findings]


def test_an_undefined_lane_reaches_a_maximum():
    assert kinds(fg.examine(maximum, guard=False)) == ["undefined-lane"]
    assert kinds(fg.examine(maximum, guard=True)) == []


def test_a_loop_over_an_atomic_counter_makes_progress():
    assert kinds(fg.examine(queue, n=10)) == []


def test_a_wide_store_races_for_each_element_it_covers():
    assert kinds(fg.examine(wide_store, place=2)) == ["race"]
    assert kinds(fg.examine(wide_store, place=4)) == []


def test_a_wide_atomic_races_for_each_element_it_covers():
    assert kinds(fg.examine(wide_atomic, place=2)) == ["race"]
    assert kinds(fg.examine(wide_atomic, place=4)) == []


def test_a_bound_allows_the_rounding_of_a_sum_and_no_more():
    assert kinds(fg.examine(row_sum, bounded=True)) == []
    assert kinds(fg.examine(row_sum, bounded=False)) == ["wrong-value"]


def test_a_choice_that_is_none_is_refused():
    with pytest.raises(fg.UsageError, match="guard=2: allowed are False, True"):
        fg.examine(maximum, guard=2)
