"""The GPU's way of examining a case, with no GPU: torch's CPU is the device, and the simulator runs every launch."""

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from fp4guard.fuzzing.case import Case
from fp4guard.gpu.allocators import Arena
from fp4guard.gpu.examine import Examination
from fp4guard.gpu.region import DeviceRegion
from fp4guard.memory import ORDINARY, Memory
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch

DEVICE = torch.device("cpu")


@pytest.fixture
def simulated_device(monkeypatch):
    """While active, launches run in a simulator that knows the memory of regions by its machine addresses."""
    memory = Memory(ORDINARY)
    fill = DeviceRegion.fill

    def known_fill(region, poison):
        with _disable_current_modes():
            for tensor in (region.buffer, region.given, region.held):
                if tensor is not None and tensor.numel():
                    memory.region_of(tensor, "device memory")
            fill(region, poison)

    monkeypatch.setattr(DeviceRegion, "fill", known_fill)
    simulator = Simulator(memory, parse_arch("sm_90"))
    with simulator.intercepting():
        yield simulator


@pytest.fixture
def examine_here(simulated_device):
    """Findings of a case of a target."""

    def examine(target, seed=0, regime="exact", layout=0, **arguments):
        case = Case({name: arguments[name] for name in target.recipes}, seed, regime, layout)
        examination = Examination(target, case, DEVICE, (Arena(DEVICE), Arena(DEVICE)))
        findings = examination.findings()
        assert examination.usable
        return findings

    return examine
