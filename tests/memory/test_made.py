"""Tensors of torch's own that kernels are given by their addresses alone."""

import torch

from fp4guard.memory import ALL_ONES, GuardAllocations, Memory, Role
from fp4guard.memory.made import Made


def test_an_address_anywhere_in_a_storage_is_known_while_it_lives():
    known = Made()
    x = torch.zeros(10, dtype=torch.int16)
    known.note(x[4:])
    start = x.data_ptr()
    for offset in (0, 1, 8, 19):
        assert known.holding(start + offset).data_ptr() == start
    assert known.holding(start - 1) is None
    assert known.holding(start + 20) is None
    del x
    assert known.holding(start) is None


def test_what_is_gone_does_not_pile_up():
    known, kept = Made(), []
    for n in range(10_000):
        kept.append(torch.zeros(1 + n % 3))
        known.note(kept[-1])
        del kept[:-10]
    assert len(known._storages) < 4000
    assert all(known.holding(x.data_ptr()) is not None for x in kept)


def test_what_torch_computes_is_known_by_its_address():
    memory = Memory(ALL_ONES)
    x = memory.place("x", Role.INPUT, torch.arange(4.0)).tensor
    with GuardAllocations(memory):
        doubled, rest = x * 2, (x + 1).data_ptr()
    region = memory.pointed_to(doubled[2:].data_ptr())
    assert region.role is Role.FOREIGN
    assert region.address == doubled.data_ptr()
    assert memory.pointed_to(x.data_ptr()).name == "x"
    assert memory.region_of(doubled, "?") is region
    assert memory.pointed_to(rest) is None


def test_no_address_is_a_lent_tensor_s_that_is_gone():
    memory = Memory(ALL_ONES)
    with GuardAllocations(memory):
        kept, gone = torch.empty(4), torch.empty(4).data_ptr()
    assert memory.pointed_to(kept.data_ptr()).role is Role.SCRATCH
    assert memory.pointed_to(gone) is None
    assert len(memory.regions) == 2  # its memory is kept, so that nothing else comes to lie there
