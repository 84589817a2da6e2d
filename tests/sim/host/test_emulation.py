"""What torch.cuda and Triton's driver say of an emulated GPU, and that nothing of it is left."""

from __future__ import annotations

import threading

import pytest
import torch
import torch._dynamo
import torch.cuda.nvtx
import triton.testing
from triton.runtime.driver import DriverConfig, driver

from fp4guard import UnsupportedError
from fp4guard.sim.host import Emulation, current
from fp4guard.sim.host.cards import card_of
from fp4guard.ttir import ARCHES, parse_arch


def emulated(arch="sm_90"):
    return Emulation(parse_arch(arch)).active()


@pytest.mark.parametrize("arch", ARCHES)
def test_answers_agree_with_each_other(arch):
    target = parse_arch(arch).target
    with emulated(arch):
        assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.cuda.current_device() == 0
        properties = torch.cuda.get_device_properties(torch.device("cuda"))
        triton_properties = driver.active.utils.get_device_properties(0)
        assert properties.multi_processor_count == triton_properties["multiprocessor_count"] > 0
        assert properties.shared_memory_per_block_optin == triton_properties["max_shared_mem"]
        assert properties.warp_size == triton_properties["warpSize"] == target.warp_size
        assert (properties.major, properties.minor) == torch.cuda.get_device_capability(0)
        assert properties.name == torch.cuda.get_device_name("cuda:0")
        assert driver.active.get_current_target() == target
        assert driver.active.get_active_torch_device() == torch.device("cuda", 0)
        assert (torch.version.hip is None) == (target.backend == "cuda")
        assert (torch.version.cuda is None) == (target.backend == "hip")
        assert hasattr(properties, "gcnArchName") == (target.backend == "hip")


@pytest.mark.parametrize(
    ("arch", "capability"),
    [("sm_90", (9, 0)), ("sm_103", (10, 3)), ("sm_121", (12, 1)), ("gfx950", (9, 5)), ("gfx1201", (12, 0)),
     ("gfx90a", (9, 0)), ("gfx1100", (11, 0))],
)  # fmt: skip
def test_capabilities(arch, capability):
    card = card_of(parse_arch(arch))
    assert card.capability == capability
    assert card.warp == parse_arch(arch).target.warp_size


def test_guards_streams_and_events():
    with emulated(), torch.cuda.device(0), torch.cuda.device_of(torch.ones(2, device="cuda")):
        usual, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        assert isinstance(stream, torch.cuda.Stream) and usual.cuda_stream == 0
        stream.wait_stream(usual)
        with torch.cuda.stream(stream):
            assert torch.cuda.current_stream() == stream
            assert driver.active.get_current_stream(0) == stream.cuda_stream
        assert torch.cuda.current_stream() == usual
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        end.record(stream)
        torch.cuda.synchronize()
        assert start.elapsed_time(end) > 0 and end.query()
        with torch.cuda.nvtx.range("part"):
            torch.cuda.nvtx.mark("here")
        torch.cuda.set_device("cuda:0")
        with pytest.raises(AssertionError, match="allowed are 0, 'cuda' and 'cuda:0'"):
            torch.cuda.set_device("cpu")
        assert torch.cuda.mem_get_info()[0] > torch.cuda.memory_allocated() == 0


def test_random_numbers_are_seeded():
    with emulated():
        drawn = []
        for _ in range(2):
            torch.cuda.manual_seed_all(3)
            generator = torch.Generator(device="cuda")
            assert isinstance(generator, torch.Generator) and generator.device.type == "cuda"
            generator.manual_seed(5)
            drawn.append([torch.rand(3, device="cuda").tolist(), torch.rand(3, generator=generator).tolist()])
        assert drawn[0] == drawn[1]
        state = torch.cuda.get_rng_state()
        first = torch.rand(2, device="cuda")
        torch.cuda.set_rng_state(state)
        assert torch.equal(first, torch.rand(2, device="cuda"))


def test_what_is_timed_runs_once():
    calls = []
    with emulated():
        assert triton.testing.do_bench(lambda: calls.append(1)) > 0
        assert len(triton.testing.do_bench(lambda: calls.append(1), quantiles=[0.5, 0.2, 0.8])) == 3
        assert len(triton.testing.do_bench_cudagraph(lambda: calls.append(1), return_mode="all")) == 1
    assert len(calls) == 3


def test_code_is_not_compiled_by_torch():
    with emulated():
        assert torch.compile(len) is len
        assert torch.compile(fullgraph=True)(len) is len


@pytest.mark.parametrize(
    "use", [lambda: torch.cuda.CUDAGraph(), lambda: driver.active.launcher_cls, lambda: driver.active.utils.load_binary]
)
def test_what_needs_a_gpu_is_refused_by_name(use):
    with emulated(), pytest.raises(UnsupportedError, match="there is no GPU"):
        use()


def test_a_driver_that_host_code_sets_is_its_own_affair():
    mine = object()
    with emulated():
        driver.set_active(mine)
        assert driver.active is mine
        driver.reset_active()
        assert driver.active.get_current_device() == 0


MODULES = (torch, torch.cuda, torch.version, torch.autograd, torch.cuda.nvtx, triton.testing, DriverConfig)


def everything():
    return [(module, dict(vars(module)), type(module)) for module in MODULES]


@pytest.mark.parametrize("raised", [None, ValueError, KeyboardInterrupt])
def test_nothing_is_left_behind(raised):
    before = everything()
    try:
        with emulated(), emulated("gfx950"):
            torch.set_default_device("cuda")
            assert current() is not None
            if raised is not None:
                raise raised
    except BaseException as error:
        assert type(error) is raised
    for (module, names, kind), (_, now, kind_now) in zip(before, everything()):
        changed = [name for name in names.keys() | now.keys() if names.get(name) is not now.get(name)]
        assert (changed, kind) == ([], kind_now), module
    assert current() is None
    assert torch.get_default_device().type == "cpu"
    assert torch.ones(2).device.type == "cpu"


def test_other_threads_are_told_the_truth():
    truth = torch.cuda.is_available(), torch.version.cuda, torch.cuda.device_count()
    seen, within, leave = [], threading.Event(), threading.Event()

    def look():
        within.wait(10)
        seen.append((torch.cuda.is_available(), torch.version.cuda, torch.cuda.device_count()))
        seen.append(torch.ones(2).is_cuda)
        leave.set()

    thread = threading.Thread(target=look)
    thread.start()
    with emulated():
        within.set()
        leave.wait(10)
        assert torch.cuda.device_count() == 1
    thread.join()
    assert seen == [truth, False]


def test_threads_overlap():
    """The one that leaves first takes nothing from the other, and the last puts everything back."""
    first, second = emulated(), emulated("gfx950")
    done = threading.Event()
    seen = []

    def run():
        with second:
            done.wait(10)
            seen.append(torch.cuda.get_device_capability())

    before = everything()
    thread = threading.Thread(target=run)
    with first:
        thread.start()
        seen.append(torch.cuda.get_device_capability())
    done.set()
    thread.join()
    assert seen == [(9, 0), (9, 5)]
    assert [names for _, names, _ in everything()] == [names for _, names, _ in before]
