import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import shuffle_scales, shuffled_offset, unshuffle_scales

blocks = st.integers(0, 3)


def numbered(rows, columns):
    """Scales that are all different in two planes of bytes, so that a permutation can be read off."""
    index = np.arange(rows * columns).reshape(rows, columns)
    return (index & 0xFF).astype(np.uint8), (index >> 8).astype(np.uint8)


@given(blocks, blocks)
def test_it_is_the_permutation_that_the_kernels_document(row_blocks, column_blocks):
    rows, columns = 32 * row_blocks, 8 * column_blocks
    for scales in numbered(rows, columns):
        theirs = scales.reshape(rows // 32, 2, 16, columns // 8, 2, 4, 1).transpose(0, 3, 5, 2, 4, 1, 6)
        np.testing.assert_array_equal(shuffle_scales(scales), theirs.reshape(rows // 32, 32 * columns))


@given(blocks, blocks)
def test_unshuffle_inverts(row_blocks, column_blocks):
    for scales in numbered(32 * row_blocks, 8 * column_blocks):
        shuffled = shuffle_scales(scales)
        np.testing.assert_array_equal(unshuffle_scales(shuffled), scales.reshape(unshuffle_scales(shuffled).shape))


def test_the_offset_formula_is_the_layout_and_a_bijection():
    rows, columns = 64, 24
    offsets = np.array([[shuffled_offset(r, c, columns) for c in range(columns)] for r in range(rows)])
    assert sorted(offsets.ravel()) == list(range(rows * columns))
    for scales in numbered(rows, columns):
        np.testing.assert_array_equal(shuffle_scales(scales).ravel()[offsets], scales)


@pytest.mark.parametrize("shape", [(31, 8), (32, 7), (32,), (1, 32, 8)])
def test_shuffle_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="multiple"):
        shuffle_scales(np.zeros(shape, np.uint8))


def test_unshuffle_refuses_other_shapes():
    with pytest.raises(ValueError, match="multiple"):
        unshuffle_scales(np.zeros((1, 128), np.uint8))


@pytest.mark.parametrize("position", [(0, 0, 12), (-1, 0, 8), (0, 8, 8)])
def test_offset_refuses(position):
    with pytest.raises(ValueError, match=r"allowed|outside"):
        shuffled_offset(*position)
