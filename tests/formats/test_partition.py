import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import NanBlock
from fp4guard.formats.partition import largest, partition


@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 32]), st.integers(0, 5), st.integers(0, 100))
def test_largest_is_the_largest_magnitude(seed, length, rows, k):
    values = np.random.default_rng(seed).normal(size=(rows, k))
    amax, finite = largest(partition(values, -1, length), NanBlock.RAISE)
    filled = np.pad(np.abs(values), ((0, 0), (0, -k % length))).reshape(rows, -(-k // length), length)
    np.testing.assert_array_equal(amax, filled.max(axis=-1, initial=0))
    assert finite.all()


def test_largest_of_more_than_a_chunk():
    values = np.random.default_rng(0).normal(size=(70, 1024)).astype(np.float32)
    amax, _ = largest(partition(values, -1, 32), NanBlock.RAISE)
    np.testing.assert_array_equal(amax, np.abs(values).reshape(70, 32, 32).max(axis=-1))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(32))
def test_what_is_not_finite_is_seen_wherever_it_is(special, place):
    values = np.linspace(-3, 2, 64).reshape(2, 32)
    values[1, place] = special
    blocks = partition(values, -1, 32)
    with pytest.raises(ValueError, match="nan_block"):
        largest(blocks, NanBlock.RAISE)
    amax, finite = largest(blocks, NanBlock.IGNORE)
    assert finite.tolist() == [[True], [False]]
    assert amax.tolist() == [[3.0], [np.abs(np.delete(values[1], place)).max()]]


def test_blocks_are_joined_as_they_were_cut():
    values = np.arange(2 * 3 * 45.0).reshape(2, 3, 45)
    blocks = partition(values, 1, 16)
    assert blocks.values.shape == (2, 45, 1, 16)
    np.testing.assert_array_equal(blocks.join(blocks.values), np.moveaxis(values, 1, -1))


@pytest.mark.parametrize("shape", [(0, 0), (0, 45), (3, 0), (0, 32)])
def test_blocks_of_nothing_keep_their_shape(shape):
    blocks = partition(np.zeros(shape), -1, 16)
    assert blocks.join(np.zeros(blocks.values.shape, np.uint8)).shape == shape
