"""What flushing may take from a product: terms, and nothing else."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import MXFP4, BlockScaled, ScaleDecode
from fp4guard.oracle import Expected, SplitK, compare, exactly, gemm, generate, moe_gemm, within

seeds = st.integers(0, 2**32 - 1)
F32 = np.float32
TINY = 2.0**-127
"""What scale byte 0 stands for."""


def weights(rng, rows, k, signed=True, scales=(0, 0, 1, 127)):
    """MXFP4 (rows, k), no element 0, whose scale byte is 0 in many blocks."""
    codes = rng.integers(1, 8, (rows, k), dtype=np.uint8) | (8 * rng.integers(0, 1 + signed, (rows, k), dtype=np.uint8))
    return BlockScaled(MXFP4, codes, rng.choice(np.array(scales, np.uint8), (rows, k // 32)))


def dense(rng, rows, k, signed=True):
    """Values of bfloat16, of a few sizes, whose products with `weights` are normal numbers."""
    values = rng.integers(1, 200, (rows, k)) * 2.0 ** rng.integers(20, 26, (rows, k))
    return values * (rng.choice([-1.0, 1.0], (rows, k)) if signed else 1.0)


def decoded(b, tiny):
    """`b` as a kernel decodes it that takes scale byte 0 for `tiny`."""
    values = b.decode()
    flushed = np.repeat(b.scales == 0, 32, axis=1)
    return np.where(flushed, values / TINY * tiny, values)


def exact(a, b, kept):
    """The sum of the terms that are kept, for one row of `a` and one of `b`."""
    return sum(Fraction(float(x)) * Fraction(float(y)) for x, y, keep in zip(a, b, kept, strict=True) if keep)


def allowed(expected: Expected, values) -> bool:
    return compare(np.asarray(values).astype(F32).view(np.uint32), "float32", expected) is None


@given(seeds, st.integers(1, 3), st.booleans())
def test_any_terms_that_may_be_flushed_may_be_missing(seed, blocks, block_scaled):
    rng = np.random.default_rng(seed)
    k = 32 * blocks
    b = weights(rng, 3, k)
    a = weights(rng, 2, k, scales=(0, 140, 160)) if block_scaled else dense(rng, 2, k)
    expected = gemm(a, b)
    left, right = (x.decode() if isinstance(x, BlockScaled) else x for x in (a, b))
    for (i, j), low in np.ndenumerate(expected.low):
        x, y = left[i], right[j]
        small = np.repeat(b.scales[j] == 0, 32) | (np.abs(y) < 2.0**-126) | (np.abs(x) < 2.0**-126)
        for lost in (np.zeros(k), np.ones(k), rng.random(k) < 0.5, x * y > 0, x * y < 0):
            assert Fraction(low) <= exact(x, y, ~(small & (lost != 0))) <= Fraction(expected.high[i, j])


@given(seeds)
def test_so_may_those_of_what_an_earlier_step_left(seed):
    rng = np.random.default_rng(seed)
    b, centre = weights(rng, 3, 64), dense(rng, 2, 64)
    a = within(centre, np.abs(centre) * rng.choice([0.0, 2.0**-8, 1.5], (2, 64)))
    expected = gemm(a, b)
    for (i, j), low in np.ndenumerate(expected.low):
        y, small = b.decode()[j], np.repeat(b.scales[j] == 0, 32)
        for x in (a.low[i], a.high[i], np.where(y > 0, a.low[i], a.high[i]), rng.uniform(a.low[i], a.high[i])):
            for lost in (np.zeros(64), rng.random(64) < 0.5, x * y > 0, x * y < 0):
                assert Fraction(low) <= exact(x, y, ~(small & (lost != 0))) <= Fraction(expected.high[i, j])


@given(seeds, st.integers(1, 3), st.sampled_from([1.0, -1.0]), st.booleans())
def test_terms_of_one_sign_do_not_double(seed, blocks, sign, block_scaled):
    rng = np.random.default_rng(seed)
    k = 32 * blocks
    b = weights(rng, 3, k, signed=False, scales=(0, 1))
    a = weights(rng, 2, k, signed=False, scales=(140,)) if block_scaled else dense(rng, 2, k, signed=False)
    a = BlockScaled(MXFP4, a.elements | np.uint8(8 * (sign < 0)), a.scales) if block_scaled else sign * a
    expected, left = gemm(a, b), a.decode() if block_scaled else a
    for tiny in (0.0, TINY):
        assert allowed(expected, left @ decoded(b, tiny).T)
    doubled = left @ decoded(b, 2 * TINY).T
    concerned = (b.scales == 0).any(axis=1)[None, :] & np.ones((2, 1), bool)
    inside = (expected.low <= doubled) & (doubled <= expected.high)
    np.testing.assert_array_equal(inside, ~concerned)


def test_of_terms_of_both_signs_each_side_may_be_lost():
    # 30 - 6: the kernel may lose any of the six terms, and be from -6 to 30.
    a = np.array([[1.0] * 5 + [-1.0] + [0.0] * 26]) * 2.0**40
    b = BlockScaled(MXFP4, np.full((1, 32), 7, np.uint8), np.zeros((1, 1), np.uint8))
    expected = gemm(a, b)
    unit = 2.0**40 * TINY
    np.testing.assert_allclose(
        [expected.low[0, 0], expected.value[0, 0], expected.high[0, 0]], np.array([-6, 24, 30]) * unit, rtol=2.0**-16
    )
    assert not allowed(expected, 2 * expected.value)


def test_other_blocks_stay_as_certain_as_they_were():
    rng = np.random.default_rng(0)
    b = generate.blocks("exact", 4, 96, rng)
    scales = b.scales.copy()
    scales[1, 2] = 0
    elements = b.elements.copy()
    elements[1, 64:] = 0
    b = BlockScaled(MXFP4, elements, scales)
    assert gemm(generate.blocks("exact", 3, 96, rng), b).certified.all()
    elements[2, 70], scales[2, 2] = 7, 0
    a = BlockScaled(MXFP4, np.full((3, 96), 2, np.uint8), np.full((3, 3), 127, np.uint8))
    certified = gemm(a, BlockScaled(MXFP4, elements, scales)).certified
    assert certified[:, [0, 1, 3]].all()
    assert not certified[:, 2].any()


class TestConsumers:
    """A scale byte 0 that is taken for 2^-126 is found in whatever is made of the product."""

    def operands(self):
        rng = np.random.default_rng(0)
        return dense(rng, 5, 96, signed=False), weights(rng, 13, 96, signed=False, scales=(0,))

    def make(self, how, a, b, product):
        """The expectation, and what a kernel makes of its product."""
        if how == "gemm":
            return gemm(a, b), product
        if how == "alpha and bias":
            bias = np.full(13, 2.0**-100, F32)
            return gemm(a, b, alpha=0.75, bias=bias), product * 0.75 + 2.0**-100
        if how == "split-K":
            return gemm(a, b, splits=SplitK(32)), product
        if how == "narrow split-K":
            return gemm(a, b, splits=SplitK(96, "bfloat16")), torch.tensor(product).bfloat16().double().numpy()
        if how == "of what an earlier step left":
            return gemm(within(a, np.abs(a) * 2.0**-9), b), product
        assert how == "experts"
        ids = np.zeros((5, 1), np.int64)
        return moe_gemm(exactly(a), [b], ids, scale_decode=ScaleDecode.STANDARD)[:, 0], product

    @pytest.mark.parametrize(
        "how", ["gemm", "alpha and bias", "split-K", "narrow split-K", "of what an earlier step left", "experts"]
    )
    def test_twice_the_scale_is_refused_and_none_is_not(self, how):
        a, b = self.operands()
        for tiny, right in ((TINY, True), (0.0, True), (2 * TINY, False)):
            expected, result = self.make(how, a, b, a @ decoded(b, tiny).T)
            assert allowed(expected, result) == right

    def test_the_message_says_how_far_it_may_be_on_that_side(self):
        a, b = self.operands()
        expected = gemm(a, b)
        doubled = (2 * expected.value).astype(F32)
        worst = compare(doubled.view(np.uint32), "float32", expected).worst
        assert worst.bound < 2.0**-16 * worst.exact
        negative = compare((-doubled).view(np.uint32), "float32", expected).worst
        assert negative.bound >= negative.exact


def test_wild_data_finds_a_scale_that_is_twice_too_large():
    # W4A16 as a fuzzer draws it. Where the terms of a block are mostly of one sign, twice the block is too much.
    found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        a, b = generate.dense("wild", (5, 32), "bfloat16", rng), generate.blocks("wild", 13, 32, rng)
        if not np.isfinite(a).all():
            continue
        expected = gemm(a, b)
        block = a @ np.where(np.repeat(b.scales == 0, 32, axis=1), b.decode(), 0.0).T
        right, missing, wrong = (np.where(expected.nan, np.nan, expected.value + n * block) for n in (0, -1, 1))
        with np.errstate(over="ignore"):
            assert allowed(expected, right)
            assert allowed(expected, missing)
            found += not allowed(expected, wrong)
    assert found >= 10
