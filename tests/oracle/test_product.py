"""Products of operands of every format, and of what an earlier step left."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard.formats import BLOCK_FORMATS, MXFP4, MXFP8_E4M3, MXFP8_E5M2, NVFP4, BlockScaled, ScaleDecode
from fp4guard.formats.blocks import element_values, per_element
from fp4guard.oracle import FP32_TRUNCATING, REGIMES, Expected, compare, exactly, gemm, generate, within

seeds = st.integers(0, 2**32 - 1)
regimes = st.sampled_from(list(REGIMES))
formats = st.sampled_from([*BLOCK_FORMATS.values(), "bfloat16", "float32"])
F32 = np.float32


def operand(kind, regime, rows, k, rng):
    if isinstance(kind, str):
        return generate.dense(regime, (rows, k), kind, rng).astype(F32)
    matrix = generate.blocks(regime, rows, k, rng, kind)
    return BlockScaled(kind, matrix.elements, matrix.scales)  # of NVFP4, without the tensor's scale


def near(kind, byte, signed, rows, rng):
    """An operand (rows, 96) whose scales are about 2^(byte - 127), down to byte 0."""
    spread = rng.integers(-12, 13, (rows, 6))
    if isinstance(kind, str):
        exponents = np.clip(byte - 127 + np.repeat(spread, 16, axis=1), -149, 100)
        values = F32(rng.integers(-8 if signed else 1, 9, (rows, 96)) * 2.0**exponents)
        return values if kind == "float32" else (values.view(np.uint32) & 0xFFFF0000).view(F32)
    codes = rng.integers(0, kind.element.codes if signed else kind.element.codes // 2, (rows, 96), dtype=np.uint8)
    codes = np.where(np.isfinite(element_values(kind.element))[codes], codes, 1).astype(np.uint8)
    if kind is NVFP4:
        return BlockScaled(kind, codes, rng.integers(1, 120, (rows, 6), dtype=np.uint8))
    return BlockScaled(kind, codes, np.clip(byte + spread[:, :3], 0, 254).astype(np.uint8))


def flush(x):
    return np.where(np.abs(x) < F32(2.0**-126), F32(0) * x, x)


def keep(x):
    return x


def parts(matrix):
    """Elements and their scales, both float32 (rows, k); a dense matrix is its own elements."""
    if isinstance(matrix, np.ndarray):
        return matrix, np.ones_like(matrix)
    elements = np.take(element_values(matrix.format.element), matrix.elements).astype(F32)
    return elements, per_element(matrix.decode_scales(), matrix.shape[1], matrix.format.length).astype(F32)


def scales_first(a, b, subnormal, rng):
    """Dequantized to float32, one product after the other."""
    (left, scale_left), (right, scale_right) = parts(a), parts(b)
    left, right = subnormal(subnormal(scale_left) * left), subnormal(subnormal(scale_right) * right)
    total = np.zeros((len(left), len(right)), F32)
    for k in rng.permutation(left.shape[1]):
        total = subnormal(total + subnormal(left[:, k, None] * right[None, :, k]))
    return total


def scales_last(together):
    """Blocks of 16 summed before their scales: both multiplied with each other first, or one by one."""

    def kernel(a, b, subnormal, rng):
        (left, scale_left), (right, scale_right) = parts(a), parts(b)
        total = np.zeros((len(left), len(right)), F32)
        for start in 16 * rng.permutation(-(-left.shape[1] // 16)):
            part = np.zeros_like(total)
            for k in range(start, min(start + 16, left.shape[1])):
                part = subnormal(part + subnormal(left[:, k, None] * right[None, :, k]))
            one, two = subnormal(scale_left[:, start, None]), subnormal(scale_right[None, :, start])
            part = part * subnormal(one * two) if together else subnormal(part * one) * two
            total = subnormal(total + subnormal(part))
        return total

    return kernel


@pytest.mark.parametrize("kernel", [scales_first, scales_last(True), scales_last(False)])
@pytest.mark.parametrize("subnormal", [keep, flush])
@given(seeds, regimes, formats, formats)
def test_every_correct_kernel_passes_for_every_pair_of_formats(kernel, subnormal, seed, regime, left, right):
    rng = np.random.default_rng(seed)
    a, b = operand(left, regime, 5, 96, rng), operand(right, regime, 4, 96, rng)
    with np.errstate(all="ignore"):
        output = kernel(a, b, subnormal, rng)
    assert compare(output.view(np.uint32), "float32", gemm(a, b)) is None


@pytest.mark.parametrize("kernel", [scales_first, scales_last(True), scales_last(False)])
@given(seeds, formats, formats, st.integers(-40, 60), st.booleans())
def test_so_does_one_that_flushes_now_and_then_near_the_end_of_the_range(kernel, seed, left, right, apart, signed):
    rng = np.random.default_rng(seed)

    def subnormal(x):
        return np.where(rng.random(x.shape) < 0.5, flush(x), x)

    a, b = near(left, 64 + apart, signed, 5, rng), near(right, 64 - apart, signed, 4, rng)
    with np.errstate(all="ignore"):
        output = kernel(a, b, subnormal, rng)
    assert compare(output.view(np.uint32), "float32", gemm(a, b)) is None


@given(seeds, regimes, formats, formats, st.sampled_from([1, 17, 32, 50]))
def test_the_exact_product_is_inside_tails_included(seed, regime, left, right, k):
    rng = np.random.default_rng(seed)
    a, b = (operand(kind, regime, 3, 64, rng) for kind in (left, right))

    def cut(matrix):
        if isinstance(matrix, np.ndarray):
            return matrix[:, :k]
        return BlockScaled(matrix.format, matrix.elements[:, :k], matrix.scales[:, : matrix.format.blocks(k)])

    a, b = cut(a), cut(b)
    expected = gemm(a, b)
    one, two = (x if isinstance(x, np.ndarray) else x.decode() for x in (a, b))
    for (i, j), nan in np.ndenumerate(expected.nan):
        if nan or expected.unconstrained[i, j] or np.isinf(expected.value[i, j]):
            continue
        exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(one[i], two[j]))
        assert Fraction(expected.low[i, j]) <= exact <= Fraction(expected.high[i, j])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_tensors_are_dense_operands(dtype):
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.integers(-3, 4, (5, 64)).astype(F32)).to(dtype)
    expected = gemm(values, generate.blocks("exact", 4, 64, rng))
    assert expected.certified.all()
    same = gemm(values.to(torch.float32), generate.blocks("exact", 4, 64, np.random.default_rng(0)))
    assert same.shape == expected.shape


def test_planted_mistakes_are_outside():
    rng = np.random.default_rng(0)
    a, b = generate.blocks("exact", 8, 128, rng, NVFP4), generate.blocks("exact", 8, 128, rng)
    b = BlockScaled(MXFP4, b.elements, rng.integers(125, 130, b.scales.shape, dtype=np.uint8))
    expected = gemm(a, b, alpha=1.0)
    a = BlockScaled(a.format, a.elements, a.scales)
    right = (a.decode() @ b.decode().T).astype(F32)
    assert compare(right.view(np.uint32), "float32", expected) is None
    shifted = BlockScaled(MXFP4, b.elements, np.roll(b.scales, 1, axis=1))
    swapped = BlockScaled(MXFP4, b.elements.reshape(8, -1, 2)[..., ::-1].reshape(8, -1), b.scales)
    short = BlockScaled(MXFP4, np.where(np.arange(128) < 127, b.elements, 0).astype(np.uint8), b.scales)
    for mistaken in (shifted, swapped, short):
        wrong = (a.decode() @ mistaken.decode().T).astype(F32)
        assert compare(wrong.view(np.uint32), "float32", expected) is not None


class TestReach:
    """What flushing and overflow of scales may cost, one case each."""

    def matrix(self, code, scale, fmt=MXFP4):
        return BlockScaled(fmt, np.full((1, 32), code, np.uint8), np.full((1, 1), scale, np.uint8))

    def test_a_product_of_scales_that_is_subnormal_is_not_certified(self):
        # 4 * 2^-64 twice: every product is 2^-124, but 2^-64 * 2^-64 may be flushed before it meets the 16s.
        expected = gemm(self.matrix(6, 63), self.matrix(6, 63))
        assert not expected.certified.any()
        assert expected.low <= 0
        assert gemm(self.matrix(6, 64), self.matrix(6, 64)).certified.all()

    def test_sums_before_the_second_scale_may_be_flushed(self):
        # 2^-117 * 2^-9 is a normal number. Times 2^-9 it is none, until the scale of 2^100 is applied.
        a, b = self.matrix(1, 10, MXFP8_E4M3), self.matrix(1, 227, MXFP8_E4M3)
        assert not gemm(a, b).certified.any()
        assert gemm(a, b).low <= 0
        assert not gemm(self.matrix(1, 18, MXFP8_E4M3), b).certified.any()
        assert gemm(self.matrix(1, 19, MXFP8_E4M3), b).certified.all()

    def test_larger_elements_overflow_earlier(self):
        def allowed(fmt, scale):
            return not gemm(self.matrix(fmt.element.max_code, scale, fmt), self.matrix(0, 127, fmt)).unconstrained.any()

        assert allowed(MXFP4, 240)
        assert not allowed(MXFP8_E4M3, 240)
        assert allowed(MXFP8_E4M3, 230)

    def test_a_dense_operand_meets_elements_before_their_scale(self):
        small = self.matrix(7, 60)
        assert gemm(np.full((1, 32), 2.0**125), small).unconstrained.all()
        assert not gemm(np.full((1, 32), 2.0**100), small).unconstrained.any()
        assert not gemm(np.full((1, 1), 2.0**127), np.full((1, 1), 0.5)).unconstrained.any()


class TestScaleDecode:
    def test_a_shift_makes_zero_and_infinity_of_the_ends(self):
        scales = np.array([[0], [255], [127]], np.uint8)
        b = BlockScaled(MXFP4, np.full((3, 32), 2, np.uint8), scales)
        a = np.ones((1, 32))
        shift = gemm(a, b, scale_decode=ScaleDecode.SHIFT)
        assert shift.value.tolist() == [[0, np.inf, 32]]
        assert shift.certified.all()
        standard = gemm(a, b)
        assert standard.nan.tolist() == [[False, True, False]]
        assert standard.value[0, 0] == 32 * 2.0**-127

    def test_an_infinite_sum_times_a_scale_that_vanishes(self):
        # An Inf of E5M2: times 2^-34 * 2^-127, multiplied with each other first, it is Inf * 0.
        elements = np.full((1, 32), MXFP8_E5M2.element.infinity, np.uint8)
        b = BlockScaled(MXFP8_E5M2, elements, np.full((1, 1), 93, np.uint8))
        a = BlockScaled(MXFP4, np.full((2, 32), 2, np.uint8), np.array([[1], [127]], np.uint8))
        assert gemm(a, b).unconstrained.tolist() == [[True], [False]]
        assert gemm(np.ones((1, 32)), b).certified.all()

    def test_zero_times_infinity(self):
        b = BlockScaled(MXFP4, np.eye(1, 32, dtype=np.uint8), np.full((1, 1), 255, np.uint8))
        assert gemm(np.ones((1, 32)), b, scale_decode=ScaleDecode.SHIFT).nan.all()


class TestEnclosures:
    @settings(max_examples=50)
    @given(seeds, st.sampled_from(["exact", "ties"]), formats)
    def test_products_of_anything_in_the_interval_are_inside(self, seed, regime, kind):
        rng = np.random.default_rng(seed)
        b = operand(kind, regime, 4, 64, rng)
        centre = rng.normal(size=(5, 64))
        a = within(centre, np.where(rng.random((5, 64)) < 0.3, np.abs(rng.normal(size=(5, 64))) * 2.0**-9, 0.0))
        expected = gemm(a, b)
        decoded = b if isinstance(b, np.ndarray) else b.decode()
        for corner in range(6):
            x = [a.low, a.high, a.value][corner] if corner < 3 else rng.uniform(a.low, a.high)
            if corner == 5:  # the farthest of the first column
                x = np.where(decoded[0] > 0, a.high, a.low)
            result = np.array(
                [[sum(Fraction(p) * Fraction(float(q)) for p, q in zip(row, col)) for col in decoded] for row in x]
            )
            assert all(
                Fraction(low) <= r <= Fraction(high)
                for low, r, high in zip(expected.low.flat, result.flat, expected.high.flat)
            )

    def test_rows_of_single_values_stay_certified(self):
        rng = np.random.default_rng(0)
        values = rng.integers(-3, 4, (3, 64)).astype(np.float64)
        a = within(values, np.array([[0.0], [2.0**-8], [0.0]]) * np.ones((3, 64)))
        b = generate.blocks("exact", 4, 64, rng)
        expected = gemm(a, b)
        assert expected.certified[[0, 2]].all()
        assert not expected.certified[1].any()
        whole = gemm(exactly(values), b)
        assert whole.is_point
        np.testing.assert_array_equal(whole.value, gemm(values, b).value)

    def test_nan_inf_and_what_is_unknown_take_the_whole_row(self):
        value = np.ones((4, 32))
        nan, unknown, high = np.zeros((4, 32), bool), np.zeros((4, 32), bool), value.copy()
        nan[0, 3] = unknown[0, 5] = unknown[1, 7] = True
        high[2, 9] = np.inf
        expected = gemm(Expected(value, value, high, nan, unknown), np.ones((2, 32)))
        assert expected.nan[:, 0].tolist() == [True, False, False, False]
        assert (expected.unconstrained & ~expected.nan)[:, 0].tolist() == [False, True, True, False]
        assert expected.certified[3].all()

    def test_a_partial_sum_of_other_values_in_the_interval_may_be_flushed(self):
        # 1 - 2 + 1 cannot be subnormal, in units of 2^-126; 1 - 1.5 is, and becomes 0.
        a = within(np.array([[1.0, -2.0, 1.0]]), np.array([[0.0, 0.5, 0.0]]))
        expected = gemm(a, np.full((1, 3), 2.0**-126))
        assert expected.high >= 2.0**-126

    def test_the_width_is_the_intervals_times_the_other_operand(self):
        a = within(np.ones((1, 32)), 2.0**-8)
        expected = gemm(a, np.full((1, 32), 0.5), FP32_TRUNCATING)
        assert 16 * 2.0**-8 <= expected.bound <= 16 * 2.0**-8 + 32 * 2.0**-22 * 17
