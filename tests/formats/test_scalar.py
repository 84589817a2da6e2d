"""The definitions, against the tables of the standards and against ml_dtypes."""

import math

import ml_dtypes
import numpy as np
import pytest

from fp4guard.formats import BFLOAT16, E2M1, E8M0, FLOAT16, FLOAT32
from fp4guard.formats.scalar import decode_scalar, round_scalar

SMALL = [(E2M1, ml_dtypes.float4_e2m1fn), (E8M0, ml_dtypes.float8_e8m0fnu)]


@pytest.mark.parametrize(("fmt", "theirs"), SMALL, ids=lambda x: getattr(x, "name", ""))
def test_every_code_is_what_ml_dtypes_says(fmt, theirs):
    codes = np.arange(fmt.codes, dtype=np.uint8)
    ours = [decode_scalar(fmt, int(code)) for code in codes]
    np.testing.assert_array_equal(np.array(ours, np.float64), codes.view(theirs).astype(np.float64))


def test_e2m1_magnitudes_are_the_standards():
    assert [decode_scalar(E2M1, code) for code in range(8)] == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def test_e8m0_ends():
    assert decode_scalar(E8M0, 0) == 2.0**-127
    assert decode_scalar(E8M0, 254) == 2.0**127
    assert math.isnan(decode_scalar(E8M0, 255))


@pytest.mark.parametrize(
    ("fmt", "theirs"), [(BFLOAT16, ml_dtypes.bfloat16), (FLOAT16, np.float16)], ids=["bfloat16", "float16"]
)
def test_every_16_bit_code(fmt, theirs):
    codes = np.arange(fmt.codes, dtype=np.uint16)
    ours = np.array([decode_scalar(fmt, int(code)) for code in codes])
    with np.errstate(invalid="ignore"):  # signalling NaNs
        np.testing.assert_array_equal(ours, codes.view(theirs).astype(np.float64))


@pytest.mark.parametrize("fmt", [E2M1, E8M0, BFLOAT16, FLOAT16, FLOAT32], ids=lambda f: f.name)
def test_rows_are_consistent(fmt):
    first_code = 0 if not fmt.has_subnormals else 1
    assert decode_scalar(fmt, first_code) == fmt.smallest
    top = (1 << (fmt.exponent_bits + fmt.mantissa_bits)) - 1
    if fmt.infinity is not None:
        top = fmt.infinity - 1
        assert decode_scalar(fmt, fmt.infinity) == math.inf
    elif fmt.nan is not None:
        top = fmt.nan - 1
    assert decode_scalar(fmt, top) == fmt.max
    if fmt.nan is not None:
        assert math.isnan(decode_scalar(fmt, fmt.nan))


@pytest.mark.parametrize("code", [-1, 16])
def test_codes_outside_are_refused(code):
    with pytest.raises(ValueError, match="e2m1"):
        decode_scalar(E2M1, code)


def test_rounding_overflows_to_inf_or_saturates():
    assert round_scalar(FLOAT16, 65519.99) == 65504
    assert round_scalar(FLOAT16, 65520.0) == math.inf  # the tie goes to the even one, 65536
    assert round_scalar(E2M1, -1e300) == -6
    assert round_scalar(E2M1, math.inf) == 6
