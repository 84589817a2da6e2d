"""torch's narrow dtypes: every code, and encoding at boundaries and in between.

Where it disagrees is in test_disagreements.
"""

import numpy as np
import pytest
import torch

from fp4guard.formats import E2M1, FORMATS, Overflow, codec

THEIRS = {
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e8m0": "float8_e8m0fnu",
}


def dtype_of(name):
    if not hasattr(torch, THEIRS[name]):
        pytest.skip(f"torch {torch.__version__} has no {THEIRS[name]}")
    return getattr(torch, THEIRS[name])


@pytest.mark.parametrize("name", THEIRS)
def test_every_code_has_the_same_value(name):
    codes = np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(codes).view(dtype_of(name)).to(torch.float32).numpy()
    ours = codec.decode(FORMATS[name], codes)
    np.testing.assert_array_equal(ours, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("name", THEIRS)
def test_encoding_agrees_wherever_nothing_overflows(name):
    """Every upper half of a float32 with five lower halves, and 262,144 values between: finite and in range."""
    fmt = FORMATS[name]
    patterns = np.arange(1 << 16, dtype=np.uint32) << 16
    near = np.concatenate([patterns + np.uint32(step) for step in (0, 1, 2, 0xFFFE, 0xFFFF)]).view(np.float32)
    grid = np.linspace(-min(fmt.max, 600), min(fmt.max, 600), 1 << 18, dtype=np.float32)
    values = np.concatenate([near, grid])
    with np.errstate(invalid="ignore"):
        values = values[np.abs(values) <= fmt.max]
    if not fmt.has_sign:
        values = values[values >= 2 * fmt.smallest]  # below, it is a disagreement of its own
    expected = torch.from_numpy(values).to(dtype_of(name)).view(torch.uint8).numpy()
    np.testing.assert_array_equal(codec.encode(fmt, values), expected)


@pytest.mark.parametrize("name", ["e5m2", "e4m3fnuz", "e5m2fnuz"])
def test_beyond_the_largest_torch_does_not_saturate(name):
    fmt = FORMATS[name]
    values = np.array([fmt.max * 1.2, fmt.max * 4, np.inf, -np.inf, -fmt.max * 1.2], np.float32)
    expected = torch.from_numpy(values).to(dtype_of(name)).view(torch.uint8).numpy()
    np.testing.assert_array_equal(codec.encode(fmt, values, overflow=Overflow.NONSATURATING), expected)


def test_the_packed_e2m1_dtype_is_storage_alone():
    """torch.float4_e2m1fn_x2 of 2.13 converts neither way; when it does, its nibbles are to be compared here."""
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip(f"torch {torch.__version__} has no float4_e2m1fn_x2")
    packed = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(torch.float4_e2m1fn_x2)
    try:
        values = packed.to(torch.float32)
    except (NotImplementedError, RuntimeError):
        with pytest.raises((NotImplementedError, RuntimeError)):
            torch.zeros(2).to(torch.float4_e2m1fn_x2)
        return
    low = np.arange(256, dtype=np.uint8) & 0xF
    np.testing.assert_array_equal(values.numpy().reshape(256, 2)[:, 0], codec.decode(E2M1, low))
