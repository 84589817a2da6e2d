from itertools import pairwise

import pytest
import torch

from fp4guard.errors import UnsupportedError
from fp4guard.gpu import guard_pages
from fp4guard.gpu.allocators import TorchAllocator
from fp4guard.gpu.region import _merged

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("shape", "strides", "sizes", "steps"),
    [
        ((), (), [1], [4]),
        ((3, 5), (5, 1), [15], [4]),
        ((3, 5), (8, 1), [3, 5], [32, 4]),
        ((3, 5), (1, 3), [15], [4]),
        ((2, 3, 5), (15, 5, 1), [30], [4]),
        ((2, 3, 5), (40, 8, 1), [2, 3, 5], [160, 32, 4]),
        ((7, 1), (1, 99), [7], [4]),
        ((4, 3), (0, 1), [3], [4]),
        ((0, 3), (3, 1), [0], [4]),
    ],
)
def test_dimensions_without_a_gap_are_one(shape, strides, sizes, steps):
    assert _merged(shape, strides, 4) == (sizes, steps)


def test_more_dimensions_than_the_kernels_have_are_refused():
    with pytest.raises(UnsupportedError, match=r"shape \(2, 2, 2, 2, 2\).*guarded memory on a GPU"):
        _merged((2, 2, 2, 2, 2), (160, 48, 14, 4, 1), 4)


@pytest.mark.parametrize(("shape", "strides"), [((4, 8), (2, 1)), ((2, 2), (3, 2))])
def test_dimensions_that_overlap_or_interleave_are_refused(shape, strides):
    with pytest.raises(UnsupportedError, match=rf"strides \({strides[0]}, {strides[1]}\) in guarded memory on a GPU"):
        _merged(shape, strides, 4)


def test_storage_is_given_once_while_a_tensor_lies_in_it():
    allocator = TorchAllocator(CPU)
    asked = [(100, 4096), (0, 4096), (70 << 20, 4096), (5, 8192)]
    taken = [allocator.take(*one) for one in asked]
    for (storage, base), (inside, zone) in zip(taken, asked, strict=True):
        assert base >= zone and len(storage) - base - inside >= zone
    ends = sorted((storage.data_ptr(), storage.data_ptr() + len(storage)) for storage, _ in taken)
    assert all(one[1] <= other[0] for one, other in pairwise(ends))


def test_mapping_is_free_when_no_tensor_lies_in_it(monkeypatch):
    """Beside guard pages, where memory is mapped once and given again and again."""
    host = bytearray(1 << 20)
    made = []

    def mapped(device, size, granule):
        if full:
            raise torch.OutOfMemoryError
        made.append(size)
        return len(made)

    monkeypatch.setattr(guard_pages, "_map", mapped)
    monkeypatch.setattr(guard_pages, "_granularity", lambda index: 4096)
    monkeypatch.setattr(guard_pages, "_Bytes", lambda address, size: bytearray(host[:size]))
    monkeypatch.setattr(torch, "as_tensor", lambda data, device: torch.frombuffer(data, dtype=torch.uint8))
    pages = guard_pages.GuardPages(torch.device("cuda", 0), "behind")
    full = ["once"]
    monkeypatch.setattr(torch.cuda, "empty_cache", full.clear)
    first, base = pages.take(100, 0)
    assert not full, "what torch keeps is asked for before the device counts as full"
    kept = first[base:].view(torch.int32)[3:]
    second, _ = pages.take(200, 0)
    assert made == [4096, 4096]
    del first, second
    third, _ = pages.take(300, 0)
    assert made == [4096, 4096], "the second is free, and the first is not"
    fourth, _ = pages.take(300, 0)
    assert made == [4096, 4096, 4096]
    del kept, third, fourth
    pages.take(5, 0)
    assert len(made) == 3
