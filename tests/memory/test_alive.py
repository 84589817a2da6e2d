"""Tensors of torch's own that kernels are given by their addresses alone."""

import numpy as np
import pytest
import torch

from fp4guard.memory import ALL_ONES, GuardAllocations, Memory, Role
from fp4guard.memory.alive import storages_at

PARAMETER = torch.nn.Parameter(torch.ones(5))


@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.zeros(10, dtype=torch.int16) + 1,
        lambda: torch.tensor([1.0, 2.0]),
        lambda: torch.from_numpy(np.ones(4)),
        lambda: (torch.ones(4, 4) * 2)[1:, 1],
        lambda: torch.ones(1).resize_(1 << 10),
        lambda: PARAMETER,
    ],
)
def test_an_address_anywhere_in_a_storage_is_found(made):
    tensor = made()
    start, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
    for address in (start, start + size // 2, start + size - 1, tensor.data_ptr()):
        (storage,) = storages_at([address])
        assert storage.data_ptr() == start
    assert all(start + size != storage.data_ptr() + storage.nbytes() for storage in storages_at([start + size]))


def test_an_address_is_not_found_when_no_tensor_is_left_there():
    whole = torch.ones(1 << 18)
    start, part = whole.data_ptr(), whole[7:]
    del whole
    assert [storage.data_ptr() for storage in storages_at([start, start + 4])] == [start]
    del part
    assert storages_at([start]) == []


def test_tensors_without_a_storage_are_passed_over():
    sparse, meta = torch.eye(3).to_sparse(), torch.ones(3, device="meta")
    assert storages_at([0]) == []
    assert sparse.layout is torch.sparse_coo and meta.is_meta


def test_what_torch_computes_is_known_by_its_address():
    memory = Memory(ALL_ONES)
    x = memory.place("x", Role.INPUT, torch.arange(4.0)).tensor
    with GuardAllocations(memory):
        doubled, gone = x * 2, (x.expand(1 << 18, 4) + 1).data_ptr()
    (region, again, guarded, nothing) = memory.pointed_to(
        [doubled.data_ptr(), doubled[2:].data_ptr(), x.data_ptr(), gone]
    )
    assert region.role is Role.FOREIGN
    assert region.address == doubled.data_ptr()
    assert again is region
    assert guarded.name == "x"
    assert memory.region_of(doubled, "?") is region
    assert nothing is None


def test_no_address_is_a_lent_tensor_s_that_is_gone():
    memory = Memory(ALL_ONES)
    with GuardAllocations(memory):
        kept, gone = torch.empty(4), torch.empty(4).data_ptr()
    there, nothing = memory.pointed_to([kept.data_ptr(), gone])
    assert there.role is Role.SCRATCH
    assert nothing is None
    assert len(memory.regions) == 2  # its memory is kept, so that nothing else comes to lie there


def test_a_snapshot_holds_what_is_taken_in_after_it():
    memory = Memory(ALL_ONES)
    tensor = torch.arange(4.0) + 1
    snapshot = memory.snapshot()
    (region,) = memory.pointed_to([tensor.data_ptr()])
    region.storage[:] = 0
    memory.restore(snapshot)
    assert tensor.tolist() == [1, 2, 3, 4]
