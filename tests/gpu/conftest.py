"""The GPU's way of examining a case, with no GPU: torch's CPU is the device, and the simulator runs every launch."""

import pytest
import torch

from fp4guard.fuzzing.case import Case
from fp4guard.gpu.allocators import TorchAllocator
from fp4guard.gpu.examine import Examination

DEVICE = torch.device("cpu")


@pytest.fixture
def examine_here(simulated_device):
    """Findings of a case of a target."""

    def examine(target, seed=0, regime="exact", layout=0, **arguments):
        case = Case({name: arguments[name] for name in target.recipes}, seed, regime, layout)
        examination = Examination(target, case, DEVICE, TorchAllocator(DEVICE))
        findings = examination.findings()
        assert examination.usable
        return findings

    return examine
