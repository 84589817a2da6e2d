"""The memory of a case on a GPU: which layouts its tensors take, and how often they are filled."""

import pytest
import torch

from fp4guard.errors import UnsupportedError
from fp4guard.fuzzing.case import Case
from fp4guard.gpu.allocators import TorchAllocator
from fp4guard.gpu.memory import DeviceMemory
from fp4guard.gpu.region import DeviceRegion
from fp4guard.memory import ORDINARY
from fp4guard.memory.layouts import (
    CONTIGUOUS,
    HUGE_PLANES,
    HUGE_ROWS,
    ODD_ROWS,
    PADDED_PLANES,
    PADDED_ROWS,
    STRIDED,
    WIDE,
)

CPU = torch.device("cpu")


def memory(layout=0):
    return DeviceMemory(Case({}, layout=layout), ORDINARY, {}, TorchAllocator(CPU))


def taken(layouts, number):
    """The layout that a tensor takes on a GPU, and the one that it takes in the simulator."""
    here = memory(number)
    return here._layout("x", layouts), super(DeviceMemory, here)._layout("x", layouts)


def test_layouts_are_the_simulator_s_but_for_those_of_far_parts():
    pairs = {taken(WIDE, number) for number in range(200)}
    assert {(one, one) for one in STRIDED} | {(PADDED_PLANES, HUGE_PLANES)} == pairs
    assert {taken((HUGE_ROWS, CONTIGUOUS, PADDED_ROWS, ODD_ROWS), 0)} == {(PADDED_ROWS, HUGE_ROWS)}


def test_far_parts_without_a_choice_are_refused(simulated_device):
    with pytest.raises(UnsupportedError, match=r"`x`.* in guarded memory on a GPU"):
        memory(1).tensor("x", (2, 4, 4), torch.float32, (HUGE_ROWS,))


def test_input_is_filled_once(simulated_device, monkeypatch):
    """What is undefined in it included."""
    filled = []
    fill = DeviceRegion.fill
    monkeypatch.setattr(DeviceRegion, "fill", lambda region, poison: (filled.append(region.name), fill(region, poison)))
    undefined = torch.arange(12).reshape(3, 4) % 4 == 3
    x = memory().input("x", torch.ones(3, 4), undefined=undefined)
    assert filled == ["x"]
    assert bool((x[~undefined] == 1).all()) and not bool((x[undefined] == 1).any())
