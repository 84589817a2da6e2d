"""ml_dtypes, every code of every format that it has, and encoding at boundaries and in between.

Where it disagrees is in test_disagreements.
"""

import numpy as np
import pytest

from fp4guard.formats import FORMATS, Overflow, codec
from fp4guard.formats.arithmetic import code_dtype

ml_dtypes = pytest.importorskip("ml_dtypes", reason='needs ml_dtypes: pip install -e ".[test]"')

THEIRS = {
    "e2m1": "float4_e2m1fn",
    "e2m3": "float6_e2m3fn",
    "e3m2": "float6_e3m2fn",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e8m0": "float8_e8m0fnu",
    "bfloat16": "bfloat16",
}
#: E8M0's first step is a disagreement of its own.
BINADE = 2
by_format = pytest.mark.parametrize("name", THEIRS)


def pair(name):
    return FORMATS[name], np.dtype(getattr(ml_dtypes, THEIRS[name]))


def overflow(fmt):
    """What ml_dtypes does: Inf or NaN where the format has one."""
    return Overflow.SATURATE if (fmt.nan, fmt.infinity) == (None, None) else Overflow.NONSATURATING


@by_format
def test_every_code_has_the_same_value(name):
    fmt, theirs = pair(name)
    codes = np.arange(fmt.codes, dtype=code_dtype(fmt))
    ours, expected = codec.decode(fmt, codes), codes.view(theirs).astype(np.float32)
    np.testing.assert_array_equal(ours, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours)[numbers], np.signbit(expected)[numbers])


def values_of(fmt):
    """float32 of all exponents, those at and 1 to 4 ulps around boundaries, and a fine grid over the format's range."""
    patterns = np.arange(1 << 16, dtype=np.uint32) << 16
    near = np.concatenate([patterns + np.uint32(step) for step in (0, 1, 2, 3, 4, 0xFFFC, 0xFFFD, 0xFFFE, 0xFFFF)])
    with np.errstate(invalid="ignore"):
        values = near.view(np.float32)
        grid = np.linspace(-min(fmt.max, 600) * 1.1, min(fmt.max, 600) * 1.1, 1 << 18, dtype=np.float32)
        values = np.concatenate([values, grid])
        values = values[~np.isnan(values)]
    return values if fmt.has_sign else values[(values <= fmt.max) & (values >= BINADE * fmt.smallest)]


@by_format
def test_encoding_agrees_on_700_000_float32(name):
    fmt, theirs = pair(name)
    values = values_of(fmt)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(theirs).view(code_dtype(fmt))
    ours = codec.encode(fmt, values, overflow=overflow(fmt))
    nan = np.isnan(codec.decode(fmt, expected))  # its NaNs have signs and payloads of their own
    np.testing.assert_array_equal(np.isnan(codec.decode(fmt, ours)), nan)
    np.testing.assert_array_equal(ours[~nan], expected[~nan])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in THEIRS if name not in ("e8m0", "bfloat16")])
def test_every_16_bit_value_agrees(name, dtype):
    fmt, theirs = pair(name)
    source = np.dtype(getattr(ml_dtypes, dtype, dtype))
    values = np.arange(1 << 16, dtype=np.uint16).view(source)
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        values, single = values[~np.isnan(single)], single[~np.isnan(single)]
        expected = single.astype(theirs).view(np.uint8)
    ours = codec.encode(fmt, values, overflow=overflow(fmt))
    nan = np.isnan(codec.decode(fmt, expected))
    np.testing.assert_array_equal(np.isnan(codec.decode(fmt, ours)), nan)
    np.testing.assert_array_equal(ours[~nan], expected[~nan])
