import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import (
    BLOCK_FORMATS,
    E4M3,
    E8M0,
    MXFP4,
    MXFP6_E3M2,
    MXFP8_E4M3,
    NVFP4,
    BlockScaled,
    FloatFormat,
    NanBlock,
    NanElement,
    Rounding,
    ScaleDecode,
    ScaleRule,
    ZeroBlock,
    ZeroSign,
)
from fp4guard.formats.mx import MXPolicy, quantize, requantize, scale_byte_scalar, scale_bytes
from fp4guard.formats.scalar import decode_scalar, encode_scalar

ULP = np.spacing(np.float32(4))  # of float32 in [4, 8)
FLOOR, CEIL, RCEIL, EVEN, EVEN_FP32 = (
    ScaleRule.FLOOR,
    ScaleRule.CEIL,
    ScaleRule.RCEIL,
    ScaleRule.EVEN,
    ScaleRule.EVEN_FP32,
)


class TestScaleRules:
    """amax at which the rules part, from the table of policies: FLOOR, CEIL, RCEIL, EVEN."""

    @pytest.mark.parametrize(
        ("amax", "floor", "ceil", "rceil", "even"),
        [
            (4, 127, 127, 127, 127),
            (4 + ULP, 127, 128, 127, 127),
            (6, 127, 128, 127, 127),
            (6 + ULP, 127, 128, 128, 127),
            (7 - ULP, 127, 128, 128, 127),
            (7, 127, 128, 128, 128),
            (8 - ULP, 127, 128, 128, 128),
            (8, 128, 128, 128, 128),
            (2.0**127, 252, 252, 252, 252),
            (1.75 * 2.0**127, 252, 253, 253, 253),
            (float(np.finfo(np.float32).max), 252, 253, 253, 253),
            (2.0**-126, 0, 0, 0, 0),
            (2.0**-149, 0, 0, 0, 0),
            (2.0**300, 254, 254, 254, 254),
        ],
    )
    def test_distinguishing_values(self, amax, floor, ceil, rceil, even):
        rules = {FLOOR: floor, CEIL: ceil, RCEIL: rceil, EVEN: even}
        assert {rule: scale_byte_scalar(float(amax), rule) for rule in rules} == rules
        assert {rule: int(scale_bytes(amax, rule)) for rule in rules} == rules

    @given(
        st.lists(st.floats(0, 1e39, width=64), min_size=1),
        st.sampled_from(ScaleRule),
        st.sampled_from(ZeroBlock),
    )
    def test_vectorised_is_scalar(self, amax, rule, zero_block):
        expected = [scale_byte_scalar(a, rule, zero_block) for a in amax]
        np.testing.assert_array_equal(scale_bytes(amax, rule, zero_block), expected)

    @given(st.floats(2.0**-120, 2.0**120))
    def test_rules_are_what_their_names_say(self, amax):
        assert scale_byte_scalar(amax, FLOOR) == max(n for n in range(255) if 4 * 2.0 ** (n - 127) <= amax)
        assert scale_byte_scalar(amax, CEIL) == min(n for n in range(255) if 4 * 2.0 ** (n - 127) >= amax)
        assert scale_byte_scalar(amax, RCEIL) == min(n for n in range(255) if 6 * 2.0 ** (n - 127) >= amax)

    @given(st.floats(0, float(np.finfo(np.float32).max), width=32))
    def test_even_fp32_is_the_bit_trick(self, amax):
        bits = (np.float32(amax).view(np.uint32) + np.uint32(0x200000)) & np.uint32(0xFF800000)
        rounded = float(bits.view(np.float32))
        exponent = 127 if math.isinf(rounded) else math.frexp(rounded)[1] - 3
        expected = 0 if rounded == 0 else min(max(exponent, -127), 127) + 127
        assert scale_byte_scalar(amax, EVEN_FP32) == expected

    def test_even_and_its_fp32_form_part_at_the_top_alone(self):
        top = 1.75 * 2.0**127
        assert (scale_byte_scalar(top, EVEN), scale_byte_scalar(top, EVEN_FP32)) == (253, 254)
        below = math.nextafter(top, 0)
        assert scale_byte_scalar(below, EVEN) == scale_byte_scalar(below, EVEN_FP32) == 252

    def test_log2_is_wrong_just_below_eight_and_frexp_is_not(self):
        amax = np.float32(8) - ULP
        assert np.floor(np.log2(amax)) == 3
        assert scale_bytes(amax, FLOOR) == 127

    @pytest.mark.parametrize("zero_block", ZeroBlock)
    def test_zero_blocks(self, zero_block):
        matrix = quantize(np.zeros((1, 32)), MXPolicy(zero_block=zero_block))
        assert matrix.scales.tolist() == [[zero_block.value]]
        assert not matrix.decode().any()


class TestScaleRulesOfOtherElements:
    """The same rules, as an element's largest value and its precision move their points."""

    @pytest.mark.parametrize("fmt", [f for f in BLOCK_FORMATS.values() if f is not NVFP4], ids=lambda f: f.name)
    @given(amax=st.floats(2.0**-90, 2.0**90))
    def test_rules_are_what_their_names_say(self, fmt, amax):
        def byte(rule):
            return scale_byte_scalar(amax, rule, element=fmt.element)

        top, largest = 2.0**fmt.element.max_exponent, fmt.element.max
        assert byte(FLOOR) == max(n for n in range(255) if top * 2.0 ** (n - 127) <= amax)
        assert byte(CEIL) == min(n for n in range(255) if top * 2.0 ** (n - 127) >= amax)
        assert byte(RCEIL) == min(n for n in range(255) if largest * 2.0 ** (n - 127) >= amax)
        unbounded = FloatFormat("unbounded", 32, 8, fmt.element.mantissa_bits, 127, 2.0**127, None, None)
        rounded = decode_scalar(unbounded, encode_scalar(unbounded, amax))
        assert byte(EVEN) == scale_byte_scalar(rounded, FLOOR, element=fmt.element)

    @given(st.lists(st.floats(0, 2.0**127, width=32), min_size=1), st.sampled_from(ScaleRule))
    def test_vectorised_is_scalar(self, amax, rule):
        expected = [scale_byte_scalar(a, rule, element=E4M3) for a in amax]
        np.testing.assert_array_equal(scale_bytes(np.array(amax, np.float32), rule, element=E4M3), expected)


policies = st.builds(
    MXPolicy, st.sampled_from(ScaleRule), st.sampled_from([r for r in Rounding if r is not Rounding.STOCHASTIC])
)


def quotients(values, byte, fmt, rounding):
    return [encode_scalar(fmt.element, float(v) / decode_scalar(E8M0, byte), rounding) for v in values]


class TestQuantize:
    @given(st.integers(0, 2**32 - 1), policies, st.sampled_from([MXFP4, MXFP6_E3M2, MXFP8_E4M3]), st.booleans())
    def test_every_element_is_its_quotient_rounded_once(self, seed, policy, fmt, single):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(2, 72)) * np.exp2(rng.integers(-130, 120, (2, 1)))
        values = values.astype(np.float32) if single else values
        matrix = quantize(values, policy, format=fmt)
        for row, block in np.ndindex(2, 3):
            part = slice(32 * block, 32 * block + 32)
            byte = scale_byte_scalar(float(np.abs(values[row, part]).max()), policy.scale_rule, element=fmt.element)
            assert matrix.scales[row, block] == byte
            assert matrix.elements[row, part].tolist() == quotients(values[row, part], byte, fmt, policy.rounding)

    def test_values_of_the_format_survive(self):
        rng = np.random.default_rng(0)
        matrix = BlockScaled(MXFP4, rng.integers(0, 16, (5, 96), np.uint8), rng.integers(0, 255, (5, 3), np.uint8))
        again = quantize(matrix.decode(), MXPolicy(ScaleRule.RCEIL))
        np.testing.assert_array_equal(again.decode(), matrix.decode())

    def test_rceil_never_saturates_and_floor_does(self):
        values = np.full((1, 32), 7.9)
        assert quantize(values).decode().max() == 6
        assert quantize(values, MXPolicy(RCEIL)).decode().max() == 8

    def test_non_finite_values_are_a_policy(self):
        values = np.ones((1, 96))
        values[0, 3], values[0, 40] = np.nan, -np.inf
        with pytest.raises(ValueError, match="nan_block=NanBlock"):
            quantize(values)
        poisoned = quantize(values, MXPolicy(nan_block=NanBlock.POISON))
        assert poisoned.scales.tolist() == [[255, 255, 125]]
        assert not poisoned.elements[0, :64].any()
        ignore = MXPolicy(nan_block=NanBlock.IGNORE)
        ignored = quantize(values, replace(ignore, nan_element=NanElement.MAX))
        assert ignored.scales.tolist() == [[125, 125, 125]]
        assert ignored.decode()[0, [3, 40, 0]].tolist() == [1.5, -1.5, 1]
        with pytest.raises(ValueError, match="NaN"):
            quantize(values, ignore)

    def test_the_sign_of_zero_is_a_policy(self):
        values = np.full((1, 32), -0.1)
        values[0, 0] = 4
        assert quantize(values).elements[0, 1] == 8
        assert quantize(values, MXPolicy(zero_sign=ZeroSign.DROP)).elements[0, 1] == 0

    @pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
    def test_any_axis_becomes_the_last(self, axis):
        values = np.random.default_rng(0).normal(size=(40, 35, 64))
        along, moved = quantize(values, axis=axis), quantize(np.moveaxis(values, axis, -1))
        np.testing.assert_array_equal(along.elements, moved.elements)
        np.testing.assert_array_equal(along.scales, moved.scales)

    @given(st.integers(0, 70))
    def test_a_tail_is_a_block_of_its_own(self, k):
        values = np.random.default_rng(k).normal(size=(3, k))
        short, filled = quantize(values), quantize(np.pad(values, ((0, 0), (0, -k % 32))))
        np.testing.assert_array_equal(short.scales, filled.scales)
        np.testing.assert_array_equal(short.elements, filled.elements[:, :k])

    def test_types_that_numpy_does_not_know_are_taken_where_float32_holds_them(self):
        values = np.array([[0.5, 1.5, -6.0, 3.0]])
        narrow = quantize(values.astype(ml_dtypes.bfloat16))
        np.testing.assert_array_equal(narrow.elements, quantize(values).elements)

    def test_stochastic_rounding_draws_from_what_is_given(self):
        policy = MXPolicy(rounding=Rounding.STOCHASTIC)
        values = np.full((50, 32), 0.9)
        values[:, 0] = 4
        first, again = (quantize(values, policy, random=np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(first.elements, again.elements)
        assert set(np.unique(first.elements)) == {1, 2, 6}
        words = np.where(values > 1, 0, np.uint32(2**32 - 1)).astype(np.uint32)
        down = quantize(values.T, policy, axis=0, random=words.T)
        assert set(np.unique(down.elements)) == {1, 6}

    @pytest.mark.parametrize(
        ("values", "options", "error", "match"),
        [
            (np.zeros(32), {"axis": 1}, ValueError, "axis: 1.*-1 .. 0"),
            (np.zeros((2, 2), complex), {}, TypeError, "values: dtype complex128"),
            (np.array([2**62 + 1]), {}, ValueError, "values: integers beyond 2.53"),
            (
                np.zeros((2, 3)),
                {
                    "policy": MXPolicy(rounding=Rounding.STOCHASTIC),
                    "axis": 0,
                    "random": np.zeros((3, 2), np.uint32),
                },
                ValueError,
                r"random: shape \(3, 2\); allowed is that of the values, \(2, 3\)",
            ),
            (np.zeros(32), {"format": NVFP4}, ValueError, "format: nvfp4"),
            (np.zeros(32), {"policy": MXPolicy(scale_decode=ScaleDecode.SHIFT)}, ValueError, "SHIFT"),
        ],
    )
    def test_others_are_refused(self, values, options, error, match):
        with pytest.raises(error, match=match):
            quantize(values, **options)


class TestRequantize:
    @given(st.integers(0, 2**32 - 1), policies)
    def test_own_scales_give_the_same(self, seed, policy):
        values = np.random.default_rng(seed).normal(size=(3, 45)).astype(np.float32)
        matrix = quantize(values, policy)
        np.testing.assert_array_equal(requantize(values, matrix.scales, policy).elements, matrix.elements)

    @given(st.integers(0, 254), st.integers(0, 2**32 - 1))
    def test_any_scale_divides_exactly(self, byte, seed):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=32).astype(np.float32) * np.float32(2) ** (byte - 127 + rng.integers(-3, 4))
        assert requantize(values, np.array([byte], np.uint8)).elements.tolist() == quotients(
            values, byte, MXFP4, Rounding.TIES_TO_EVEN
        )

    def test_nothing_is_asked_of_elements_under_nan(self):
        values = np.array([np.nan, np.inf, 1.0] * 10)
        assert not requantize(values, np.array([255], np.uint8)).elements.any()

    def test_a_scale_of_zero_may_divide_as_one(self):
        values = np.full(32, 1.6)
        scales = np.zeros(1, np.uint8)
        assert set(requantize(values, scales).elements.tolist()) == {7}
        policy = MXPolicy(scale_decode=ScaleDecode.ONE_AT_ZERO)
        assert set(requantize(values, scales, policy).elements.tolist()) == {3}

    @pytest.mark.parametrize("scales", [np.zeros(2, np.uint8), np.zeros(1), np.zeros((1, 1), np.uint8)])
    def test_other_scales_are_refused(self, scales):
        with pytest.raises(ValueError, match=r"scales: .*allowed is uint8 \(1,\)"):
            requantize(np.zeros(32), scales)
