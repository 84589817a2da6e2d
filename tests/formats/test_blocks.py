import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import (
    BLOCK_FORMATS,
    MXFP4,
    MXFP8_E4M3,
    NVFP4,
    BlockScaled,
    ScaleDecode,
    e8m0,
    unpack,
)
from fp4guard.formats.scalar import decode_scalar


def random_blocks(fmt, shape=(5, 75), seed=0, **options):
    rng = np.random.default_rng(seed)
    *leading, k = shape
    elements = rng.integers(0, fmt.element.codes, shape, dtype=np.uint8)
    return BlockScaled(fmt, elements, rng.integers(0, 256, (*leading, fmt.blocks(k)), dtype=np.uint8), **options)


@pytest.mark.parametrize("fmt", BLOCK_FORMATS.values(), ids=BLOCK_FORMATS)
@pytest.mark.parametrize("k", [64, 75], ids=["whole", "tail"])
def test_decode_is_element_times_scale(fmt, k):
    matrix = random_blocks(fmt, (3, k))
    for (row, column), value in np.ndenumerate(matrix.decode()):
        element = decode_scalar(fmt.element, int(matrix.elements[row, column]))
        scale = decode_scalar(fmt.scale, int(matrix.scales[row, column // fmt.length]))
        np.testing.assert_equal(value, element * scale)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 70))
def test_shapes_of_any_rank_and_length(first, second, k):
    matrix = random_blocks(MXFP4, (first, second, k))
    assert matrix.shape == matrix.decode().shape == (first, second, k)
    flat = BlockScaled(
        MXFP4, matrix.elements.reshape(first * second, k), matrix.scales.reshape(first * second, -(-k // 32))
    )
    np.testing.assert_array_equal(matrix.decode().reshape(first * second, k), flat.decode())


def test_tensor_scale_multiplies_the_values():
    matrix = random_blocks(NVFP4, tensor_scale=0.375)
    np.testing.assert_array_equal(matrix.decode(), matrix.decode_blocks() * 0.375)


def test_a_nan_scale_makes_its_block_nan_zeros_included():
    for fmt in (MXFP4, NVFP4):
        elements = np.zeros((1, 2 * fmt.length), np.uint8)
        decoded = BlockScaled(fmt, elements, np.array([[fmt.nan_scale, 0x70]], np.uint8)).decode()
        assert np.isnan(decoded[0, : fmt.length]).all()
        assert (decoded[0, fmt.length :] == 0).all()


def test_the_ends_of_e8m0_follow_the_policy():
    matrix = BlockScaled(MXFP4, np.array([[2] * 64, [0] * 64], np.uint8), np.array([[0, 255]] * 2, np.uint8))
    np.testing.assert_array_equal(matrix.decode()[0, ::32], [2.0**-127, np.nan])
    np.testing.assert_array_equal(matrix.decode(ScaleDecode.SHIFT)[:, ::32], [[0, np.inf], [0, np.nan]])


class TestCodes:
    def test_four_bit_elements_are_two_a_byte_low_first(self):
        matrix = random_blocks(MXFP4, (2, 64))
        np.testing.assert_array_equal(unpack(matrix.codes), matrix.elements)
        again = BlockScaled.from_codes(MXFP4, matrix.codes, matrix.scales)
        np.testing.assert_array_equal(again.elements, matrix.elements)

    def test_wider_elements_are_one_a_byte(self):
        matrix = random_blocks(MXFP8_E4M3)
        assert matrix.codes is matrix.elements
        np.testing.assert_array_equal(
            BlockScaled.from_codes(MXFP8_E4M3, matrix.codes, matrix.scales).elements, matrix.codes
        )

    def test_an_odd_number_cannot_be_packed(self):
        with pytest.raises(ValueError, match="even"):
            _ = random_blocks(MXFP4, (2, 33)).codes


def test_it_is_immutable_and_hashed_by_identity():
    elements = np.zeros((1, 32), np.uint8)
    one, other = (BlockScaled(MXFP4, elements, np.zeros((1, 1), np.uint8)) for _ in range(2))
    elements[:] = 7
    assert not one.elements.any()
    with pytest.raises(ValueError, match="read-only"):
        one.scales[0, 0] = 1
    assert one != other
    assert len({one, other}) == 2


@pytest.mark.parametrize(
    ("elements", "scales", "error", "match"),
    [
        (np.zeros((2, 32)), np.zeros((2, 1), np.uint8), TypeError, "elements.*float64"),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 1)), TypeError, "scales.*float64"),
        (np.zeros((), np.uint8), np.zeros((), np.uint8), ValueError, "elements: a scalar"),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 2), np.uint8), ValueError, r"scales: shape \(2, 2\).*\(2, 1\)"),
        (np.zeros((2, 33), np.uint8), np.zeros((2, 1), np.uint8), ValueError, r"allow \(2, 2\)"),
        (np.full((2, 32), 16, np.uint8), np.zeros((2, 1), np.uint8), ValueError, "elements: 0x10.*0x0f"),
    ],
)
def test_what_does_not_belong_together_is_refused(elements, scales, error, match):
    with pytest.raises(error, match=match):
        BlockScaled(MXFP4, elements, scales)


@pytest.mark.parametrize(
    ("fmt", "scale"),
    [(MXFP4, 2.0), (NVFP4, 0.0), (NVFP4, -1.0), (NVFP4, float("inf")), (NVFP4, float("nan")), (NVFP4, 0.1)],
)
def test_tensor_scales_that_are_none_are_refused(fmt, scale):
    with pytest.raises(ValueError, match="tensor_scale"):
        random_blocks(fmt, tensor_scale=scale)


def test_nan_scales_are_nan():
    assert all(np.isnan(decode_scalar(fmt.scale, fmt.nan_scale)) for fmt in BLOCK_FORMATS.values())
    assert MXFP4.nan_scale == e8m0.NAN
