import pytest
import torch

import fp4guard as fg
from fp4guard.errors import UsageError
from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.setting import Setting
from fp4guard.gpu.allocators import TorchAllocator
from fp4guard.gpu.device import count, current_gpu, resolve
from fp4guard.gpu.guard_pages import _class
from fp4guard.gpu.memory import MOST_BYTES, DeviceMemory
from fp4guard.isolation import settled
from fp4guard.memory import ORDINARY, Role


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_without_a_gpu_everything_runs_in_the_simulator(no_gpu):
    assert (resolve("sim"), resolve("auto"), count()) == ("sim", "sim", 0)
    for name in ("cuda", "hip"):
        with pytest.raises(UsageError, match=f"device='{name}': no GPU is here; allowed are sim and auto"):
            resolve(name)
    with pytest.raises(UsageError, match="no GPU is here"):
        current_gpu()


@pytest.mark.parametrize(("version", "there", "other"), [(None, "cuda", "hip"), ("7.1", "hip", "cuda")])
def test_the_gpu_that_is_there_is_picked(two_gpus, monkeypatch, version, there, other):
    monkeypatch.setattr(torch.version, "hip", version)
    assert (resolve("sim"), resolve("auto"), resolve(there), count()) == ("sim", there, there, 2)
    with pytest.raises(UsageError, match=f"device='{other}': the GPU here is for '{there}'; allowed are .* {there}"):
        resolve(other)


def test_unknown_device_is_refused():
    with pytest.raises(UsageError, match="device='tpu': allowed are sim, cuda, hip, auto"):
        resolve("tpu")
    with pytest.raises(UsageError, match="device='tpu'"):
        fg.examine("kernels.gemm_afp4wfp4::gemm_afp4wfp4", device="tpu", m=1, n=1, k=32, config="BM32_BN32_BK128",
                   dtype="bf16")  # fmt: skip


def test_guard_pages_are_for_cuda_alone(no_gpu):
    with pytest.raises(UsageError, match="guard_pages=True: allowed on device 'cuda' alone, and this is 'sim'"):
        settled(Setting("auto", guard_pages=True))


def test_guard_pages_come_in_few_sizes():
    """Or every size would have mappings of its own, which are kept."""
    assert [_class(granules) for granules in (1, 2, 3, 5, 300, 512)] == [1, 2, 4, 8, 512, 512]
    assert [_class(granules) for granules in (513, 576, 700, 961, 1020)] == [576, 576, 704, 1020, 1020]
    assert _class(1020) * (2 << 20) == MOST_BYTES, "more is beyond 32-bit offsets"


def test_red_zone_is_as_wide_as_a_row_within_limits(simulated_device):
    memory = DeviceMemory(Case({}), ORDINARY, {}, TorchAllocator(torch.device("cpu")))
    wide = {}
    for columns in (1, 10_000, 1_000_000):
        region = memory._make("x", Role.SCRATCH, (2, columns), torch.uint8, (columns, 1), 0)
        wide[columns] = region.base
    assert wide == {1: 4096, 10_000: 10_240, 1_000_000: 65_536}
