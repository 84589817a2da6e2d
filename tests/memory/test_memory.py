"""The allocator: names, addresses, and which tensor belongs to which region."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard import UsageError
from fp4guard.memory import ALL_ONES, CONTIGUOUS, Layout, Memory, Role
from fp4guard.memory.memory import MOST_REGIONS


@pytest.fixture
def memory():
    return Memory(ALL_ONES)


def test_names_are_unique(memory):
    regions = [memory.empty("x", Role.SCRATCH, (2,), torch.int8) for _ in range(3)]
    regions.append(memory.empty("x#2", Role.SCRATCH, (2,), torch.int8))
    assert [region.name for region in regions] == ["x", "x#2", "x#3", "x#2#2"]
    assert memory.named("x#3") is regions[2]
    assert list(memory) == regions
    with pytest.raises(KeyError, match="nowhere"):
        memory.named("nowhere")


def test_placed_values_are_copied(memory):
    values = torch.arange(6.0).reshape(2, 3)
    region = memory.place("x", Role.INPUT, values, Layout("gap", row_gap=2))
    values.zero_()
    assert region.tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert region.sealed
    assert not region.uninitialised().any()


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8))
def test_an_address_is_found_from_its_first_byte_to_its_last(sizes):
    memory = Memory(ALL_ONES)
    for size in sizes:
        memory.empty("x", Role.SCRATCH, (size,), torch.uint8)
    kept = [torch.zeros(size, dtype=torch.uint8) for size in sizes]
    for tensor in kept:
        memory.region_of(tensor, "foreign")
    for region in memory:
        if not len(region.storage):
            continue
        for address in (region.address, region.address + len(region.storage) - 1):
            assert memory.find(address) is region
        outside = memory.find(region.address + len(region.storage))
        assert outside is None or outside is not region
    assert memory.find(0) is None
    assert memory.find(2**63) is None


def test_views_belong_to_the_region_of_their_storage(memory):
    region = memory.empty("x", Role.SCRATCH, (4, 6), torch.int16, CONTIGUOUS)
    tensor = region.tensor
    views = [tensor[1:], tensor.t(), tensor[2, 3], tensor[4:], tensor.view(torch.uint8), tensor.expand(2, 4, 6)]
    assert all(memory.region_of(view, "v") is region for view in views)
    assert len(memory.regions) == 1


def test_a_foreign_tensor_gets_one_region(memory):
    tensor = torch.zeros(4, 6)
    region = memory.region_of(tensor[2], "bias")
    assert (region.name, region.role) == ("bias", Role.FOREIGN)
    assert memory.region_of(tensor.t(), "other") is region
    assert memory.region_of(torch.zeros(3), "bias").name == "bias#2"


def test_tensors_of_no_elements_disturb_no_other(memory):
    full = memory.empty("x", Role.SCRATCH, (4,), torch.float32)
    none = memory.empty("none", Role.SCRATCH, (0, 4), torch.float32)
    foreign = torch.zeros(0)
    for _ in range(2):
        assert memory.region_of(foreign, "foreign").role is Role.FOREIGN
        assert memory.region_of(none.tensor, "v") is none
        assert memory.region_of(full.tensor, "v") is full
    memory.note_host_write(foreign)
    memory.note_host_write(none.tensor)
    assert full.uninitialised().all()


def test_a_foreign_tensor_stays_alive_while_its_region_does(memory):
    for i in range(50):
        region = memory.region_of(torch.full((64,), i, dtype=torch.int32), "t")
        assert region.storage[0] == i
    assert len({region.address for region in memory}) == 50


def test_other_devices_are_refused(memory):
    with pytest.raises(UsageError, match=r"out\.device='meta': the simulator takes tensors on 'cpu' only"):
        memory.region_of(torch.empty(3, device="meta"), "out")


def test_a_write_of_the_host_initialises_what_it_writes(memory):
    region = memory.empty("x", Role.SCRATCH, (4, 6), torch.int16, Layout("gap", row_gap=2))
    memory.note_host_write(region.tensor[1:3, ::2])
    expected = torch.ones(4, 6, dtype=torch.bool)
    expected[1:3, ::2] = False
    assert region.uninitialised().tolist() == expected.tolist()
    assert not region.shadow[: region.first].any()
    memory.note_host_write(torch.zeros(3))


def test_a_forgetful_memory_keeps_a_region_while_its_tensor_lives():
    memory = Memory(ALL_ONES, forgetful=True)

    def lent(name):
        return memory.lend(memory.empty(name, Role.SCRATCH, (8,), torch.uint8))

    kept, part = lent("kept"), lent("viewed")[2:4]
    for _ in range(1000):
        lent("dead")
    assert len(memory.regions) < 600
    assert memory.region_of(kept, "?").name == "kept"
    assert memory.region_of(part, "?").name == "viewed"
    assert [memory.numbered(region.number) for region in memory] == memory.regions
    assert {region.name for region in memory} == {"kept", "viewed", "dead"}
    dead = memory.region_of(lent("dead"), "?").address
    assert memory.find(dead) is None
    with pytest.raises(KeyError):
        memory.named("dead")


def test_a_forgetful_memory_is_not_full_of_what_is_dead():
    memory = Memory(ALL_ONES, forgetful=True)
    for _ in range(MOST_REGIONS + 100):
        memory.lend(memory.empty("x", Role.SCRATCH, (1,), torch.uint8))


def test_a_forgetful_memory_tells_a_foreign_tensor_from_what_lay_there_before():
    memory = Memory(ALL_ONES, forgetful=True)
    tensor = torch.zeros(4)
    before = memory.region_of(tensor, "before")
    assert memory.region_of(tensor[1:], "?") is before
    tensor.resize_(1 << 16)
    after = memory.region_of(tensor, "after")
    assert after is not before and after.shape == (1 << 16,)
    del tensor
    assert memory.find(after.address) is None
