import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from torch.utils._python_dispatch import _disable_current_modes

import fp4guard as fg
from fp4guard.gpu.memory import DeviceMemory
from fp4guard.gpu.region import DeviceRegion
from fp4guard.memory import ORDINARY, Memory
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch

# A test is not wrong for being slow on a busy machine.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

pytest_plugins = ["pytester"]


@pytest.fixture
def only_finding():
    """Examine a case that must give exactly one finding, and return it."""

    def examine(target, **arguments):
        report = fg.examine(target, **arguments)
        assert len(report.findings) == 1, report.findings
        return report.findings[0]

    return examine


@pytest.fixture
def line_of(request):
    """The line of the test's own file that holds a text, from 1."""

    def find(text):
        lines = request.path.read_text().splitlines()
        (number,) = [number for number, line in enumerate(lines, 1) if line.strip().endswith(text)]
        return number

    return find


@pytest.fixture
def run_python():
    """Run Python in a process of its own."""

    def run(*arguments, cwd, **options):
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, **options)

    return run


@pytest.fixture
def run_fp4guard(run_python):
    """Run the command line in a process of its own."""

    def run(*arguments, cwd):
        return run_python("-m", "fp4guard.cli", *arguments, cwd=cwd)

    return run


@pytest.fixture
def project_root():
    return Path(__file__).parent.parent


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

    renew = DeviceMemory.renew_patterns

    def known_renew(regions):
        renew(regions)
        with _disable_current_modes():
            for region in regions:
                if isinstance(region, DeviceRegion):
                    for tensor in (region.buffer, region.held):
                        memory.region_of(tensor, "device memory")

    monkeypatch.setattr(DeviceRegion, "fill", known_fill)
    monkeypatch.setattr(DeviceMemory, "renew_patterns", known_renew)
    simulator = Simulator(memory, parse_arch("sm_90"))
    with simulator.intercepting():
        yield simulator
