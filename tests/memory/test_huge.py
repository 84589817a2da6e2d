"""Buffers whose strides span gigabytes, as int32 overflow needs them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from fp4guard.memory import ALL_ONES, Memory, Role
from fp4guard.memory.layouts import WIDE, Layout
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch

#: Row 2 starts beyond 2^31 elements.
HUGE_ROWS = Layout("huge rows", row_gap=1 << 30)


@triton.jit
def fill_rows_kernel(x, stride, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if WIDE:
        row = row.to(tl.int64)
    tl.store(x + row * stride + tl.arange(0, BLOCK), 1.0)


def resident():
    """KiB of memory in use."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.fixture
def region():
    return Memory(ALL_ONES).empty("x", Role.OUTPUT, (3, 16), torch.bfloat16, HUGE_ROWS)


def test_only_what_is_touched_takes_memory(region):
    before = resident()
    assert len(region.storage) > 2**32
    assert region.holds(ALL_ONES).all()
    assert not len(region.disturbed(ALL_ONES))
    region.seal()
    assert resident() - before < 64 * 1024


@pytest.mark.parametrize("place", [0, 255, -1])
def test_a_disturbed_end_is_seen(region, place):
    region.storage[place] = 1
    assert region.disturbed(ALL_ONES).tolist() == [place % len(region.storage)]


@pytest.mark.parametrize(("wide", "kinds"), [(True, set()), (False, {"int-overflow"})])
def test_rows_beyond_32_bits(wide, kinds):
    memory = Memory(ALL_ONES)
    region = memory.empty("x", Role.OUTPUT, (3, 16), torch.bfloat16, HUGE_ROWS)
    simulator = Simulator(memory, parse_arch("sm_90"))
    with simulator.intercepting():
        fill_rows_kernel[(3,)](region.tensor, region.strides[0], wide, 16)
    assert {incident.kind for incident in simulator.trace.incidents.values()} == kinds
    written = ~region.uninitialised().any(axis=1)
    assert written.tolist() == ([True, True, True] if wide else [True, True, False])
    assert np.isfinite(region.tensor[:2].float().numpy()).all()


def test_a_launch_costs_a_page_a_row():
    memory = Memory(ALL_ONES)
    region = memory.empty("x", Role.OUTPUT, (300, 16), torch.bfloat16, WIDE[-1])
    simulator = Simulator(memory, parse_arch("sm_90"))
    with simulator.intercepting():
        fill_rows_kernel[(3,)](region.tensor, region.strides[0], True, 16)
        before = resident()
        fill_rows_kernel[(300,)](region.tensor, region.strides[0], True, 16)
    assert region.strides[0] * 299 >= 2**31
    assert not region.uninitialised().any()
    assert not region.holds(ALL_ONES).any()
    assert resident() - before < 64 * 1024


def test_a_snapshot_takes_no_memory_for_what_lies_between_rows():
    memory = Memory(ALL_ONES)
    region = memory.empty("x", Role.OUTPUT, (3, 16), torch.bfloat16, HUGE_ROWS)
    region.tensor.fill_(1)
    region.seal()
    before = resident()
    saved = memory.snapshot()
    region.tensor.fill_(2)
    region.forget(np.ones((3, 16), bool), ALL_ONES)
    memory.restore(saved)
    assert (region.tensor == 1).all()
    assert not region.uninitialised().any()
    assert resident() - before < 64 * 1024
