"""The detector fires on every kind of error and is silent on right results."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import MXFP4, BlockScaled, round_to
from fp4guard.formats.rounding import OUTPUT_TYPES
from fp4guard.oracle import REGIMES, compare, exactly, gemm, generate, within

seeds = st.integers(0, 2**32 - 1)
NAMES = list(OUTPUT_TYPES)


def product(regime, seed, m=6, n=5, k=96):
    rng = np.random.default_rng(seed)
    return gemm(generate.blocks(regime, m, k, rng), generate.blocks(regime, n, k, rng))


def right_bits(expected, dtype_name):
    return round_to(np.where(expected.nan, np.nan, expected.value), dtype_name).bits


@given(seeds, st.sampled_from(list(REGIMES)), st.sampled_from(NAMES))
def test_silent_on_the_right_result(seed, regime, dtype_name):
    expected = product(regime, seed)
    assert compare(right_bits(expected, dtype_name), dtype_name, expected) is None


@given(seeds, st.sampled_from(["exact", "ties", "zeros", "maxima"]), st.sampled_from(NAMES), st.data())
def test_fires_on_any_one_flipped_bit_of_a_certified_result(seed, regime, dtype_name, data):
    expected = product(regime, seed)
    bits = right_bits(expected, dtype_name)
    width = 8 * bits.dtype.itemsize
    numbers = np.argwhere(~expected.nan)
    index = tuple(int(i) for i in numbers[data.draw(st.integers(0, len(numbers) - 1))])
    bit = data.draw(st.integers(0, width - (2 if expected.value[index] == 0 else 1)))  # not the sign of zero
    bits[index] ^= bits.dtype.type(1 << bit)
    mismatch = compare(bits, dtype_name, expected)
    assert mismatch is not None
    assert (mismatch.count, mismatch.total) == (1, 30)
    assert mismatch.first.index == mismatch.worst.index == index
    assert mismatch.first.actual.bits == int(bits[index])


@given(seeds)
def test_fires_on_one_changed_code_wherever_the_result_is_certified(seed):
    rng = np.random.default_rng(seed)
    a, b = (generate.blocks("exact", 4, 64, rng) for _ in range(2))
    codes = a.codes.copy()
    codes[2, 31] ^= 0x40  # the last element's magnitude
    wrong = gemm(BlockScaled.from_codes(MXFP4, codes, a.scales), b)
    touched = wrong.value != gemm(a, b).value
    mismatch = compare(right_bits(wrong, "float32"), "float32", gemm(a, b))
    assert (0 if mismatch is None else mismatch.count) == touched.sum()
    assert touched.sum() == np.count_nonzero(b.decode()[:, 63])


def test_fires_on_truncation_instead_of_rounding():
    expected = product("ties", 0)
    truncated = (expected.value.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    mismatch = compare(truncated, "bfloat16", expected)
    assert mismatch is not None
    assert mismatch.worst.ulps == 1


def test_fires_on_ties_rounded_away():
    expected = exactly(np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8]))
    away = np.array([0x3F81, 0x3F82], np.uint16)
    mismatch = compare(away, "bfloat16", expected)
    assert mismatch is not None
    assert (mismatch.count, mismatch.first.index) == (1, (0,))


class TestBounds:
    def expected(self, bound=2.0**-20):
        return within(np.ones(1), bound)

    def test_anything_within_is_allowed_and_a_step_beyond_is_not(self):
        expected = self.expected()
        for value, allowed in (
            (1.0, True),
            (1 + 2.0**-20, True),
            (1 - 2.0**-20, True),
            (1 + 2.0**-19, False),
        ):
            verdict = compare(np.array([value], np.float32).view(np.uint32), "float32", expected)
            assert (verdict is None) == allowed

    def test_the_interval_is_rounded_to_the_output(self):
        low, high = self.expected().interval("bfloat16")
        assert low.value == high.value == 1
        low, high = self.expected(2.0**-8).interval("bfloat16")
        assert (low.value, high.value) == (1 - 2.0**-8, 1 + 2.0**-7)

    @pytest.mark.parametrize("tie", [1 + 2.0**-24, 1 + 3 * 2.0**-24])
    def test_a_bound_too_small_for_float64_still_opens_a_tie(self, tie):
        low, high = within(np.array([tie]), 2.0**-80).interval("float32")
        assert (low.value, high.value) == (tie - 2.0**-24, tie + 2.0**-24)

    def test_bits_are_those_of_the_values(self):
        low, _ = self.expected(0.0).interval("float16")
        assert low.bits.tolist() == [0x3C00]

    def test_a_planted_error_exceeds_the_bound_of_wild_data(self):
        expected = product("wild", 3)
        bounded = (expected.bound > 0) & ~expected.unconstrained & ~expected.nan & (expected.bound < 1e-3)
        index = tuple(np.argwhere(bounded)[0])
        actual = np.where(expected.nan, np.nan, expected.value)
        actual[index] += 4 * expected.bound[index] + np.abs(actual[index]) * 2.0**-20
        mismatch = compare(round_to(actual, "float32").bits, "float32", expected)
        assert mismatch is not None
        assert mismatch.first.index == index
        assert "a correct accumulator by at most" in str(mismatch)

    @pytest.mark.parametrize("bound", [-1.0, np.nan])
    def test_a_bound_is_not_negative(self, bound):
        with pytest.raises(ValueError, match="bound"):
            self.expected(bound)

    def test_shapes_agree(self):
        with pytest.raises(ValueError, match=r"nan: shape \(2,\); value has \(1,\)"):
            replace(self.expected(), nan=np.zeros(2, bool))


class TestNanAndZero:
    def compare(self, actual, values, unconstrained=False):
        expected = exactly(np.array([values], np.float64))
        if unconstrained:
            expected = replace(expected, unconstrained=np.ones(1, bool))
        return compare(np.array([actual], np.uint32), "float32", expected)

    @pytest.mark.parametrize("payload", [0x7FC00000, 0xFFFFFFFF, 0x7F800001])
    def test_any_nan_will_do(self, payload):
        assert self.compare(payload, np.nan) is None
        assert self.compare(payload, np.nan, unconstrained=True) is None

    @pytest.mark.parametrize("unconstrained", [False, True])
    def test_a_number_in_the_place_of_nan(self, unconstrained):
        mismatch = self.compare(0x3F800000, np.nan, unconstrained)
        assert mismatch is not None
        assert mismatch.worst.ulps is None
        assert "must be NaN" in str(mismatch)

    def test_nan_in_the_place_of_a_number(self):
        mismatch = self.compare(0x7FC00000, 1.0)
        assert mismatch is not None
        assert mismatch.worst.ulps is None
        assert "no NaN takes part in this element; the one right answer is 1.0" in str(mismatch)
        mismatch = compare(np.array([0x7FC00000], np.uint32), "float32", within(np.ones(1), 0.5))
        assert "no NaN takes part in this element; exact 1.0; a correct accumulator by at most 0.5" in str(mismatch)

    def test_nothing_is_asked_where_unconstrained(self):
        assert self.compare(0x7FC00000, 1.0, unconstrained=True) is None

    def test_zeros_have_no_sign(self):
        assert self.compare(0x80000000, 0.0) is None
        assert self.compare(0, -0.0) is None
        assert self.compare(1, 0.0) is not None

    def test_infinities_have_one(self):
        assert self.compare(0x7F800000, np.inf) is None
        assert self.compare(0xFF800000, np.inf) is not None
        assert self.compare(0x7F7FFFFF, np.inf) is not None
        assert self.compare(0x7F800000, 1e39) is None  # the exact result overflows the output's type


def test_the_message_says_what_torch_testings_does_and_the_bits():
    expected = exactly(torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
    actual = np.array([[0x3F80, 0x4001], [0x4040, 0x4080]], np.uint16)
    mismatch = compare(actual, "bfloat16", expected)
    assert str(mismatch).splitlines() == [
        "Mismatched elements: 2 / 4 (50.0%)",
        "Greatest difference: 33024 ulps at index (1, 1) [bfloat16]",
        "    expected -4.0 (0xc080), actual 4.0 (0x4080)",
        "    the one right answer is -4.0, rounded once: certified, or given as exact; bits must match",
        "First difference: 1 ulp at index (0, 1)",
        "    expected 2.0 (0x4000), actual 2.015625 (0x4001)",
        "    the one right answer is 2.0, rounded once: certified, or given as exact; bits must match",
    ]


def test_the_message_says_where():
    bits = np.zeros((40, 100), np.uint32)
    bits[:, 96:] = 0x3F800000
    assert str(compare(bits, "float32", exactly(np.zeros((40, 100))))).splitlines() == [
        "Mismatched elements: 160 / 4000 (4.0%)",
        "Greatest difference: 1065353216 ulps at index (0, 96) [float32]",
        "    expected 0.0 (0x00000000), actual 1.0 (0x3f800000)",
        "    the one right answer is 0.0, rounded once: certified, or given as exact; bits must match",
        "Every wrong element is in the last 4 columns, from 96 on: all of them wrong.",
        "Map, a cell is 4 rows x 2 columns; . right, # wrong:",
        "0..39 " + 48 * "." + "##",
    ]


def test_a_nan_is_the_greatest_difference():
    mismatch = compare(np.array([0x7F7FFFFF, 0x7FC00000], np.uint32), "float32", exactly(np.zeros(2)))
    assert mismatch is not None
    assert (mismatch.first.index, mismatch.worst.index) == ((0,), (1,))
    assert "NaN on one side only" in str(mismatch)


def test_a_nan_that_is_first_and_worst_is_told_once():
    mismatch = compare(np.array([np.nan, 0], np.float32).view(np.uint32), "float32", exactly(np.zeros(2)))
    assert "Greatest difference: NaN on one side only" in str(mismatch)
    assert "First difference" not in str(mismatch)


def test_signed_bits_and_scalars_are_fine():
    assert compare(np.array(-1.0, np.float32).view(np.int32), "float32", exactly(np.array(-1.0))) is None
    mismatch = compare(np.array(0, np.uint32), "float32", exactly(np.array(-1.0)))
    assert mismatch is not None
    assert mismatch.first.index == ()


@pytest.mark.parametrize(
    ("bits", "name", "error", "match"),
    [
        (np.zeros(2, np.uint32), "bfloat16", TypeError, "uint32; bfloat16 allows uint16"),
        (np.zeros(2, np.float32), "float32", TypeError, "float32 allows uint32"),
        (np.zeros(3, np.uint32), "float32", ValueError, r"\(3,\); expected has \(2,\)"),
        (np.zeros(2, np.uint32), "int8", ValueError, "int8"),
    ],
)
def test_wrong_arguments_are_refused(bits, name, error, match):
    with pytest.raises(error, match=match):
        compare(bits, name, exactly(np.zeros(2)))


def test_exactly_refuses_what_is_no_float():
    with pytest.raises(TypeError, match="values: dtype int64"):
        exactly(np.zeros(2, np.int64))
