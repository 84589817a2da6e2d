import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fp4guard.formats import E2M1, NibbleOrder, codec, decode_packed, pack, unpack

packed_arrays = arrays(np.uint8, array_shapes(min_side=0, max_dims=3))


def test_low_half_first_by_default():
    assert pack(np.array([0x1, 0xF], np.uint8)).tolist() == [0xF1]
    assert pack(np.array([0x1, 0xF], np.uint8), NibbleOrder.HIGH_FIRST).tolist() == [0x1F]


@given(packed_arrays, st.sampled_from(NibbleOrder))
def test_unpack_and_pack_are_inverse(packed, order):
    codes = unpack(packed, order)
    assert codes.shape == (*packed.shape[:-1], 2 * packed.shape[-1])
    np.testing.assert_array_equal(pack(codes, order), packed)


@given(packed_arrays, st.sampled_from(NibbleOrder))
def test_decode_packed_is_decode_after_unpack(packed, order):
    decoded = decode_packed(packed, order)
    expected = codec.decode(E2M1, unpack(packed, order))
    assert decoded.shape == expected.shape
    np.testing.assert_array_equal(decoded.view(np.uint32), expected.view(np.uint32))


def test_every_byte_and_a_strided_input():
    packed = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(256, 2)[:, :1]
    assert not packed.flags.c_contiguous
    np.testing.assert_array_equal(decode_packed(packed), codec.decode(E2M1, unpack(packed)))


@pytest.mark.parametrize(
    ("codes", "error", "match"),
    [
        (np.zeros(3, np.uint8), ValueError, "even"),
        (np.array(0, np.uint8), ValueError, "even"),
        (np.array([0x10, 0], np.uint8), ValueError, "0x10"),
        (np.zeros(2, np.int8), TypeError, "int8"),
    ],
)
def test_pack_refuses(codes, error, match):
    with pytest.raises(error, match=match):
        pack(codes)


@pytest.mark.parametrize("function", [unpack, decode_packed])
def test_unpacking_refuses(function):
    with pytest.raises(TypeError, match="float32"):
        function(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="scalar"):
        function(np.uint8(3))
