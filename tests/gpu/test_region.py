from itertools import pairwise

import pytest
import torch

from fp4guard.errors import UnsupportedError
from fp4guard.gpu.allocators import Arena
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


def test_arena_gives_the_same_places_after_a_reset():
    arena = Arena(CPU)
    asked = [(100, 4096), (0, 4096), (70 << 20, 4096), (5, 8192)]
    first = [(storage.data_ptr(), len(storage), base) for storage, base in (arena.take(*one) for one in asked)]
    arena.reset()
    assert first == [(storage.data_ptr(), len(storage), base) for storage, base in (arena.take(*one) for one in asked)]
    ends = sorted((start, start + size) for start, size, _ in first)
    assert all(one[1] <= other[0] for one, other in pairwise(ends))
