from __future__ import annotations

import numpy as np
import pytest
import torch

from fp4guard.formats import packing
from fp4guard.memory import ALL_ONES, EXTREMES, ORDINARY, SET_FLAG, Poison, mixed

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FLOATS_OF_8_BITS = [
    getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
    if hasattr(torch, name)
]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def filled(poison, dtype, elements=64):
    raw = np.zeros(elements * dtype.itemsize, np.uint8)
    poison.fill(raw, dtype)
    return torch.from_numpy(raw).view(dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, *(d for d in FLOATS_OF_8_BITS if "fnuz" not in str(d))])
def test_all_ones_is_nan(dtype):
    assert filled(ALL_ONES, dtype).float().isnan().all()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_all_ones_is_minus_one(dtype):
    assert (filled(ALL_ONES, dtype) == torch.tensor(-1).to(dtype)).all()


@pytest.mark.parametrize("dtype", [*FLOATS, *FLOATS_OF_8_BITS])
def test_ordinary_numbers_are_finite_positive_and_differ(dtype):
    values = filled(ORDINARY, dtype).double()
    assert values.isfinite().all()
    assert (values > 0).all()
    assert len(values.unique()) > 1


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_ordinary_integers_are_small_indices(dtype):
    values = filled(ORDINARY, dtype)
    assert set(values.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_ordinary_bytes_are_scales_near_one(dtype):
    assert set(filled(ORDINARY, dtype).view(torch.uint8).tolist()) == set(range(0x7D, 0x82))


def test_bools_are_bools():
    assert set(filled(ALL_ONES, torch.bool).view(torch.uint8).tolist()) == {0}
    assert set(filled(ORDINARY, torch.bool).view(torch.uint8).tolist()) == {1}


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *FLOATS_OF_8_BITS, torch.bool, torch.complex64])
def test_the_two_poisons_differ_in_every_element(dtype):
    one, other = (filled(poison, dtype).view(torch.uint8).view(-1, dtype.itemsize) for poison in (ALL_ONES, ORDINARY))
    assert (one != other).any(dim=1).all()


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *(d for d in FLOATS_OF_8_BITS if "e8m0" not in str(d))])
def test_extremes_and_one(dtype):
    info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    for poison, number in zip((*EXTREMES, SET_FLAG), (info.max, info.min, 1), strict=True):
        assert (filled(poison, dtype).double() == float(number)).all()


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="torch has it since 2.8")
def test_extremes_and_one_of_packed_numbers():
    both = [filled(poison, torch.float4_e2m1fn_x2).view(torch.uint8).numpy() for poison in (*EXTREMES, SET_FLAG)]
    for codes, number in zip(both, (6, -6, 1), strict=True):
        assert (packing.decode_packed(codes) == number).all()


@pytest.mark.parametrize("poison", [ALL_ONES, ORDINARY], ids=lambda p: p.pattern)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.int64])
def test_a_lane_is_one_element_of_the_pattern(poison, dtype):
    lane = poison.lane("a site", dtype)
    assert len(lane) == dtype.itemsize
    assert lane == filled(poison, dtype, 1).view(torch.uint8).numpy().tobytes()


def test_single_sites_may_differ():
    poison = ALL_ONES.at("here", "ordinary numbers").at("there", "ordinary numbers")
    assert poison.lane("here", torch.int32) == poison.lane("there", torch.int32) == ORDINARY.lane("x", torch.int32)
    assert poison.lane("elsewhere", torch.int32) == b"\xff" * 4
    assert ALL_ONES.exceptions == {}
    assert poison.pattern == Poison("all ones").pattern


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 64])
def test_any_two_sites_differ_in_one_of_the_mixed_poisons(count):
    sites = [f"site {number}" for number in range(count)]
    held = [[poison.lane(site, torch.uint8) for poison in mixed(sites)] for site in sites]
    assert len({tuple(row) for row in held}) == count
    assert all(poison.lane("another", torch.uint8) == ORDINARY.lane("another", torch.uint8) for poison in mixed(sites))
