"""Tensors of torch's own that kernels are given by their addresses alone."""

import numpy as np
import pytest
import torch

from fp4guard.memory import ALL_ONES, GuardAllocations, Memory, Role
from fp4guard.memory.alive import Storages


class Weight(torch.nn.Parameter):
    """As frameworks make their own."""


PARAMETER, WEIGHT = torch.nn.Parameter(torch.ones(5)), Weight(torch.ones(5))


@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.zeros(10, dtype=torch.int16) + 1,
        lambda: torch.tensor([1.0, 2.0]),
        lambda: torch.from_numpy(np.ones(4)),
        lambda: (torch.ones(4, 4) * 2)[1:, 1],
        lambda: torch.ones(1).resize_(1 << 10),
        lambda: PARAMETER,
        lambda: WEIGHT,
    ],
)
def test_an_address_anywhere_in_a_storage_is_found(made):
    tensor = made()
    start, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
    alive = Storages()
    for address in (start, start + size // 2, start + size - 1, tensor.data_ptr()):
        assert alive.holding(address).data_ptr() == start
    behind = alive.holding(start + size)
    assert behind is None or behind.data_ptr() != start


def test_an_address_is_not_found_when_no_tensor_is_left_there():
    whole = torch.ones(1 << 18)
    start, part = whole.data_ptr(), whole[7:]
    del whole
    assert Storages().holding(start).data_ptr() == start
    del part
    assert Storages().holding(start) is None


def test_of_two_that_share_memory_the_larger_is_found():
    array = np.arange(40.0)
    inner, outer, first = torch.from_numpy(array[4:8]), torch.from_numpy(array), torch.from_numpy(array[:2])
    alive = Storages()
    for place in (0, 5, 39):
        assert alive.holding(outer[place:].data_ptr()).nbytes() == array.nbytes
    assert inner.numel() + first.numel() == 6


def test_tensors_without_a_storage_are_passed_over():
    sparse, meta = torch.eye(3).to_sparse(), torch.ones(3, device="meta")
    assert Storages().holding(1 << 20) is None
    assert sparse.layout is torch.sparse_coo and meta.is_meta


def test_small_numbers_are_no_addresses(monkeypatch):
    monkeypatch.setattr("gc.get_objects", lambda: 1 / 0)
    assert Storages().holding(0x1234) is None


def test_what_torch_computes_is_known_by_its_address():
    memory = Memory(ALL_ONES)
    x = memory.place("x", Role.INPUT, torch.arange(4.0)).tensor
    with GuardAllocations(memory):
        doubled, gone = x * 2, (x.expand(1 << 18, 4) + 1).data_ptr()
    alive = Storages()
    region = memory.pointed_to(doubled.data_ptr(), alive)
    assert region.role is Role.FOREIGN
    assert region.address == doubled.data_ptr()
    assert memory.pointed_to(doubled[2:].data_ptr(), alive) is region
    assert memory.pointed_to(x.data_ptr(), alive).name == "x"
    assert memory.region_of(doubled, "?") is region
    assert memory.pointed_to(gone, alive) is None


def test_no_address_is_a_lent_tensor_s_that_is_gone():
    memory = Memory(ALL_ONES)
    with GuardAllocations(memory):
        kept, gone = torch.empty(4), torch.empty(4).data_ptr()
    assert memory.pointed_to(kept.data_ptr(), Storages()).role is Role.SCRATCH
    assert memory.pointed_to(gone, Storages()) is None
    assert len(memory.regions) == 2  # its memory is kept, so that nothing else comes to lie there


@pytest.mark.parametrize(
    "take", [lambda m, t: m.pointed_to(t.data_ptr(), Storages()), lambda m, t: m.region_of(t, "?")]
)
def test_a_snapshot_holds_what_is_taken_in_after_it(take):
    memory = Memory(ALL_ONES)
    tensor = torch.arange(4.0) + 1
    snapshot = memory.snapshot()
    take(memory, tensor).storage[:] = 0
    memory.restore(snapshot)
    assert tensor.tolist() == [1, 2, 3, 4]


def test_a_snapshot_leaves_what_is_gone_alone():
    memory = Memory(ALL_ONES, forgetful=True)
    tensor, other = torch.ones(1 << 20), torch.zeros(1 << 20)
    region = memory.region_of(tensor, "x")
    memory.region_of(other, "y")
    snapshot = memory.snapshot()
    assert [held.name for held, *_ in snapshot] == ["x", "y"]
    del tensor  # its pages go back to the system
    assert region.expired
    memory.restore(snapshot)
    assert [held.name for held, *_ in memory.snapshot()] == ["y"]
