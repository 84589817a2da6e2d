"""E2M1's codec, bit for bit against its definition and against ml_dtypes where ml_dtypes is right."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import E2M1, NanElement, Rounding, e2m1

MIDDLES = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
EXTREMES = [0.0, 2.0**-149, 2.0**-126, 1e-30, 6.5, 1e30, 3.4028234663852886e38, np.inf]
TIES_THAT_GO_DOWN = [0.25, 1.25, 2.5, 5.0]


def around(points, dtype, steps=4):
    """Every point and its neighbours up to `steps` ulps away, with both signs."""
    values = []
    for point in points:
        below = above = dtype(point)
        values.append(above)
        for _ in range(steps):
            with np.errstate(over="ignore"):  # the largest float32 steps to Inf
                below, above = np.nextafter(below, dtype(-np.inf)), np.nextafter(above, dtype(np.inf))
            values += [below, above]
    values = np.array(values, dtype)
    return np.concatenate([values, -values])


def scalar_codes(values, rounding):
    return np.array([e2m1.encode_scalar(float(v), rounding) for v in values], np.uint8)


def test_decode_is_its_definition_for_every_code():
    decoded = e2m1.decode(np.arange(16, dtype=np.uint8))
    assert decoded.dtype == np.float32
    expected = np.array([e2m1.decode_scalar(c) for c in range(16)], np.float32)
    np.testing.assert_array_equal(decoded.view(np.uint32), expected.view(np.uint32))  # -0 is -0


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encode_is_its_definition_around_every_boundary(rounding, dtype):
    values = around([*MIDDLES, *e2m1.MAGNITUDES, *EXTREMES], dtype)
    np.testing.assert_array_equal(e2m1.encode(values, rounding), scalar_codes(values, rounding))


@given(st.lists(st.floats(-8, 8) | st.floats(allow_nan=False), min_size=1), st.sampled_from(Rounding))
def test_encode_is_its_definition_anywhere(values, rounding):
    np.testing.assert_array_equal(e2m1.encode(values, rounding), scalar_codes(values, rounding))


def test_ties_to_even_in_float32_agrees_with_ml_dtypes():
    grid = np.linspace(-8, 8, 4097, dtype=np.float32)
    values = np.concatenate([around([*MIDDLES, *e2m1.MAGNITUDES, *EXTREMES], np.float32), grid])
    np.testing.assert_array_equal(e2m1.encode(values), values.astype(ml_dtypes.float4_e2m1fn).view(np.uint8))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_every_16_bit_value_agrees_with_ml_dtypes(dtype):
    values = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    values = values[~np.isnan(values.astype(np.float32))]
    np.testing.assert_array_equal(
        e2m1.encode(values), values.astype(np.float32).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    )


def test_codes_survive_a_round_trip():
    codes = np.arange(16, dtype=np.uint8)
    for rounding in Rounding:
        np.testing.assert_array_equal(e2m1.encode(e2m1.decode(codes), rounding), codes)


def test_ties_away_differs_from_ties_to_even_at_four_magnitudes_alone():
    values = around([*MIDDLES, *e2m1.MAGNITUDES], np.float32)
    differs = e2m1.encode(values) != e2m1.encode(values, Rounding.TIES_AWAY)
    assert sorted(set(np.abs(values[differs]).tolist())) == TIES_THAT_GO_DOWN


def test_microxcaling_says_a_half_just_below_a_quarter_and_we_say_zero():
    # microxcaling computes floor(x / 0.5 + 0.5): the sum rounds up to 1 in float32.
    x = np.uint32(0x3E7FFFFF).view(np.float32)
    assert np.floor(x / np.float32(0.5) + np.float32(0.5)) * 0.5 == 0.5
    assert [e2m1.encode(x, rounding) for rounding in Rounding] == [0, 0, 0]


def test_ml_dtypes_rounds_float64_twice_and_we_round_once():
    x = np.float64(0.25 + 1e-12)
    assert x.astype(ml_dtypes.float4_e2m1fn).view(np.uint8) == 0
    assert e2m1.encode(x) == e2m1.encode_scalar(float(x)) == 1


def test_nan_is_refused_like_gfloat_and_has_policies_for_the_others():
    nans = np.array([np.nan, -np.nan, 1.0], np.float32)
    with pytest.raises(ValueError, match="NaN"):
        e2m1.encode(nans)
    with pytest.raises(ValueError, match="NaN"):
        e2m1.encode_scalar(np.nan)
    assert e2m1.encode(nans, nan=NanElement.MAX).tolist() == [7, 7, 2]  # CUDA's conversion
    assert e2m1.encode(nans, nan=NanElement.ZERO).tolist() == [0, 0, 2]
    assert nans[:1].astype(ml_dtypes.float4_e2m1fn).view(np.uint8).tolist() == [8]  # ml_dtypes: a zero


def test_dirty_high_bits_that_ml_dtypes_ignores_are_refused():
    dirty = np.array([0x17], np.uint8)
    assert dirty.view(ml_dtypes.float4_e2m1fn).astype(np.float32) == -6
    with pytest.raises(ValueError, match="0x17"):
        e2m1.decode(dirty)


def test_only_bytes_are_codes():
    with pytest.raises(TypeError, match="int64"):
        e2m1.decode(np.array([1], np.int64))


def test_negative_values_that_round_to_zero_keep_their_sign():
    assert e2m1.encode([-0.0, -1e-300, 0.0]).tolist() == [8, 8, 0]


def test_max_saturates():
    assert e2m1.encode([1e300, -np.inf]).tolist() == [7, 15]
    assert E2M1.max == 6
