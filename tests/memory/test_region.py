"""Regions: the shadow, the red zones, and what has been disturbed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard.memory import ADDRESSABLE, ALL_ONES, CONTIGUOUS, DEFINED, ORDINARY, STRIDED, Layout, Memory, Role
from fp4guard.memory.region import foreign, guarded, guarded_strided

QUICK = settings(max_examples=30, deadline=None)
SHAPES = st.lists(st.integers(0, 7), max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.uint8, torch.bfloat16, torch.float32, torch.int64, torch.bool])
POISONS = pytest.mark.parametrize("poison", [ALL_ONES, ORDINARY], ids=lambda p: p.pattern)


def make(shape=(3, 5), dtype=torch.int16, layout=CONTIGUOUS, poison=ALL_ONES, role=Role.OUTPUT):
    return guarded("t", role, shape, dtype, layout, poison)


def bytes_of(region):
    """Every byte of every element, found from torch's own addresses."""
    tensor, found = region.tensor, set()
    for index in itertools.product(*map(range, tensor.shape)):
        start = tensor[index].data_ptr() - region.address
        found.update(range(start, start + tensor.element_size()))
    return found


@QUICK
@given(shape=SHAPES, dtype=DTYPES, layout=st.sampled_from(STRIDED))
def test_the_shadow_marks_the_elements_and_nothing_else(shape, dtype, layout):
    region = make(shape, dtype, layout)
    expected = np.zeros(len(region.storage), np.uint8)
    expected[sorted(bytes_of(region))] = ADDRESSABLE
    assert (region.shadow == expected).all()
    region.seal()
    assert (region.shadow == expected * DEFINED).all()
    assert region.tensor.shape == shape
    assert region.tensor.stride() == layout.strides(shape)
    assert region.tensor.dtype == dtype


@QUICK
@given(shape=SHAPES, dtype=DTYPES, layout=st.sampled_from(STRIDED))
def test_red_zones_are_wide_and_everything_is_aligned(shape, dtype, layout):
    region = make(shape, dtype, layout)
    row = shape[-1] * dtype.itemsize if shape else 0
    assert region.first >= max(256, row)
    assert len(region.storage) - region.last >= max(256, row)
    assert region.address % 256 == 0
    assert len(region.storage) % 256 == 0
    assert (region.base - layout.offset * dtype.itemsize) % 256 == 0
    assert region.dense == bool(region.shadow[region.first : region.last].all())


def test_a_wide_row_has_a_red_zone_as_wide():
    region = make((2, 5000), torch.float32)
    assert region.first >= 20_000
    assert len(region.storage) - region.last >= 20_000


@POISONS
@QUICK
@given(shape=SHAPES, dtype=DTYPES, layout=st.sampled_from(STRIDED), data=st.data())
def test_any_flipped_byte_outside_the_elements_is_found(poison, shape, dtype, layout, data):
    region = make(shape, dtype, layout, poison)
    region.tensor.copy_(torch.ones(()).to(dtype).expand(shape))
    assert not len(region.disturbed(poison))
    outside = sorted(set(range(len(region.storage))) - bytes_of(region))
    edges = [0, region.first - 1, region.last, len(region.storage) - 1]
    chosen = data.draw(st.sampled_from(outside) | st.sampled_from(edges))
    region.storage[chosen] ^= data.draw(st.integers(1, 255))
    assert region.disturbed(poison).tolist() == [chosen]


@POISONS
def test_every_byte_of_one_region_one_at_a_time(poison):
    region = make((2, 3), torch.int16, Layout("gap", row_gap=2, offset=1), poison)
    inside = bytes_of(region)
    for byte in range(len(region.storage)):
        region.storage[byte] ^= 0x10
        assert region.disturbed(poison).tolist() == ([] if byte in inside else [byte])
        region.storage[byte] ^= 0x10


def test_fresh_memory_holds_poison_and_is_uninitialised():
    region = make((2, 3), torch.float32, poison=ALL_ONES)
    assert region.tensor.isnan().all()
    assert region.uninitialised().all()
    assert make((2, 3), torch.float32, poison=ORDINARY).tensor.isfinite().all()


def test_some_elements_may_be_forgotten():
    region = make((2, 3), torch.int16)
    region.tensor.fill_(5)
    region.seal()
    assert not region.uninitialised().any()
    mask = np.array([[True, False, False], [False, False, True]])
    region.forget(mask, ALL_ONES)
    assert (region.uninitialised() == mask).all()
    assert region.tensor.tolist() == [[-1, 5, 5], [5, 5, -1]]
    region.seal()
    region.forget(np.zeros((2, 3), bool), ALL_ONES)
    assert region.sealed


def test_an_element_with_one_byte_missing_is_uninitialised():
    region = make((3,), torch.int32)
    region.shadow[region.first : region.first + 7] = DEFINED
    assert region.uninitialised().tolist() == [False, True, True]


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_views_share_the_memory(width):
    region = make((3, 5), torch.uint8)
    for name in ("storage", "shadow"):
        view = region.view(name, width)
        assert view.itemsize == width
        assert np.shares_memory(view, getattr(region, name))
        assert region.view(name, width) is view


@pytest.mark.parametrize("strides", [(0, 1), (1, 1), (2, 3), (7, 2)])
def test_any_strides(strides):
    region = guarded_strided("t", Role.SCRATCH, (3, 2), torch.int16, strides, 0, ALL_ONES)
    assert region.tensor.stride() == strides
    assert set(np.flatnonzero(region.shadow)) == bytes_of(region)


@pytest.mark.parametrize(("layout", "expected"), [
    (CONTIGUOUS, "int16 [3, 5], guarded"),
    (Layout("gap", row_gap=3), "int16 [3, 5] stride (8, 1), guarded"),
])  # fmt: skip
def test_a_description(layout, expected):
    assert make(layout=layout).describe() == expected


FOREIGN = {
    "whole": lambda: torch.arange(12, dtype=torch.int32),
    "slice": lambda: torch.arange(12, dtype=torch.int32)[3:7],
    "transposed": lambda: torch.zeros(3, 4).t(),
    "expanded": lambda: torch.zeros(3).expand(4, 3),
    "no dimensions": lambda: torch.tensor(3.0),
    "empty": lambda: torch.zeros(0, 3),
    "requires grad": lambda: torch.zeros(3, requires_grad=True),
    "bool": lambda: torch.ones(5, dtype=torch.bool),
    "bfloat16": lambda: torch.zeros(5, dtype=torch.bfloat16),
    "float8": lambda: torch.zeros(5, dtype=torch.float8_e4m3fn),
    "complex": lambda: torch.zeros(5, dtype=torch.complex64),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_all_of_a_foreign_storage_is_defined(name):
    tensor = FOREIGN[name]()
    region = foreign("f", tensor)
    assert len(region.storage) == tensor.untyped_storage().nbytes()
    assert (region.shadow == DEFINED).all()
    assert region.sealed
    assert region.dense
    if tensor.numel():
        assert region.address == tensor.untyped_storage().data_ptr()
    assert not len(region.disturbed(ALL_ONES))
    assert region.describe().endswith("not guarded")


def test_a_foreign_region_is_the_memory_itself():
    tensor = torch.zeros(4, dtype=torch.int32)
    region = foreign("f", tensor[1:])
    tensor[2] = 0x01020304
    assert region.storage[8:12].tolist() == [4, 3, 2, 1]
    region.storage[0] = 9
    assert tensor[0].item() == 9


def test_selected_bytes_are_those_of_a_view():
    memory = Memory(ALL_ONES)
    region = memory.place("x", Role.INPUT, torch.arange(24, dtype=torch.int16).reshape(4, 6), Layout("gap", row_gap=3))
    view = region.tensor[1:, ::2].t()
    raw = np.ascontiguousarray(region.select(view, region.storage)).view(np.int16)[..., 0]
    assert raw.tolist() == view.tolist()
    assert math.prod(region.select(view[:0], region.storage).shape) == 0
