import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import (
    MXFP4,
    NanBlock,
    NanElement,
    Rounding,
    ScaleRule,
    ZeroBlock,
    e2m1,
    e8m0,
    quantize,
    scale_byte_scalar,
    scale_bytes,
    unpack,
)

ULP = np.spacing(np.float32(4))  # of float32 in [4, 8)
FLOOR, CEIL, RCEIL, EVEN, EVEN_FP32 = (
    ScaleRule.FLOOR,
    ScaleRule.CEIL,
    ScaleRule.RCEIL,
    ScaleRule.EVEN,
    ScaleRule.EVEN_FP32,
)


def random_matrix(rows=5, k=96, seed=0):
    rng = np.random.default_rng(seed)
    return MXFP4(
        rng.integers(0, 256, (rows, k // 2), dtype=np.uint8),
        rng.integers(0, 256, (rows, k // 32), dtype=np.uint8),
    )


class TestMXFP4:
    def test_decode_is_element_times_scale(self):
        matrix = random_matrix()
        elements = unpack(matrix.codes)
        for (row, column), value in np.ndenumerate(matrix.decode()):
            element = e2m1.decode_scalar(int(elements[row, column]))
            np.testing.assert_equal(value, element * e8m0.decode_scalar(int(matrix.scales[row, column // 32])))

    def test_a_nan_scale_makes_its_block_nan_zeros_included(self):
        decoded = MXFP4(np.zeros((1, 32), np.uint8), np.array([[255, 254]], np.uint8)).decode()
        assert np.isnan(decoded[0, :32]).all()
        assert (decoded[0, 32:] == 0).all()

    def test_it_is_immutable_and_hashed_by_identity(self):
        codes = np.zeros((1, 16), np.uint8)
        one, other = (MXFP4(codes, np.zeros((1, 1), np.uint8)) for _ in range(2))
        codes[:] = 0x77
        assert not one.codes.any()
        with pytest.raises(ValueError, match="read-only"):
            one.scales[0, 0] = 1
        assert one != other
        assert len({one, other}) == 2

    def test_from_elements_packs(self):
        elements = np.arange(64, dtype=np.uint8).reshape(2, 32) % 16
        matrix = MXFP4.from_elements(elements, np.full((2, 1), 127, np.uint8))
        assert matrix.shape == (2, 32)
        np.testing.assert_array_equal(matrix.decode(), e2m1.decode(elements))

    @pytest.mark.parametrize("shape", [(0, 32), (3, 0)])
    def test_it_may_be_empty(self, shape):
        assert random_matrix(*shape).decode().shape == shape

    @pytest.mark.parametrize(
        ("codes", "scales", "error", "match"),
        [
            ((2, 16), (2, 2), ValueError, r"scales: shape \(2, 2\).*\(2, 1\)"),
            ((2, 16), (1, 1), ValueError, "scales"),
            ((2, 8), (2, 1), ValueError, "multiples of 16"),
            ((16,), (1,), ValueError, "codes.*2-D"),
            ((2, 16), None, TypeError, "scales.*float64"),
        ],
    )
    def test_what_does_not_belong_together_is_refused(self, codes, scales, error, match):
        with pytest.raises(error, match=match):
            MXFP4(np.zeros(codes, np.uint8), np.zeros((2, 1)) if scales is None else np.zeros(scales, np.uint8))


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
        matrix = quantize(np.zeros((1, 32)), FLOOR, zero_block=zero_block)
        assert matrix.scales.tolist() == [[zero_block.value]]
        assert not matrix.decode().any()


class TestQuantize:
    @given(st.integers(0, 2**32 - 1), st.sampled_from(ScaleRule), st.sampled_from(Rounding))
    def test_every_element_is_its_quotient_rounded_once(self, seed, rule, rounding):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(2, 64)) * np.exp2(rng.integers(-130, 128, (2, 1)))
        matrix = quantize(values, rule, rounding)
        elements = unpack(matrix.codes)
        for row, block in np.ndindex(2, 2):
            part = values[row, 32 * block : 32 * block + 32]
            byte = scale_byte_scalar(float(np.abs(part).max()), rule)
            assert matrix.scales[row, block] == byte
            expected = [e2m1.encode_scalar(float(v) / e8m0.decode_scalar(byte), rounding) for v in part]
            assert elements[row, 32 * block : 32 * block + 32].tolist() == expected

    def test_mxfp4_values_survive(self):
        matrix = random_matrix()
        values = np.nan_to_num(matrix.decode())
        np.testing.assert_array_equal(quantize(values, RCEIL).decode(), values)

    def test_rceil_never_saturates_and_floor_does(self):
        values = np.full((1, 32), 7.9)
        assert quantize(values, FLOOR).decode().max() == 6
        assert quantize(values, RCEIL).decode().max() == 8

    def test_non_finite_values_are_a_policy(self):
        values = np.ones((1, 96))
        values[0, 3], values[0, 40] = np.nan, -np.inf
        with pytest.raises(ValueError, match="nan=NanBlock"):
            quantize(values, FLOOR)
        poisoned = quantize(values, FLOOR, nan=NanBlock.POISON)
        assert poisoned.scales.tolist() == [[255, 255, 125]]
        ignored = quantize(values, FLOOR, nan=NanBlock.IGNORE, nan_element=NanElement.MAX)
        assert ignored.scales.tolist() == [[125, 125, 125]]
        assert ignored.decode()[0, [3, 40, 0]].tolist() == [1.5, -1.5, 1]
        with pytest.raises(ValueError, match="NaN"):
            quantize(values, FLOOR, nan=NanBlock.IGNORE)

    @pytest.mark.parametrize("shape", [(32,), (2, 33)])
    def test_other_shapes_are_refused(self, shape):
        with pytest.raises(ValueError, match="multiple of 32"):
            quantize(np.zeros(shape), FLOOR)
