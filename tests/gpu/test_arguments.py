"""What torch made and a kernel is given: an access beyond it is found, and the kernel works on it as ever."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from triton.runtime.jit import reinterpret
from triton.tools.tensor_descriptor import TensorDescriptor

from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.loading import load_target
from fp4guard.gpu import examine
from fp4guard.gpu.allocators import TorchAllocator
from fp4guard.gpu.arguments import GuardedArguments
from fp4guard.gpu.memory import DeviceMemory
from fp4guard.memory import ORDINARY, Role

CPU = torch.device("cpu")


def target(name):
    return load_target(f"{Path(__file__).with_name('targets.py')}::{name}")


@pytest.mark.parametrize("n", [1, 16, 63])
def test_access_beyond_it_is_found(examine_here, n):
    adds = target("adds_what_torch_made")
    assert examine_here(adds, n=n, read=0, written=0) == []
    (beyond,) = examine_here(adds, n=n, read=1, written=0)
    assert (beyond.kind, beyond.tensor) == ("poison-dependent", "result")
    (written,) = examine_here(adds, n=n, read=0, written=1)
    assert (written.kind, written.tensor, written.offset) == ("oob-write", "out", n * 4)


def test_launches_share_the_copies(simulated_device):
    counts, case = target("counts_up"), Case({"n": 5, "launches": 40})
    memory = DeviceMemory(case, ORDINARY, {}, TorchAllocator(CPU))
    with GuardedArguments(memory).active():
        counts.function(memory, **case.arguments)
    made = [(region.name, region.role) for region in memory if region.role is not Role.FOREIGN]
    assert made == [("x", Role.INPUT), *((name, Role.SCRATCH) for name in ("parts[0]", "parts[1]", "out"))]


class Kernel:
    arg_names = ("x", "y", "z")

    @staticmethod
    def fn():
        """Its name is all that is asked of it."""


@pytest.fixture
def launch():
    """What a kernel is given in the place of its arguments, while it runs and by parameter."""

    def launch(memory, *args, **kwargs):
        given = []

        def run(kernel, *args, **kwargs):
            given.append((args, kwargs))
            for tensor in filter(lambda value: type(value) is torch.Tensor, args):
                tensor.zero_()

        GuardedArguments(memory).launch(run, Kernel, args, kwargs)
        return given[0]

    return launch


def test_every_sort_of_argument_is_guarded(simulated_device, launch):
    memory = DeviceMemory(Case({}), ORDINARY, {}, TorchAllocator(CPU))
    x = torch.arange(32.0).reshape(4, 8)
    half, bytes_ = x.T[1:, ::2], x.view(torch.uint8)
    descriptor = TensorDescriptor(x, [4, 8], [8, 1], [4, 4])
    (first, (second, number), third), named = launch(
        memory, half, (bytes_, 3), descriptor, z=reinterpret(bytes_, torch.int8), num_warps=4
    )
    region = next(iter(memory))
    for tensor in (first, second, third.base, named["z"].base):
        assert region.address < tensor.data_ptr() < region.address + len(region.storage)
    assert (first.shape, first.stride(), first.dtype) == (half.shape, half.stride(), half.dtype)
    assert first.data_ptr() - second.data_ptr() == half.data_ptr() - x.data_ptr()
    assert (number, named["num_warps"], named["z"].dtype, third.shape) == (3, 4, torch.int8, [4, 8])
    assert bool((half == 0).all()) and x[1].tolist() == list(range(8, 16)), "what is written comes back, and no more"
    assert len(list(memory)) == 1, "they all lie in one storage"


def test_what_is_guarded_already_is_left_where_it_is(simulated_device, launch):
    memory = DeviceMemory(Case({}), ORDINARY, {}, TorchAllocator(CPU))
    given = memory.tensor("x", (4, 4), torch.float32)[1:], torch.empty(0), 5
    args, _ = launch(memory, *given)
    assert all(one is other for one, other in zip(args, given, strict=True))


def test_storage_of_no_whole_number_of_elements_is_copied_whole(simulated_device, launch):
    memory = DeviceMemory(Case({}), ORDINARY, {}, TorchAllocator(CPU))
    whole = torch.arange(11, dtype=torch.uint8)
    (given,), _ = launch(memory, whole[:8].view(torch.float32))
    assert given.shape == (2,)
    assert whole.tolist() == [0] * 8 + [8, 9, 10]


def shares(one, other):
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def test_stream_of_the_target_s_own_is_left_alone(simulated_device, launch, monkeypatch):
    class OnGpu(DeviceMemory):
        device_type = property(lambda self: "cuda", lambda self, value: None)

    x, streams = torch.ones(3), ["first"]
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: streams[-1])
    monkeypatch.setattr(torch.cuda, "default_stream", lambda: "first")
    for own in (False, True):
        args, _ = launch(OnGpu(Case({}), ORDINARY, {}, TorchAllocator(CPU)), x)
        assert shares(args[0], x) == own
        streams.append("mine")


@pytest.fixture
def memory(simulated_device):
    return DeviceMemory(Case({}), ORDINARY, {}, TorchAllocator(CPU))


def test_storages_that_overlap_are_left_alone(memory, launch):
    """What is written to one must be seen in the other."""
    x, apart = torch.arange(32.0), torch.ones(4)
    for part in (torch.from_dlpack(x[8:16]), torch.from_dlpack(x[:4]), torch.from_dlpack(x[28:])):
        for both in ((x, part, apart), (part, x, apart)):
            args, _ = launch(memory, *both)
            assert [shares(given, value) for given, value in zip(args, both)] == [True, True, False]


def test_only_what_a_launch_changes_is_changed(memory):
    """The rest may be another's, who knows the address."""
    x = torch.arange(8)

    def run(kernel, given):
        x[:4] = 70
        given[2:6] = torch.tensor([2, 3, 90, 90])

    GuardedArguments(memory).launch(run, Kernel, (x,), {})
    assert x.tolist() == [70, 70, 70, 70, 90, 90, 6, 7]


def test_copies_have_a_bound(memory, launch, monkeypatch):
    monkeypatch.setattr("fp4guard.gpu.arguments.MOST_BYTES", 64)
    x, y = torch.ones(12), torch.ones(12)
    args, _ = launch(memory, x, y)
    assert (shares(args[0], x), shares(args[1], y)) == (False, True)


def test_each_kernel_and_parameter_and_type_and_size_has_a_copy(memory):
    arguments = GuardedArguments(memory)
    asked = [
        ("one", "x", 8, torch.uint8), ("two", "x", 8, torch.uint8), ("one", "y", 8, torch.uint8),
        ("one", "x", 16, torch.uint8), ("one", "x", 8, torch.float32),
    ]  # fmt: skip
    copies = [arguments._copy(*one) for one in asked]
    assert len({copy.data_ptr() for copy in copies}) == len(asked)
    assert [arguments._copy(*one).data_ptr() for one in asked] == [copy.data_ptr() for copy in copies]
    assert [region.dtype for region in memory] == [dtype for *_, dtype in asked], "whose poison is around it"


class Pair(NamedTuple):
    first: torch.Tensor
    second: int


class Wrapped(torch.Tensor):
    """A tensor that answers for itself."""


def test_tuples_with_names_and_more_arguments_than_names(memory, launch):
    x, more, wrapped = torch.ones(3), torch.ones(5), torch.ones(2).as_subclass(Wrapped)
    (pair, same, _, beyond, last), _ = launch(memory, Pair(x, 4), wrapped, 1, more, more[1:])
    assert type(pair) is Pair and pair.second == 4 and not shares(pair.first, x)
    assert same is wrapped
    assert not shares(beyond, more) and shares(beyond, last)


def test_tensor_elsewhere_is_left_alone(memory, launch):
    far = torch.ones(3, device="meta")
    (given,), _ = launch(memory, far)
    assert given is far


def test_what_a_target_keeps_is_its_own_in_every_case(examine_here):
    """Memory of one case is not given again while something lies in it."""
    keeps = target("keeps_a_table")
    for n in (5, 9, 5):
        assert examine_here(keeps, n=n) == []


def test_line_that_launches_is_the_target_s(simulated_device):
    """Which the journal of a worker names."""
    said = []
    token = examine._announce.set(lambda kernel, line: said.append((kernel, line)))
    try:
        with examine._LAUNCHES.installed():
            examination = examine.Examination(
                target("adds_what_torch_made"), Case({"n": 3, "read": 0, "written": 0}), CPU, TorchAllocator(CPU)
            )
            assert examination.findings() == []
    finally:
        examine._announce.reset(token)
    assert {kernel for kernel, _ in said} == {"add_parts_kernel"}
    assert {Path(line).name.split(":")[0] for _, line in said} == {"targets.py"}
