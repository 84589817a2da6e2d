import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import MXFP4, BlockScaled
from fp4guard.oracle import REGIMES, gemm, generate
from fp4guard.oracle.certificate import FP32, Accumulator, _certified_at_once, certify, exact_sums, lowest_products
from fp4guard.oracle.operand import NO_BIT, from_blocks, from_dense, lowest_bit

seeds = st.integers(0, 2**32 - 1)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_lowest_bit_is_the_power_of_two_that_divides(value):
    bit = int(lowest_bit(np.array([value]))[0])
    if value == 0:
        assert bit == NO_BIT
    else:
        numerator, denominator = abs(value).as_integer_ratio()
        assert bit == (numerator & -numerator).bit_length() - denominator.bit_length()


@given(seeds, st.sampled_from(list(REGIMES)))
def test_mx_operands_are_their_decoded_matrices(seed, regime):
    matrix = generate.blocks(regime, 5, 96, np.random.default_rng(seed))
    packed, dense = from_blocks(matrix, "matrix"), from_dense(matrix.decode(), "a")
    np.testing.assert_array_equal(packed.values, dense.values)
    np.testing.assert_array_equal(packed.low, dense.low)
    np.testing.assert_array_equal(packed.nan_rows, dense.nan_rows)
    assert packed.largest == dense.largest


@given(seeds, st.sampled_from(list(REGIMES)))
def test_lowest_products_divide_every_product(seed, regime):
    rng = np.random.default_rng(seed)
    a, b = (from_blocks(generate.blocks(regime, 4, 96, rng), "a") for _ in range(2))
    products = a.values[:, None, :] * b.values[None, :, :]
    assert (lowest_bit(products).min(axis=2) >= np.minimum(lowest_products(a, b), NO_BIT)).all()


@given(seeds, st.sampled_from(list(REGIMES)), st.integers(4, 52))
def test_the_certificate_at_once_implies_that_of_every_element(seed, regime, bits):
    rng = np.random.default_rng(seed)
    a, b = (from_blocks(generate.blocks(regime, 4, 64, rng), "a") for _ in range(2))
    if _certified_at_once(a, b, bits):
        magnitude = np.abs(a.values) @ np.abs(b.values).T
        assert exact_sums(magnitude, lowest_products(a, b), bits).all()


def test_the_limit_itself_is_certified_and_one_more_is_not():
    # 2^24 ones sum to 2^24, the last integer up to which float32 has all of them.
    low = np.zeros((1, 1), np.int16)
    assert exact_sums(np.array([[2.0**24]]), low).all()
    assert not exact_sums(np.array([[2.0**24 + 1]]), low).any()


def test_the_largest_k_of_uniform_scales():
    # 144 * K <= 2^24, and all of a row's elements at their largest except one at its lowest bit.
    for k, certified in ((116480, True), (116544, False)):
        elements = np.full((1, k), 7, np.uint8)
        elements[0, 0] = 1
        matrix = BlockScaled(MXFP4, elements, np.full((1, k // 32), 127, np.uint8))
        assert bool(gemm(matrix, matrix).certified.all()) == certified


def test_elements_are_certified_one_by_one():
    # The second row's scales lie too far apart for one accumulator; the first row's outputs stay certified.
    scales = np.full((2, 2), 127, np.uint8)
    scales[1, 0] = 100
    a = BlockScaled(MXFP4, np.full((2, 64), 2, np.uint8), scales)
    assert gemm(a, BlockScaled.from_codes(MXFP4, a.codes[:1], a.scales[:1])).certified.tolist() == [[True], [False]]


@given(seeds)
def test_any_summation_tree_is_within_the_bound(seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(1, 60)) * np.exp2(rng.integers(-12, 12, (1, 60))) for _ in range(2))
    a, b = a.astype(np.float32), b.astype(np.float32)
    terms = [np.float32(x * y) for x, y in zip(a[0], b[0], strict=True)]
    while len(terms) > 1:
        one, two = (terms.pop(int(rng.integers(len(terms)))) for _ in range(2))
        terms.append(one + two)
    left, right = from_dense(a, "a"), from_dense(b, "b")
    value = left.values @ right.values.T
    bound = float(certify(left, right, value, FP32).above[0, 0])
    exact = math.fsum(x * y for x, y in zip(left.values[0].tolist(), right.values[0].tolist(), strict=True))
    assert abs(float(terms[0]) - exact) <= bound
    magnitude = float((np.abs(left.values) @ np.abs(right.values).T)[0, 0])
    assert bound < 61 * 2.0**-24 * magnitude  # it is Higham's, and no looser


@pytest.mark.parametrize(
    ("bits", "roundoff", "match"),
    [
        (0, 0.5, "bits: 0"),
        (53, 0.5, "bits: 53"),
        (24, -1.0, "unit_roundoff: -1.0"),
        (24, math.nan, "unit_roundoff: nan"),
    ],
)
def test_accumulators_that_are_none_are_refused(bits, roundoff, match):
    with pytest.raises(ValueError, match=match):
        Accumulator(bits, roundoff)
