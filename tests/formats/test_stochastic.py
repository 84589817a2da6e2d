"""Stochastic rounding as a random variable: how often it rounds up, against what the binomial distribution allows."""

import math

import numpy as np
import pytest

from fp4guard.formats import E2M1, E4M3, E8M0, FLOAT16, Rounding, codec

DRAWS = 200_000
#: With what probability a correct rounder fails one of the comparisons below.
FAILURE = 1e-12
#: Hoeffding: of n independent draws the count is further than this from its mean with a probability below FAILURE.
ALLOWED = math.sqrt(DRAWS * math.log(2 / FAILURE) / 2)

# (format, the value below, the value above)
PAIRS = [
    (E2M1, 0.0, 0.5),
    (E2M1, 4.0, 6.0),
    (E4M3, 2.0**-9, 2.0**-8),
    (E4M3, 1.0, 1.125),
    (E4M3, 120.0, 128.0),
    (E8M0, 2.0, 4.0),
    (FLOAT16, 1.0, 1 + 2.0**-10),
]
SHARES = [1 / 64, 0.3, 0.5, 0.75, 63 / 64]


def biased(fmt, values, rng):
    """Draws 4 bits and adds them below the last one kept, as a kernel does that is short of random bits."""
    words = rng.integers(0, 16, values.shape, np.uint32) << np.uint32(28) | np.uint32(1 << 27)
    return codec.encode(fmt, values, Rounding.STOCHASTIC, random=words)


def correct(fmt, values, rng):
    return codec.encode(fmt, values, Rounding.STOCHASTIC, random=rng)


def is_rejected(encode, fmt, low, high, share, seed):
    value = low + share * (high - low)
    codes = encode(fmt, np.full(DRAWS, value), np.random.default_rng(seed))
    below, above = codec.encode(fmt, [low, high]) if low else (0, codec.encode(fmt, high))
    up = int((codes == above).sum())
    assert up + int((codes == below).sum()) == DRAWS
    return abs(up - DRAWS * share) > ALLOWED


@pytest.mark.parametrize(("fmt", "low", "high"), PAIRS, ids=lambda value: getattr(value, "name", str(value)))
def test_rounds_up_in_proportion(fmt, low, high):
    for seed, share in enumerate(SHARES):
        assert not is_rejected(correct, fmt, low, high, share, seed)


def test_a_biased_rounder_is_rejected():
    """It never rounds 1/64 up, and 63/64 always: the bound sees a sixty-fourth."""
    for share in (1 / 64, 63 / 64):
        assert is_rejected(biased, E2M1, 1.0, 1.5, share, seed=0)


def test_negative_values_mirror_positive_ones():
    values = np.random.default_rng(0).normal(size=1000)
    words = np.random.default_rng(1).integers(0, 1 << 32, 1000, np.uint32)
    positive = codec.encode(E2M1, np.abs(values), Rounding.STOCHASTIC, random=words)
    negative = codec.encode(E2M1, -np.abs(values), Rounding.STOCHASTIC, random=words)
    np.testing.assert_array_equal(negative, positive | 8)


def test_values_of_the_format_stay_whatever_is_drawn():
    values = codec.decode(E2M1, np.arange(16, dtype=np.uint8))
    for word in (0, 1, 2**31, 2**32 - 1):
        words = np.full(16, word, np.uint32)
        np.testing.assert_array_equal(codec.encode(E2M1, values, Rounding.STOCHASTIC, random=words), np.arange(16))


def test_the_comparison_is_exact():
    """A third of the way: 2^32 / 3 words round up, no more and no fewer."""
    value = np.nextafter(1 / 6, 1)  # above a third of the way from 0 to 0.5
    last = int(value / 0.5 * 2**32)
    words = np.array([0, last - 1, last, last + 1], np.uint32)
    found = codec.encode(E2M1, np.full(4, value), Rounding.STOCHASTIC, random=words)
    assert found.tolist() == [1, 1, 1, 0]


def test_a_generator_gives_the_same_twice_and_draws_what_one_could_give():
    values = np.random.default_rng(0).normal(size=(7, 11))
    first, second = (codec.encode(E2M1, values, Rounding.STOCHASTIC, random=np.random.default_rng(5)) for _ in range(2))
    words = np.random.default_rng(5).integers(0, 1 << 32, (7, 11), np.uint32)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, codec.encode(E2M1, values, Rounding.STOCHASTIC, random=words))
