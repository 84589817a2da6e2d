"""Atomics against a sequential loop in Python: results, what each lane gets back, masks, bounds, undefined elements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from fp4guard.memory import ORDINARY, Role

LANES, PROGRAMS = 16, 5


@triton.jit
def update(p, index, value, old, limit, op: tl.constexpr, used: tl.constexpr, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    mask = i < limit
    q, v = p + tl.load(index + i), tl.load(value + i)
    if op == "add":
        r = tl.atomic_add(q, v, mask=mask)
    elif op == "max":
        r = tl.atomic_max(q, v, mask=mask)
    elif op == "min":
        r = tl.atomic_min(q, v, mask=mask)
    elif op == "and":
        r = tl.atomic_and(q, v, mask=mask)
    elif op == "or":
        r = tl.atomic_or(q, v, mask=mask)
    elif op == "xor":
        r = tl.atomic_xor(q, v, mask=mask)
    else:
        r = tl.atomic_xchg(q, v, mask=mask)
    if used:
        tl.store(old + i, r, mask=mask)


FUNCTIONS = {
    "add": lambda a, b: a + b, "max": max, "min": min, "and": lambda a, b: a & b, "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b, "xchg": lambda a, b: b,
}  # fmt: skip
INTEGERS = [torch.int32, torch.uint32, torch.int64, torch.uint64]
CASES = [(op, dtype) for op in FUNCTIONS for dtype in INTEGERS]
CASES += [("add", torch.float16), ("add", torch.bfloat16)]
CASES += [(op, dtype) for op in ("add", "max", "min", "xchg") for dtype in (torch.float32, torch.float64)]


def random(rng, dtype, shape):
    if dtype.is_floating_point:
        return torch.from_numpy(rng.integers(-20, 20, shape) / 4).to(dtype)
    info = torch.iinfo(dtype)
    return torch.from_numpy(rng.integers(info.min, info.max, shape, np.dtype(str(dtype)[6:]), endpoint=True))


def numbers(tensor):
    return tensor.double().tolist() if tensor.dtype.is_floating_point else tensor.tolist()


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("spread", [1, 3, 80])
@pytest.mark.parametrize(("op", "dtype"), CASES, ids=str)
def test_read_modify_write(new_run, op, dtype, spread, used):
    rng = np.random.default_rng(spread)
    count, limit = LANES * PROGRAMS, 70
    index = rng.permutation(80) if spread == 80 else rng.integers(0, spread, count)
    start, value = random(rng, dtype, spread), random(rng, dtype, count)
    run = new_run()
    cells, old = run.place(start, name="cells", role=Role.OUTPUT), run.empty((count,), dtype)
    inputs = run.place(index.astype(np.int32), name="index"), run.place(value, name="value")
    run.launch(update, (PROGRAMS,), cells, *inputs, old, limit, op, used, N=LANES)
    expected, got = numbers(start), []
    for place, v in zip(index[:limit], numbers(value)):
        got.append(expected[place])
        result = FUNCTIONS[op](expected[place], v)
        if not dtype.is_floating_point:
            info = torch.iinfo(dtype)
            result = (result - info.min) % (info.max - info.min + 1) + info.min
        expected[place] = result
    assert numbers(cells) == expected
    if used:
        # A float's maximum is two atomics, one for each sign: what comes back is not of one sequence of lanes.
        assert (dtype.is_floating_point and op in ("max", "min")) or numbers(old)[:limit] == got
        assert run.incidents().keys() == {("undefined-value", None)}  # what the masked lanes get back
    else:
        assert not run.incidents()


@triton.jit
def swap(p, expected, new, old, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(old + i, tl.atomic_cas(p + i % 3, tl.load(expected + i), tl.load(new + i)))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_compare_and_swap(new_run, dtype):
    rng = np.random.default_rng(9)
    expected, new = (torch.from_numpy(rng.integers(0, 3, 80)).to(dtype) for _ in range(2))
    run = new_run()
    cells, old = run.place(torch.zeros(3, dtype=dtype), name="cells", role=Role.OUTPUT), run.empty((80,), dtype)
    run.launch(swap, (PROGRAMS,), cells, run.place(expected), run.place(new, name="new"), old, N=LANES)
    state, got = [0, 0, 0], []
    for i in range(80):
        place = i % LANES + i // LANES * LANES
        got.append(state[place % 3])
        if state[place % 3] == expected[i]:
            state[place % 3] = int(new[i])
    assert cells.tolist() == state
    assert old.tolist() == got


@triton.jit
def ticket(counter, out):
    if tl.program_id(0) != 2:
        tl.store(out + tl.program_id(0), tl.atomic_add(counter, 1))


@pytest.mark.parametrize("programs", [1, 7, 300])
def test_every_active_program_draws_its_own_ticket(new_run, programs):
    """The address and the value are the same for all; the atomic still happens once a program."""
    run = new_run()
    counter = run.place(np.zeros(1, np.int32), name="counter", role=Role.OUTPUT)
    out = run.empty((programs,), torch.int32)
    run.launch(ticket, (programs,), counter, out)
    active = [i for i in range(programs) if i != 2]
    assert counter.item() == len(active)
    assert out[active].tolist() == list(range(len(active)))
    assert not run.incidents()


@triton.jit
def scatter_add(p, n, N: tl.constexpr):
    tl.atomic_add(p + tl.arange(0, N), 1, mask=tl.arange(0, N) < n)


def test_out_of_bounds(new_run):
    run = new_run()
    cells = run.place(np.zeros(5, np.int32), name="cells", role=Role.OUTPUT)
    run.launch(scatter_add, (2,), cells, 7, N=8)
    assert cells.tolist() == [2] * 5
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.low, incident.high) == ("oob-write", 4, 20, 27)


def test_undefined_element_stays_undefined(new_run):
    run = new_run(ORDINARY)
    cells = run.empty((4,), torch.int32)
    run.launch(scatter_add, (3,), cells, 4, N=4)
    assert run.incidents().keys() == {("uninitialized-read", "out")}
    assert run.written().all()


@triton.jit
def exchange(p, N: tl.constexpr):
    tl.atomic_xchg(p + tl.arange(0, N), 7)


def test_exchange_without_a_result_reads_nothing(new_run):
    run = new_run()
    cells = run.empty((4,), torch.int32)
    run.launch(exchange, (2,), cells, N=4)
    assert cells.tolist() == [7] * 4
    assert not run.incidents()


def test_input_is_told(new_run):
    run = new_run()
    run.launch(exchange, (1,), run.place(np.zeros(4, np.int32)), N=4)
    assert run.incidents().keys() == {("input-write", "x")}


@triton.jit
def accumulate(p, x, N: tl.constexpr):
    tl.atomic_add(p, tl.load(x + tl.program_id(0)))


@pytest.mark.parametrize(
    ("start", "values", "expected"),
    [(1e-40, [1e-40], 0.0), (1.0, [-1.0, 1e-40], 0.0), (2.0**-126, [2.0**-127] * 4, 2.0**-126), (0.5, [0.25] * 4, 1.5)],
)
def test_float32_flushes_subnormals(new_run, start, values, expected):
    """As an H200 does in global memory."""
    run = new_run()
    cell = run.place(torch.tensor([start]), name="cell", role=Role.OUTPUT)
    run.launch(accumulate, (len(values),), cell, run.place(torch.tensor(values)), N=1)
    assert cell.item() == expected


def test_sixteen_bits_keep_subnormals(new_run):
    run = new_run()
    cell = run.place(torch.tensor([2.0**-133]).bfloat16(), name="cell", role=Role.OUTPUT)
    run.launch(accumulate, (1,), cell, run.place(torch.tensor([2.0**-133]).bfloat16()), N=1)
    assert cell.item() == 2.0**-132
