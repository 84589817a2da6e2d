"""The exact product, against rational arithmetic and against kernels that are correct, each its own way."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import MXFP4, NVFP4, BlockScaled, e8m0, packing, round_to
from fp4guard.oracle import FP8_HOPPER, FP32, FP32_TRUNCATING, REGIMES, Accumulator, SplitK, compare, gemm, generate
from fp4guard.oracle.certificate import gamma

seeds = st.integers(0, 2**32 - 1)
regimes = st.sampled_from(list(REGIMES))
CERTIFIED = [name for name, regime in REGIMES.items() if regime.certified]


def pair(regime, seed, m=5, n=4, k=96):
    rng = np.random.default_rng(seed)
    return generate.blocks(regime, m, k, rng), generate.blocks(regime, n, k, rng)


def rational(a, b):
    """The product in exact arithmetic, as an array of Fractions, NaN taken as 0."""
    left, right = ([[Fraction(x) for x in row] for row in np.nan_to_num(side)] for side in (a, b))
    return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in right] for row in left]


def flush(x):
    return np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0) * x, x)


def keep(x):
    return x


def dequantize_first(a, b, order, subnormal):
    """float32 elements, float32 products, float32 sums one after the other."""
    left, right = (subnormal(matrix.decode().astype(np.float32)) for matrix in (a, b))
    total = np.zeros((len(left), len(right)), np.float32)
    for k in order:
        total = subnormal(total + subnormal(left[:, k, None] * right[None, :, k]))
    return total


def scale_afterwards(a, b, order, subnormal, *, together):
    """Exact sums of a block's codes, then both scales: multiplied with each other first, or one by one."""
    left, right = (packing.decode_packed(matrix.codes) for matrix in (a, b))
    scale_left, scale_right = (subnormal(e8m0.decode(matrix.scales).astype(np.float32)) for matrix in (a, b))
    total = np.zeros((len(left), len(right)), np.float32)
    for block in dict.fromkeys(int(k) // 32 for k in order):
        part = left[:, 32 * block : 32 * block + 32] @ right[:, 32 * block : 32 * block + 32].T
        one, two = scale_left[:, block, None], scale_right[None, :, block]
        part = part * subnormal(one * two) if together else subnormal(part * one) * two
        total = subnormal(total + subnormal(part))
    return total


def together(a, b, order, subnormal):
    return scale_afterwards(a, b, order, subnormal, together=True)


def one_by_one(a, b, order, subnormal):
    return scale_afterwards(a, b, order, subnormal, together=False)


@given(seeds, regimes, st.integers(0, 3))
def test_value_is_exact_where_certified_and_within_its_bound_elsewhere(seed, regime, blocks):
    a, b = pair(regime, seed, k=32 * blocks)
    expected, exact = gemm(a, b), rational(a.decode(), b.decode())
    for (i, j), value in np.ndenumerate(expected.value):
        if not expected.nan[i, j]:
            assert abs(Fraction(value) - exact[i][j]) <= Fraction(expected.bound[i, j])


@pytest.mark.parametrize("kernel", [dequantize_first, together, one_by_one])
@pytest.mark.parametrize("subnormal", [keep, flush])
@given(seeds, regimes, st.sampled_from(["float32", "bfloat16", "float16"]))
def test_every_correct_kernel_passes(kernel, subnormal, seed, regime, dtype_name):
    a, b = pair(regime, seed)
    order = np.random.default_rng(seed).permutation(a.shape[1])
    with np.errstate(all="ignore"):
        output = kernel(a, b, order, subnormal)
    bits = round_to(output.astype(np.float64), dtype_name).bits
    assert compare(bits, dtype_name, gemm(a, b)) is None


@pytest.mark.parametrize("subnormal", [keep, flush])
@given(seeds, regimes, st.sampled_from(["float32", "bfloat16", "float16"]))
def test_every_correct_dense_kernel_passes(subnormal, seed, regime, dtype_name):
    rng = np.random.default_rng(seed)
    a, b = (generate.dense(regime, (rows, 40), dtype_name, rng).astype(np.float32) for rows in (6, 5))
    total = np.zeros((6, 5), np.float32)
    with np.errstate(all="ignore"):
        left, right = subnormal(a), subnormal(b)
        for k in rng.permutation(40):
            total = subnormal(total + subnormal(left[:, k, None] * right[None, :, k]))
    assert compare(total.view(np.uint32), "float32", gemm(a, b)) is None


@given(seeds, st.sampled_from(CERTIFIED))
def test_certified_sums_are_the_same_in_every_order(seed, regime):
    a, b = pair(regime, seed, k=224)
    rng = np.random.default_rng(seed)
    sums = [dequantize_first(a, b, rng.permutation(224), keep).astype(np.float64) for _ in range(2)]
    expected = gemm(a, b)
    for total in sums:
        np.testing.assert_array_equal(total[~expected.nan], expected.value[~expected.nan])


def test_beyond_the_certificate_some_sums_are_rounded_and_stay_within_the_bound():
    rng = np.random.default_rng(0)
    k, spread = 1024, 11
    a, b = (
        BlockScaled(
            MXFP4,
            rng.integers(0, 16, (24, k), dtype=np.uint8),
            rng.integers(120, 121 + spread, (24, k // 32), dtype=np.uint8),
        )
        for _ in range(2)
    )
    expected = gemm(a, b)
    total = dequantize_first(a, b, rng.permutation(k), keep).astype(np.float64)
    assert not expected.certified.all()
    assert (total != expected.value).any()
    assert (np.abs(total - expected.value) <= expected.bound).all()


@dataclass
class Carrier:
    matrix: BlockScaled


class TestOperands:
    def test_an_object_with_mx_is_that_matrix_and_results_are_cached_by_identity(self):
        a, b = pair("exact", 0)
        assert gemm(a, b) is gemm(Carrier(a), Carrier(b))
        assert gemm(a, b) is not gemm(BlockScaled.from_codes(MXFP4, a.codes, a.scales), b)
        assert gemm(a, b) is not gemm(a, b, FP8_HOPPER)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_dense_tensors_and_arrays_and_mixtures(self, dtype):
        rng = np.random.default_rng(0)
        name = str(dtype).removeprefix("torch.")
        left = generate.dense("exact", (5, 64), name, rng)
        b = generate.blocks("exact", 4, 64, rng)
        tensor = torch.from_numpy(left).to(dtype)
        expected = gemm(tensor, b)
        np.testing.assert_array_equal(expected.value, left @ b.decode().T)
        np.testing.assert_array_equal(gemm(b, left).value, expected.value.T)
        np.testing.assert_array_equal(gemm(left.astype(np.float32), b.decode()).value, expected.value)

    def test_float32_products_are_bounded_when_they_are_not_exact(self):
        rng = np.random.default_rng(0)
        a, b = (rng.normal(size=(6, 45)).astype(np.float32) for _ in range(2))
        expected = gemm(a, b)
        assert not expected.certified.any()
        error = np.abs((a @ b.T).astype(np.float64) - expected.value)
        assert (error <= expected.bound).all()
        assert (expected.bound <= 1e-4).all()

    @pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 32), (3, 0, 32), (2, 3, 0)])
    def test_empty_matrices(self, m, n, k):
        a, b = pair("exact", 0, m, n, k)
        for expected in (gemm(a, b), gemm(a.decode(), b.decode())):
            np.testing.assert_array_equal(expected.value, np.zeros((m, n)))
            assert expected.certified.all()

    @pytest.mark.parametrize(
        ("a", "b", "error", "match"),
        [
            (np.zeros((2, 32)), np.zeros((2, 64)), ValueError, "k = 64; a has k = 32"),
            (np.zeros(32), np.zeros((2, 32)), ValueError, r"a: shape \(32,\); allowed is 2-D"),
            (np.zeros((2, 3)), np.zeros((2, 3), int), TypeError, "b: dtype int64"),
            (torch.zeros(2, 3, dtype=torch.uint8), np.zeros((2, 3)), TypeError, "a: dtype torch.uint8"),
            ([[1.0]], np.zeros((2, 1)), TypeError, "a: list"),
        ],
    )
    def test_others_are_refused(self, a, b, error, match):
        with pytest.raises(error, match=match):
            gemm(a, b)


class TestNan:
    @given(seeds, regimes)
    def test_one_nan_scale_in_a_row_or_a_column_is_enough(self, seed, regime):
        a, b = pair(regime, seed)
        nan = (a.scales == 255).any(axis=1)[:, None] | (b.scales == 255).any(axis=1)[None, :]
        np.testing.assert_array_equal(gemm(a, b).nan, nan)

    def test_zero_elements_pass_it_on(self):
        a = BlockScaled.from_codes(MXFP4, np.zeros((2, 16), np.uint8), np.array([[255], [127]], np.uint8))
        assert gemm(
            a, BlockScaled.from_codes(MXFP4, np.zeros((1, 16), np.uint8), np.full((1, 1), 127, np.uint8))
        ).nan.tolist() == [
            [True],
            [False],
        ]

    @given(seeds)
    def test_dense_nan_and_inf_are_ieee(self, seed):
        rng = np.random.default_rng(seed)
        special = [0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan]
        chances = [0.1, 0.1, 0.3, 0.36, 0.05, 0.05, 0.04]
        a, b = (rng.choice(special, (4, 5), p=chances) for _ in range(2))
        with np.errstate(invalid="ignore"):
            ieee = (a[:, None, :] * b[None, :, :]).sum(axis=2)
        expected = gemm(a, b)
        np.testing.assert_array_equal(np.where(expected.nan, np.nan, expected.value), ieee)
        assert expected.certified.all()

    def test_inf_times_what_may_be_flushed_is_unconstrained(self):
        expected = gemm(np.array([[np.inf, 1.0]]), np.array([[2.0**-127, 1.0], [1.0, 1.0]]))
        assert expected.unconstrained.tolist() == [[True, False]]
        assert expected.value.tolist() == [[np.inf, np.inf]]


class TestRange:
    def matrix(self, code, scale):
        return BlockScaled(MXFP4, np.full((1, 32), code, np.uint8), np.full((1, 1), scale, np.uint8))

    def test_sums_that_may_overflow_are_unconstrained(self):
        # 32 * 36 * 2^117 is just above 2^127, half of it is not.
        assert gemm(self.matrix(7, 185), self.matrix(7, 186)).unconstrained.all()
        assert not gemm(self.matrix(7, 185), self.matrix(7, 185)).unconstrained.any()

    def test_scales_that_overflow_when_multiplied_are_unconstrained_even_on_zeros(self):
        assert gemm(self.matrix(0, 200), self.matrix(0, 200)).unconstrained.all()
        assert not gemm(self.matrix(0, 190), self.matrix(0, 190)).unconstrained.any()

    def test_a_subnormal_scale_may_be_flushed(self):
        expected = gemm(self.matrix(7, 0), self.matrix(7, 150))
        assert expected.bound >= expected.value
        assert gemm(self.matrix(7, 20), self.matrix(7, 150)).bound == 0

    def test_sums_below_the_normal_numbers_are_not_certified(self):
        expected = gemm(self.matrix(1, 60), self.matrix(1, 60))  # products of 2^-136: all may be flushed
        assert expected.bound >= expected.value > 0
        assert gemm(self.matrix(7, 64), self.matrix(7, 64)).bound == 0


class TestAccumulator:
    def test_fewer_bits_certify_less_and_bound_more(self):
        a, b = pair("exact", 0, k=1024)
        narrow = gemm(a, b, FP8_HOPPER)
        assert gemm(a, b, FP32).certified.all()
        assert not narrow.certified.all()
        assert (narrow.bound[~narrow.certified] > 0).all()

    @given(seeds)
    def test_a_truncating_accumulator_keeps_to_its_own_bound(self, seed):
        rng = np.random.default_rng(seed)
        a, b = (rng.normal(size=(3, 50)).astype(np.float32) for _ in range(2))
        total = np.zeros((3, 3), np.float32)
        for k in range(50):
            exact = total.astype(np.float64) + a[:, k, None].astype(np.float64) * b[None, :, k]
            nearest = exact.astype(np.float32)
            total = np.where(np.abs(nearest) > np.abs(exact), np.nextafter(nearest, np.float32(0)), nearest)
        assert compare(total.view(np.uint32), "float32", gemm(a, b, FP32_TRUNCATING)) is None

    def test_the_references_own_error_is_in_the_bound(self):
        rng = np.random.default_rng(0)
        a, b = (rng.normal(size=(4, 300)) for _ in range(2))
        expected, exact = gemm(a, b, Accumulator(24, unit_roundoff=0.0)), rational(a, b)
        errors = [abs(Fraction(value) - exact[i][j]) for (i, j), value in np.ndenumerate(expected.value)]
        assert any(errors)
        assert all(error <= Fraction(bound) for error, bound in zip(errors, expected.bound.flat, strict=True))

    def test_bits_beyond_the_references_own_are_refused(self):
        with pytest.raises(ValueError, match=r"53; allowed are 1 \.\. 52"):
            Accumulator(bits=53)

    def test_gamma_is_highams_and_ends_at_one(self):
        assert gamma(0, 2.0**-24) == 0
        assert gamma(100, 2.0**-24) == 100 * 2.0**-24 / (1 - 100 * 2.0**-24)
        with pytest.raises(ValueError, match="n: 8192"):
            gamma(8192, 2.0**-13)


class TestEpilogue:
    """alpha, bias, and partials of narrower types."""

    def kernel(self, a, b, alpha, bias, *, fused):
        total = (a.decode_blocks() @ b.decode_blocks().T).astype(np.float32)
        if fused:  # one fused multiply-add: float64's rounding is far below float32's
            return (total.astype(np.float64) * alpha + bias).astype(np.float32)
        return total * np.float32(alpha) + bias.astype(np.float32)

    def nvfp4(self, rows, rng, tensor_scale):
        matrix = generate.blocks("exact", rows, 64, rng, NVFP4)
        return BlockScaled(NVFP4, matrix.elements, matrix.scales, tensor_scale)

    @given(seeds)
    def test_alpha_and_bias_fused_or_not(self, seed):
        rng = np.random.default_rng(seed)
        a, b = self.nvfp4(5, rng, 0.25), self.nvfp4(4, rng, 3.0)
        alpha, bias = np.float32(rng.uniform(0.5, 2)), rng.normal(size=4).astype(np.float32)
        expected = gemm(a, b, alpha=alpha, bias=bias)
        for fused in (False, True):
            output = self.kernel(a, b, alpha, bias, fused=fused)
            assert compare(output.view(np.uint32), "float32", expected) is None
        for wrong in (
            self.kernel(a, b, np.float32(1), bias, fused=False),
            self.kernel(a, b, alpha, -bias, fused=False),
            (self.kernel(a, b, np.float32(1), bias, fused=False) * alpha).astype(np.float32),  # the bias first
            self.kernel(a, b, np.float32(a.tensor_scale * b.tensor_scale), bias, fused=False),
        ):
            assert compare(wrong.view(np.uint32), "float32", expected) is not None

    def test_a_power_of_two_and_a_bias_of_integers_stay_certified(self):
        rng = np.random.default_rng(0)
        a, b = self.nvfp4(5, rng, 0.5), self.nvfp4(4, rng, 1.0)
        expected = gemm(a, b, alpha=0.5, bias=torch.tensor([1.0, -2.0, 3.0, 0.0], dtype=torch.bfloat16))
        assert expected.certified.all()
        np.testing.assert_array_equal(expected.value, a.decode() @ b.decode().T + [1, -2, 3, 0])

    def test_a_tensor_scale_needs_an_alpha(self):
        rng = np.random.default_rng(0)
        a, b = self.nvfp4(2, rng, 1.0), self.nvfp4(2, rng, 0.125)
        with pytest.raises(ValueError, match=r"alpha: None; b has tensor_scale 0.125"):
            gemm(a, b)
        with pytest.raises(ValueError, match=r"alpha: None; a has tensor_scale 0.125"):
            gemm(b, a)
        assert gemm(a, b, alpha=1.0).certified.all()

    def test_what_does_not_fit_is_refused(self):
        a, b = pair("exact", 0)
        with pytest.raises(ValueError, match=r"bias: shape \(5,\); allowed is \(4,\)"):
            gemm(a, b, bias=np.zeros(5))
        with pytest.raises(ValueError, match=r"bias: 0.1; allowed are numbers that float32"):
            gemm(a, b, bias=np.full(4, 0.1))
        with pytest.raises(TypeError, match=r"bias: list"):
            gemm(a, b, bias=[0.0] * 4)
        with pytest.raises(ValueError, match=r"alpha: 0.3"):
            gemm(a, b, alpha=0.3)
        with pytest.raises(ValueError, match=r"alpha: shape \(4,\); allowed is \(\), a number"):
            gemm(a, b, alpha=torch.ones(4))
        with pytest.raises(ValueError, match="size: 0"):
            SplitK(0)
        with pytest.raises(ValueError, match="'int8'"):
            SplitK(32, "int8")


class TestSplitK:
    def partials(self, a, b, size, dtype_name):
        left, right = a.decode(), b.decode()
        starts = range(0, left.shape[1], size)
        parts = [left[:, s : s + size] @ right[:, s : s + size].T for s in starts]
        return [round_to(part, dtype_name).value.astype(np.float32) for part in parts]

    @given(seeds, st.sampled_from(["bfloat16", "float16"]), st.sampled_from([32, 64, 96, 40, 16, 7]))
    def test_narrow_partials_change_the_answer(self, seed, dtype_name, size):
        a, b = pair("exact", seed, k=224)
        expected = gemm(a, b, splits=SplitK(size, dtype_name))
        parts = self.partials(a, b, size, dtype_name)
        for order in (parts, parts[::-1]):
            output = np.zeros_like(order[0])
            for part in order:
                output = output + part
            assert compare(output.view(np.uint32), "float32", expected) is None
        if dtype_name == "bfloat16":  # float16 holds many of these sums exactly
            for other in ("float32", "float16"):
                wrong = np.sum(self.partials(a, b, size, other), axis=0)
                assert compare(wrong.view(np.uint32), "float32", expected) is not None

    def test_partials_in_float32_change_nothing(self):
        a, b = pair("exact", 0, k=224)
        whole, split = gemm(a, b), gemm(a, b, splits=SplitK(64))
        np.testing.assert_array_equal(whole.value, split.value)
        assert split.certified.all()

    def test_one_part_is_rounded_too(self):
        a, b = pair("exact", 0)
        expected = gemm(a, b, splits=SplitK(96, "bfloat16"))
        np.testing.assert_array_equal(expected.value, round_to(gemm(a, b).value, "bfloat16").value)
