"""The FP8 codecs: against their definitions for every code and around every boundary, and against ml_dtypes."""

import ml_dtypes
import numpy as np
import pytest

from fp4guard.formats import E4M3, E4M3FNUZ, E5M2, E5M2FNUZ, Rounding, fp8

FORMATS = [E4M3, E5M2, E4M3FNUZ, E5M2FNUZ]
THEIRS = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}
CODES = np.arange(256, dtype=np.uint8)
by_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)


def boundaries(fmt):
    """Every value, every middle between two of them, what is beyond, and the neighbours in float64 of all these."""
    values = np.unique(fp8.decode(fmt, CODES).astype(np.float64))
    values = values[np.isfinite(values)]
    step = values[-1] - values[-2]
    points = [*values, *((values[1:] + values[:-1]) / 2), fmt.max + step / 2, fmt.max + step, 1e30, 5e-324, 0.0]
    points = np.array([sign * p for p in points for sign in (1, -1)])
    return np.concatenate(
        [points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf), [np.inf, -np.inf, np.nan]]
    )


@by_format
def test_decode_is_its_definition_and_ml_dtypes(fmt):
    found = fp8.decode(fmt, CODES)
    expected = np.array([fp8.decode_scalar(fmt, code) for code in range(256)], np.float32)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    np.testing.assert_array_equal(found, CODES.view(THEIRS[fmt.name]).astype(np.float32))


@by_format
@pytest.mark.parametrize("saturate", [True, False])
@pytest.mark.parametrize("rounding", Rounding)
def test_encode_is_its_definition_around_every_boundary(fmt, rounding, saturate):
    values = boundaries(fmt)[:: 3 if rounding is Rounding.TIES_AWAY else 1]
    expected = [fp8.encode_scalar(fmt, float(v), rounding, saturate=saturate) for v in values]
    np.testing.assert_array_equal(fp8.encode(fmt, values, rounding, saturate=saturate), expected)


@by_format
def test_without_saturation_it_is_ml_dtypes_on_every_float16(fmt):
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        theirs = values.astype(np.float32).astype(THEIRS[fmt.name])
    ours = fp8.encode(fmt, values, saturate=False)
    np.testing.assert_array_equal(fp8.decode(fmt, ours), theirs.astype(np.float32))
    number = ~np.isnan(theirs.astype(np.float32))
    np.testing.assert_array_equal(ours[number], theirs.view(np.uint8)[number])


@by_format
def test_every_code_comes_back(fmt):
    values = fp8.decode(fmt, CODES)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(fp8.encode(fmt, values, saturate=False)[number], CODES[number])


def test_saturation_takes_infinity_with_it():
    values = np.array([np.inf, -np.inf, 1e9, -1e9, np.nan])
    np.testing.assert_array_equal(fp8.encode(E4M3, values), [0x7E, 0xFE, 0x7E, 0xFE, 0x7F])
    np.testing.assert_array_equal(fp8.encode(E5M2, values), [0x7B, 0xFB, 0x7B, 0xFB, 0x7F])


def test_codes_of_another_type_are_refused():
    with pytest.raises(TypeError, match="uint8"):
        fp8.decode(E4M3, np.arange(3))
