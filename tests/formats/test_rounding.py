import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats.rounding import OUTPUT_TYPES, from_bits, round_to
from fp4guard.formats.scalar import round_scalar

NAMES = list(OUTPUT_TYPES)


def midpoints_and_neighbours(name):
    """Values of a type, midpoints between neighbours, and one float64 ulp to either side of both."""
    rng = np.random.default_rng(0)
    row = OUTPUT_TYPES[name]
    codes = np.concatenate([np.arange(40), rng.integers(0, row.format.infinity, 400), [row.format.infinity - 2]])
    low = from_bits(codes.astype(row.bits_dtype), name)
    high = from_bits((codes + 1).astype(row.bits_dtype), name)
    points = np.concatenate([low, (low + high) / 2, [row.format.max * (1 + 2.0 ** -(row.format.precision + 1))]])
    points = np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf), [np.inf]])
    return np.concatenate([points, -points])


@pytest.mark.parametrize("name", NAMES)
def test_it_is_its_definition_at_every_kind_of_boundary(name):
    values = midpoints_and_neighbours(name)
    expected = np.array([round_scalar(OUTPUT_TYPES[name].format, float(v)) for v in values])
    rounded = round_to(values, name)
    np.testing.assert_array_equal(rounded.value, expected)
    np.testing.assert_array_equal(np.signbit(rounded.value), np.signbit(expected))


@given(st.lists(st.floats(allow_nan=False) | st.floats(-1e6, 1e6), min_size=1), st.sampled_from(NAMES))
def test_it_is_its_definition_anywhere(values, name):
    expected = [round_scalar(OUTPUT_TYPES[name].format, v) for v in values]
    np.testing.assert_array_equal(round_to(np.array(values), name).value, expected)


def test_bfloat16_rounds_once_where_a_detour_over_float32_rounds_twice():
    value = np.array([1 + 2.0**-8 + 2.0**-40])  # just above the tie between 1 and 1 + 2^-7
    detour = value.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
    assert detour == 1
    assert round_to(value, "bfloat16").value == 1 + 2.0**-7


@pytest.mark.parametrize("name", NAMES)
def test_bits_and_values_belong_together(name):
    rounded = round_to(midpoints_and_neighbours(name), name)
    np.testing.assert_array_equal(from_bits(rounded.bits, name), rounded.value)
    assert rounded.bits.dtype == OUTPUT_TYPES[name].bits_dtype


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_canonical(name):
    rounded = round_to(np.array([np.nan, -np.nan]), name)
    assert rounded.bits.tolist() == [OUTPUT_TYPES[name].format.nan] * 2
    assert np.isnan(rounded.value).all()


def test_bfloat16_bits_are_ml_dtypes():
    values = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    values = values[~np.isnan(values.astype(np.float32))]
    np.testing.assert_array_equal(round_to(values.astype(np.float64), "bfloat16").bits, values.view(np.uint16))


def test_other_names_and_widths_are_refused():
    with pytest.raises(ValueError, match=r"float8.*allowed are float32, bfloat16, float16"):
        round_to(np.zeros(1), "float8")
    with pytest.raises(TypeError, match="uint16"):
        from_bits(np.zeros(1, np.uint32), "bfloat16")
