"""gfloat, the formats that it has: every code, and encoding at boundaries and in between, under three roundings.

Where it disagrees is in test_disagreements.
"""

import numpy as np
import pytest

from fp4guard.formats import E8M0, FORMATS, Overflow, Rounding, codec
from fp4guard.formats.arithmetic import code_dtype

gfloat = pytest.importorskip("gfloat", reason='needs gfloat: pip install -e ".[test]"')
formats = pytest.importorskip("gfloat.formats")

THEIRS = {
    "e2m1": "ocp_e2m1",
    "e2m3": "ocp_e2m3",
    "e3m2": "ocp_e3m2",
    "e4m3": "ocp_e4m3",
    "e5m2": "ocp_e5m2",
    "e8m0": "ocp_e8m0",
    "float16": "binary16",
    "bfloat16": "bfloat16",
}
ROUNDINGS = {
    Rounding.TIES_TO_EVEN: "TiesToEven",
    Rounding.TIES_AWAY: "TiesToAway",
    Rounding.TOWARD_ZERO: "TowardZero",
}


def theirs(name):
    return getattr(formats, f"format_info_{THEIRS[name]}")


def encoded(info, values, rounding, saturate):
    rounded = gfloat.round_ndarray(info, values, getattr(gfloat.RoundMode, ROUNDINGS[rounding]), saturate)
    return gfloat.encode_ndarray(info, rounded)


@pytest.mark.parametrize("name", THEIRS)
def test_every_code_has_the_same_value(name):
    fmt = FORMATS[name]
    codes = np.arange(fmt.codes)
    ours = codec.decode(fmt, codes.astype(code_dtype(fmt)))
    expected = gfloat.decode_ndarray(theirs(name), codes)
    np.testing.assert_array_equal(ours, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("name", [name for name in THEIRS if FORMATS[name].width <= 8])
def test_the_rows_hold_the_same_constants(name):
    fmt, info = FORMATS[name], theirs(name)
    assert (fmt.width, fmt.precision, fmt.bias, fmt.max) == (info.k, info.precision, info.bias, info.max)
    assert fmt.smallest == info.smallest
    assert (fmt.has_subnormals, fmt.has_sign) == (info.has_subnormals, info.is_signed)


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: r.name)
@pytest.mark.parametrize("saturate", [True, False], ids=["saturate", "nonsaturating"])
@pytest.mark.parametrize("name", [name for name in THEIRS if name != "e8m0"])
def test_encoding_agrees(name, saturate, rounding):
    """Boundaries and their neighbours in float64, and 20,000 values over the format's range."""
    fmt = FORMATS[name]
    if not saturate and (fmt.nan, fmt.infinity) == (None, None):
        with pytest.raises(ValueError, match="No Infs or NaNs"):
            gfloat.round_ndarray(theirs(name), np.array([1e9]), gfloat.RoundMode.TiesToEven, False)
        with pytest.raises(ValueError, match="neither Inf nor NaN"):
            codec.encode(fmt, [1e9], overflow=Overflow.NONSATURATING)
        return
    codes = np.arange(0, fmt.max_code + 1, max(1, fmt.max_code // 2000) | 1).astype(code_dtype(fmt))
    held = codec.decode(fmt, codes).astype(np.float64)
    above = codec.decode(fmt, np.minimum(codes + 1, fmt.max_code).astype(code_dtype(fmt))).astype(np.float64)
    points = np.concatenate([held, (held + above) / 2])
    points = np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, 0), [fmt.max * 4, np.inf]])
    rng = np.random.default_rng(0)
    spread = np.exp2(rng.uniform(np.log2(fmt.smallest) - 2, np.log2(fmt.max) + 0.5, 20_000))
    values = np.concatenate([points, spread])
    values = np.concatenate([values, -values])
    overflow = Overflow.SATURATE if saturate else Overflow.NONSATURATING
    expected = encoded(theirs(name), values, rounding, saturate)
    ours = codec.encode(fmt, values, rounding, overflow=overflow)
    nan = np.isnan(codec.decode(fmt, ours))  # gfloat's NaN has a code of its own
    np.testing.assert_array_equal(np.isnan(gfloat.decode_ndarray(theirs(name), expected)), nan)
    np.testing.assert_array_equal(ours[~nan], expected[~nan])


@pytest.mark.parametrize("rounding", [Rounding.TIES_AWAY, Rounding.TOWARD_ZERO], ids=lambda r: r.name)
def test_scale_bytes_agree_but_for_ties_to_even(rounding):
    values = np.exp2(np.random.default_rng(0).uniform(-126.9, 127, 20_000))
    ours = codec.encode(E8M0, values, rounding)
    np.testing.assert_array_equal(ours, encoded(theirs("e8m0"), values, rounding, True))
