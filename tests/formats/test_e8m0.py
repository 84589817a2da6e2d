"""E8M0's codec against its definition; what the format leaves open is stated by the caller."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import E8M0, Overflow, Rounding, ScaleDecode, e8m0
from fp4guard.formats.scalar import decode_scalar, encode_scalar

BYTES = np.arange(256, dtype=np.uint8)


def test_decode_is_its_definition_for_every_byte():
    np.testing.assert_array_equal(e8m0.decode(BYTES), [decode_scalar(E8M0, b) for b in range(256)])


def test_every_byte_fits_float32_exactly():
    decoded = e8m0.decode(BYTES)
    np.testing.assert_array_equal(decoded.astype(np.float32).astype(np.float64), decoded)
    assert np.float32(decoded[0]).view(np.uint32) == 0x00400000  # a subnormal


def test_shift_policy_is_the_shift_and_differs_at_the_two_ends_alone():
    shifted = (BYTES.astype(np.uint32) << 23).view(np.float32).astype(np.float64)
    np.testing.assert_array_equal(e8m0.decode(BYTES, ScaleDecode.SHIFT), shifted)
    assert np.flatnonzero(shifted != e8m0.decode(BYTES)).tolist() == [0, 255]


def test_one_at_zero_differs_at_zero_alone():
    decoded = e8m0.decode(BYTES, ScaleDecode.ONE_AT_ZERO)
    assert decoded[0] == 1
    np.testing.assert_array_equal(decoded[1:], e8m0.decode(BYTES)[1:])


def test_encode_inverts_decode():
    np.testing.assert_array_equal(e8m0.encode(e8m0.decode(BYTES)), BYTES)


@pytest.mark.parametrize("value", [0.0, 3.0, -1.0, 2.0**128, 2.0**-128, np.inf, 2.0**-1074, 1 + 2**-52])
def test_what_the_format_does_not_pin_down_is_refused(value):
    with pytest.raises(ValueError, match="powers of two"):
        e8m0.encode([1.0, value])


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, np.inf, -np.inf])
def test_a_rounding_does_not_state_the_bytes_of_zero_infinity_and_negative_values(value):
    with pytest.raises(ValueError, match=r"zero= and Inf with infinity="):
        e8m0.encode([1.0, value], Rounding.TIES_TO_EVEN)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        (Rounding.TIES_TO_EVEN, [128, 129, 127, 0, 254]),
        (Rounding.TIES_AWAY, [128, 129, 127, 0, 254]),
        (Rounding.TOWARD_ZERO, [127, 128, 127, 0, 254]),
    ],
)
def test_values_between_powers_of_two(rounding, expected):
    assert e8m0.encode([1.5, 3.0, 1.25, 2.0**-140, 1.75 * 2.0**127], rounding).tolist() == expected


@given(st.lists(st.floats(2.0**-130, 2.0**129), min_size=1), st.sampled_from(Overflow))
def test_rounding_is_its_definition(values, overflow):
    expected = [encode_scalar(E8M0, v, overflow=overflow) for v in values]
    assert e8m0.encode(values, Rounding.TIES_TO_EVEN, overflow=overflow).tolist() == expected


def test_stochastic_rounding_takes_words():
    words = np.array([0, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    assert e8m0.encode([3.0] * 4, Rounding.STOCHASTIC, random=words).tolist() == [129, 129, 128, 128]


@pytest.mark.parametrize("byte", [0, 127, 255])
def test_zero_is_a_policy(byte):
    assert e8m0.encode([0.0, -0.0, 2.0], zero=byte).tolist() == [byte, byte, 128]


def test_infinity_is_a_policy():
    assert e8m0.encode([np.inf, 1.0], infinity=254).tolist() == [254, 127]
    assert e8m0.encode([np.inf, np.nan], infinity=255).tolist() == [255, 255]
    with pytest.raises(ValueError, match="-inf"):
        e8m0.encode([-np.inf], infinity=254)


def test_only_bytes_are_scales():
    with pytest.raises(TypeError, match="float32"):
        e8m0.decode(np.ones(1, np.float32))
