"""E8M0's codec against its definition, and the libraries that disagree about its ends."""

import ml_dtypes
import numpy as np
import pytest
import torch

from fp4guard.formats import ScaleDecode, e8m0

BYTES = np.arange(256, dtype=np.uint8)


def test_decode_is_its_definition_and_ml_dtypes_for_every_byte():
    decoded = e8m0.decode(BYTES)
    np.testing.assert_array_equal(decoded, [e8m0.decode_scalar(b) for b in range(256)])
    np.testing.assert_array_equal(decoded, BYTES.view(ml_dtypes.float8_e8m0fnu).astype(np.float64))


def test_every_byte_fits_float32_exactly():
    decoded = e8m0.decode(BYTES)
    np.testing.assert_array_equal(decoded.astype(np.float32).astype(np.float64), decoded)
    assert np.float32(decoded[0]).view(np.uint32) == 0x00400000  # a subnormal


def test_shift_policy_is_the_shift_and_differs_at_the_two_ends_alone():
    shifted = (BYTES.astype(np.uint32) << 23).view(np.float32).astype(np.float64)
    np.testing.assert_array_equal(e8m0.decode(BYTES, ScaleDecode.SHIFT), shifted)
    assert np.flatnonzero(shifted != e8m0.decode(BYTES)).tolist() == [0, 255]


def test_encode_inverts_decode():
    np.testing.assert_array_equal(e8m0.encode(e8m0.decode(BYTES)), BYTES)
    assert [e8m0.encode_scalar(e8m0.decode_scalar(b)) for b in range(256)] == list(range(256))


@pytest.mark.parametrize("value", [0.0, 3.0, -1.0, 2.0**128, 2.0**-128, np.inf, 2.0**-1074, 1 + 2**-52])
def test_what_the_format_does_not_pin_down_is_refused(value):
    with pytest.raises(ValueError, match="powers of two"):
        e8m0.encode([1.0, value])
    with pytest.raises(ValueError, match="powers of two"):
        e8m0.encode_scalar(value)


def test_zero_is_255_in_ml_dtypes_and_0_in_torch_and_a_policy_here():
    zero = np.zeros(1, np.float32)
    theirs = int(zero.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)[0])
    torchs = int(torch.from_numpy(zero).to(torch.float8_e8m0fnu).view(torch.uint8)[0])
    assert (theirs, torchs) == (255, 0)
    for byte in (theirs, torchs):
        assert e8m0.encode(zero, zero=byte).tolist() == [byte]


def test_infinity_is_a_policy():
    assert e8m0.encode([np.inf, 1.0], infinity=254).tolist() == [254, 127]
    assert e8m0.encode([np.inf, np.nan], infinity=255).tolist() == [255, 255]
    with pytest.raises(ValueError, match="-inf"):
        e8m0.encode([-np.inf], infinity=254)


def test_only_bytes_are_scales():
    with pytest.raises(TypeError, match="float32"):
        e8m0.decode(np.ones(1, np.float32))
