"""The definitions, against the tables of the standards; tests/peers holds them against libraries."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import (
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E4M3FNUZ,
    E5M2,
    E5M2FNUZ,
    E8M0,
    FLOAT16,
    FORMATS,
    Overflow,
    Rounding,
)
from fp4guard.formats.scalar import decode_scalar, encode_scalar, round_scalar

every_format = pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)


def test_e2m1_magnitudes_are_the_standards():
    assert [decode_scalar(E2M1, code) for code in range(8)] == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def test_e8m0_ends():
    assert decode_scalar(E8M0, 0) == 2.0**-127
    assert decode_scalar(E8M0, 254) == 2.0**127
    assert math.isnan(decode_scalar(E8M0, 255))


# OCP MX v1.0, table 5 and section 5.3; OCP FP8 v1.0, table 1: the least and the largest values as printed there.
@pytest.mark.parametrize(
    ("fmt", "largest", "smallest_normal", "largest_subnormal", "smallest"),
    [
        (E2M1, 6, 1, 0.5, 0.5),
        (E2M3, 7.5, 1, 0.875, 0.125),
        (E3M2, 28, 0.25, 0.1875, 0.0625),
        (E4M3, 448, 2**-6, 0.875 * 2**-6, 2**-9),
        (E5M2, 57344, 2**-14, 0.75 * 2**-14, 2**-16),
        (E4M3FNUZ, 240, 2**-7, 0.875 * 2**-7, 2**-10),
        (E5M2FNUZ, 57344, 2**-15, 0.75 * 2**-15, 2**-17),
        (E8M0, 2.0**127, 2.0**-127, None, 2.0**-127),
        (FLOAT16, 65504, 2**-14, 2**-14 - 2**-24, 2**-24),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_rows_say_what_the_standards_say(fmt, largest, smallest_normal, largest_subnormal, smallest):
    assert fmt.max == largest
    assert fmt.smallest_normal == smallest_normal
    assert fmt.largest_subnormal == largest_subnormal
    assert fmt.smallest == smallest


@every_format
def test_rows_are_consistent(fmt):
    assert fmt.width == fmt.has_sign + fmt.exponent_bits + fmt.mantissa_bits
    first_code = 0 if not fmt.has_subnormals else 1
    assert decode_scalar(fmt, first_code) == fmt.smallest
    assert decode_scalar(fmt, fmt.max_code) == fmt.max
    if fmt.infinity is not None:
        assert decode_scalar(fmt, fmt.infinity) == math.inf
        assert decode_scalar(fmt, fmt.infinity | fmt.sign_bit) == -math.inf
    if fmt.nan is not None:
        assert math.isnan(decode_scalar(fmt, fmt.nan))


def test_magnitudes_of_six_bit_formats():
    assert [decode_scalar(E2M3, code) for code in (0, 1, 7, 8, 15, 16, 24, 31)] == [
        0,
        0.125,
        0.875,
        1,
        1.875,
        2,
        4,
        7.5,
    ]
    assert [decode_scalar(E3M2, code) for code in (1, 3, 4, 12, 28, 31)] == [0.0625, 0.1875, 0.25, 1, 16, 28]


@pytest.mark.parametrize("fmt", [f for f in FORMATS.values() if f.width <= 16], ids=lambda fmt: fmt.name)
def test_every_bit_pattern_has_the_values_that_the_format_has(fmt):
    """Counted by what they are: two NaNs too many or too few would show."""
    values = [decode_scalar(fmt, code) for code in range(fmt.codes)]
    nans, infinities = sum(map(math.isnan, values)), sum(map(math.isinf, values))
    signs = 2 if fmt.has_sign else 1
    assert infinities == (0 if fmt.infinity is None else signs)
    assert fmt.codes - nans - infinities == signs * (fmt.max_code + 1) - (1 if not fmt.has_negative_zero else 0)


@given(st.sampled_from(list(FORMATS.values())), st.data())
def test_encode_is_monotone_and_nearest(fmt, data):
    """Which is what the exhaustive test rests on: each code is that of one interval."""
    finite = st.floats(fmt.smallest / 8, fmt.max * 2 if fmt.max < 1e38 else fmt.max)
    low, high = sorted((data.draw(finite), data.draw(finite)))
    for rounding in (Rounding.TIES_TO_EVEN, Rounding.TIES_AWAY, Rounding.TOWARD_ZERO):
        codes = [encode_scalar(fmt, v, rounding, Overflow.SATURATE) for v in (low, high)]
        assert codes == sorted(codes)
        for value, code in zip((low, high), codes):
            ours = decode_scalar(fmt, code)
            neighbours = [decode_scalar(fmt, c) for c in (code - 1, code + 1) if 0 <= c <= fmt.max_code]
            if rounding is not Rounding.TOWARD_ZERO:
                assert all(abs(ours - value) <= abs(n - value) for n in neighbours)
            elif value >= fmt.smallest:
                assert ours <= value
                assert all(n > value for n in neighbours if n > ours)


@pytest.mark.parametrize("code", [-1, 16])
def test_codes_outside_are_refused(code):
    with pytest.raises(ValueError, match="e2m1"):
        decode_scalar(E2M1, code)


def test_a_tie_between_two_powers_of_two_goes_up():
    """IEEE 754-2019, section 4.3.1: where no significand is even, the larger magnitude."""
    assert [encode_scalar(E8M0, v) for v in (1.5, 3.0, 6.0)] == [128, 129, 130]


def test_rounding_overflows_to_inf_or_saturates():
    assert round_scalar(FLOAT16, 65519.99) == 65504
    assert round_scalar(FLOAT16, 65520.0) == math.inf  # the tie goes to the even one, 65536
    assert round_scalar(E2M1, -1e300) == -6
    assert round_scalar(E2M1, math.inf) == 6
