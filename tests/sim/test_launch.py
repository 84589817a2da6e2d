"""The interception of launches: what a call of a kernel becomes, and what is refused."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.jit import JITFunction

from fp4guard import UnsupportedError, UsageError
from fp4guard.memory import GuardAllocations
from fp4guard.sim import GridError
from fp4guard.sim.ops import RULES


@triton.jit
def add_kernel(x, y, out, n, scale=1.0, BLOCK: tl.constexpr = 4):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    value = tl.load(x + offsets, mask=mask) + tl.load(y + offsets, mask=mask) * scale
    tl.store(out + offsets, value, mask=mask)


@pytest.fixture
def run(new_run):
    return new_run()


@pytest.fixture
def tensors(run):
    return run.place(torch.arange(7.0)), run.place(torch.ones(7), name="y"), run.empty((7,))


def test_arguments_by_position_by_name_and_by_default(run, tensors):
    x, y, out = tensors
    run.launch(add_kernel, (2,), x, y, out, 7)
    assert out.tolist() == (torch.arange(7.0) + 1).tolist()
    run.launch(add_kernel, (2,), x, y=y, scale=2.5, n=7, out=out)
    assert out.tolist() == (torch.arange(7.0) + 2.5).tolist()
    run.launch(add_kernel, (1,), x, y, out, 7, BLOCK=8, num_warps=2, num_stages=1)
    assert out.tolist() == (torch.arange(7.0) + 1).tolist()
    assert run.simulator.launches == 3


@pytest.mark.parametrize(
    "grid", [(2,), [2], (2, 1), (np.int64(2), 1, 1), lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]),)]
)
def test_grids(run, tensors, grid):
    run.launch(add_kernel, grid, *tensors, 7)
    assert run.written().all()


@pytest.mark.parametrize("grid", [(0,), (2, 0), (0, 0, 0)])
def test_a_grid_of_no_programs_does_nothing(run, tensors, grid):
    run.launch(add_kernel, grid, *tensors, 7)
    assert not run.written().any()


@pytest.mark.parametrize("grid", [(), (1.0,), ("1",), None, 2, lambda meta: 2, (-1, -1), (2**31,), (0, 2**31)])
def test_a_grid_that_triton_does_not_take_is_refused(run, tensors, grid):
    with pytest.raises(
        GridError, match=r"grid=.*: allowed (is a tuple of 1 to 3 integers|are up to 2147483647 x 65535)"
    ):
        run.launch(add_kernel, grid, *tensors, 7)


@pytest.mark.parametrize("grid", [(1, 2**16), (1, 1, 2**16)])
def test_a_grid_that_cuda_does_not_launch_is_refused(run, tensors, grid):
    with pytest.raises(GridError, match="allowed are up to 2147483647 x 65535 x 65535 on CUDA"):
        run.launch(add_kernel, grid, *tensors, 7)


@pytest.mark.parametrize("grid", [(torch.tensor(2),), (2, 1, 1, 9), (np.array(2), np.uint8(1))])
def test_a_grid_is_what_triton_takes_of_it(run, tensors, grid):
    run.launch(add_kernel, grid, *tensors, 7)
    assert run.written().all()


@pytest.mark.parametrize("grid", [(-1,), (3, -2), (0, 2**16), (0, -1)])
def test_a_grid_of_less_than_a_program_launches_nothing(run, tensors, grid):
    run.launch(add_kernel, grid, *tensors, 7)
    assert not run.written().any()


def test_wrong_arguments_are_the_callers_error(run, tensors):
    with pytest.raises(TypeError, match="missing"):
        run.launch(add_kernel, (1,), *tensors)
    with pytest.raises(KeyError, match="no_such_option"):
        run.launch(add_kernel, (1,), *tensors, 7, no_such_option=3)


def test_a_pointer_that_is_no_tensor_is_refused_by_name(run, tensors):
    class Pointer:
        dtype = torch.float32

        def data_ptr(self):
            return 0

    with pytest.raises(UnsupportedError, match="the argument y of type Pointer"):
        run.launch(add_kernel, (1,), tensors[0], Pointer(), tensors[2], 7)


def test_a_tensor_on_another_device_is_refused_by_name(run, tensors):
    with pytest.raises(UsageError, match=r"y\.device='meta'"):
        run.launch(add_kernel, (1,), tensors[0], torch.empty(7, device="meta"), tensors[2], 7)


@triton.jit
def floor_kernel(x, out, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK), 1.0)
    lower = tl.floor(tl.load(x + tl.arange(0, BLOCK)))
    tl.store(out + tl.arange(0, BLOCK), lower)


def test_an_operation_that_is_not_supported_is_refused_before_anything_runs(run, monkeypatch):
    monkeypatch.delitem(RULES, "math.floor")
    x, out = run.place(np.zeros(8, np.float32)), run.empty((8,))
    with pytest.raises(UnsupportedError) as caught:
        run.launch(floor_kernel, (1,), x, out, BLOCK=8)
    location = caught.value.location
    assert caught.value.what == "math.floor"
    assert location.source == "lower = tl.floor(tl.load(x + tl.arange(0, BLOCK)))"
    assert f"test_launch.py:{location.line}:{location.column}" in str(caught.value)
    assert not run.written().any()


def test_tritons_own_entry_is_put_back_even_after_an_error(run):
    original = JITFunction.run
    with run.simulator.intercepting():
        assert JITFunction.run is not original
        with run.simulator.intercepting():
            pass
        assert JITFunction.run is not original
    assert JITFunction.run is original
    with pytest.raises(ZeroDivisionError), run.simulator.intercepting():
        raise ZeroDivisionError
    assert JITFunction.run is original


def test_the_innermost_simulator_gets_the_launch(new_run):
    outer, inner = new_run(), new_run()
    x, y, out = torch.arange(7.0), torch.ones(7), torch.zeros(7)
    with outer.simulator.intercepting():
        add_kernel[(2,)](x, y, out, 7)
        with inner.simulator.intercepting():
            add_kernel[(2,)](x, y, out, 7)
        add_kernel[(2,)](x, y, out, 7)
    assert (outer.simulator.launches, inner.simulator.launches) == (2, 1)


def test_threads_that_overlap_keep_to_their_own_simulators(new_run):
    original, runs = JITFunction.run, [new_run() for _ in range(3)]
    entered, leave = threading.Barrier(3), [threading.Event() for _ in runs]

    def work(place):
        with runs[place].simulator.intercepting():
            entered.wait()
            leave[place].wait()
            for _ in range(place + 1):
                add_kernel[(2,)](torch.arange(7.0), torch.ones(7), torch.zeros(7), 7)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for event, thread in zip(leave, threads):  # the first to enter is not the last to leave
        event.set()
        thread.join()
    assert [run.simulator.launches for run in runs] == [1, 2, 3]
    assert JITFunction.run is original


def test_warming_up_launches_nothing(run, tensors):
    with run.simulator.intercepting():
        add_kernel.warmup(*tensors, 7, grid=(1,))
    assert run.simulator.launches == 0


def test_hooks_before_a_launch_see_its_arguments(run, tensors):
    seen = []

    def hook(*args, **kwargs):
        seen.append((len(args), kwargs["n"]))

    add_kernel.add_pre_run_hook(hook)
    try:
        run.launch(add_kernel, (2,), *tensors, n=7)
    finally:
        add_kernel.pre_run_hooks.remove(hook)
    assert len(seen) == 1
    assert seen[0][1] == 7


@triton.heuristics({"BLOCK": lambda args: triton.next_power_of_2(args["n"])})
@triton.jit
def heuristic_kernel(x, out, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def test_heuristics(run, tensors):
    run.launch(heuristic_kernel, (1,), tensors[0], tensors[2], 7)
    assert tensors[2].tolist() == tensors[0].tolist()


def test_allocations_of_the_simulator_itself_are_not_guarded(run, tensors):
    """A foreign tensor becomes one region, and nothing else does."""
    count = len(run.memory.regions)
    with GuardAllocations(run.memory):
        run.launch(add_kernel, (2,), torch.arange(7.0), tensors[1], tensors[2], 7)
    assert len(run.memory.regions) == count + 1
