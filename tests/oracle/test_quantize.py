import numpy as np
import pytest
import torch

from fp4guard.formats import (
    MXFP8_E4M3,
    SCALES_128X4,
    SCALES_256X8,
    NanBlock,
    NanElement,
    NibbleOrder,
    Rounding,
    ScaleRule,
    mx,
    nvfp4,
    pack,
)
from fp4guard.oracle import compare, generate
from fp4guard.oracle.quantize import (
    Storage,
    cast_transpose,
    quantize_mx,
    quantize_nvfp4,
    requantize_mx,
    requantize_nvfp4,
)


def values_of(regime="ties", shape=(64, 96), dtype_name="float32", seed=0):
    return generate.quantizable(regime, shape, dtype_name, np.random.default_rng(seed)).astype(np.float32)


def wrong(actual, expected):
    mismatch = compare(actual, "uint8", expected)
    if mismatch is None:
        return 0
    assert mismatch.padding is None
    return mismatch.codes.count


class TestQuantizeMX:
    def test_what_formats_quantizes_is_right_however_it_is_stored(self):
        values = values_of()
        matrix = mx.quantize(values)
        plain = quantize_mx(values)
        assert wrong(matrix.codes, plain.codes) == wrong(matrix.scales, plain.scales) == 0
        stored = quantize_mx(values, storage=Storage(NibbleOrder.HIGH_FIRST, scales=SCALES_256X8, scales_padding=0x7F))
        assert wrong(pack(matrix.elements, NibbleOrder.HIGH_FIRST), stored.codes) == 0
        assert wrong(matrix.codes, stored.codes) > 0
        assert wrong(SCALES_256X8.pack(matrix.scales, 0x7F), stored.scales) == 0

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
    def test_tensors_of_every_float_type_are_taken_exactly(self, dtype):
        values = torch.from_numpy(values_of(dtype_name="float16")).to(dtype)
        expected = quantize_mx(values)
        np.testing.assert_array_equal(expected.codes.codes, mx.quantize(values.double().numpy()).elements)

    @pytest.mark.parametrize("rule", [ScaleRule.CEIL, ScaleRule.RCEIL, ScaleRule.EVEN])
    def test_another_scale_rule_is_seen(self, rule):
        values = values_of("maxima")
        matrix = mx.quantize(values, mx.MXPolicy(rule))
        assert wrong(matrix.scales, quantize_mx(values).scales) > 0
        assert wrong(matrix.codes, requantize_mx(values, matrix.scales)) == 0

    def test_ties_away_are_seen_at_ties_alone(self):
        away = mx.MXPolicy(rounding=Rounding.TIES_AWAY)
        ties, others = values_of("ties"), np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
        assert wrong(mx.quantize(ties, away).codes, quantize_mx(ties).codes) > 0
        assert wrong(mx.quantize(others, away).codes, quantize_mx(others).codes) == 0

    def test_codes_under_a_nan_scale_may_be_anything(self):
        values = np.ones((1, 64), np.float32)
        values[0, 3] = np.nan
        expected = quantize_mx(values, mx.MXPolicy(nan_block=NanBlock.POISON))
        codes = mx.quantize(np.ones((1, 64))).codes.copy()
        codes[0, :16] = 0x5A
        assert wrong(codes, expected.codes) == 0
        codes[0, 16] ^= 1
        assert wrong(codes, expected.codes) == 1
        assert wrong(np.array([[127, 125]], np.uint8), expected.scales) == 1

    def test_wider_elements_are_one_a_byte(self):
        values = values_of()
        matrix = mx.quantize(values, format=MXFP8_E4M3)
        assert wrong(matrix.codes, quantize_mx(values, format=MXFP8_E4M3).codes) == 0

    @pytest.mark.parametrize("values", [torch.ones(32, dtype=torch.int32), np.ones(32, int), [1.0] * 32])
    def test_other_values_are_refused(self, values):
        with pytest.raises(TypeError, match="values"):
            quantize_mx(values)


class TestCastTranspose:
    def test_both_directions(self):
        values = values_of("maxima", (96, 64))
        expected = cast_transpose(torch.from_numpy(values), storage=Storage(scales=SCALES_256X8))
        rows, columns = mx.quantize(values), mx.quantize(values.T.copy())
        assert wrong(rows.codes, expected.rowwise.codes) == wrong(columns.codes, expected.columnwise.codes) == 0
        for matrix, side in ((rows, expected.rowwise), (columns, expected.columnwise)):
            assert wrong(SCALES_256X8.pack(matrix.scales, 0xEE), side.scales) == 0

    def test_a_view_where_a_transpose_was_meant_is_seen(self):
        values = values_of("exact", (64, 64))
        expected = cast_transpose(values)
        assert wrong(mx.quantize(values.reshape(64, 64)).codes, expected.columnwise.codes) > 0

    def test_an_odd_last_row_is_a_tail(self):
        values = values_of("exact", (33, 64))
        _, columnwise = cast_transpose(values, storage=Storage(packing=None))
        matrix = mx.quantize(values, axis=0)
        assert matrix.scales.shape == (64, 2)
        assert wrong(matrix.elements, columnwise.codes) == 0

    def test_other_ranks_are_refused(self):
        with pytest.raises(ValueError, match="values: shape"):
            cast_transpose(np.zeros((2, 32, 32), np.float32))


class TestQuantizeNVFP4:
    policy = nvfp4.NVPolicy(nan_block=NanBlock.IGNORE, nan_element=NanElement.MAX)

    @pytest.mark.parametrize("order", nvfp4.ORDERS.values(), ids=nvfp4.ORDERS)
    @pytest.mark.parametrize("regime", ["exact", "ties", "zeros", "nans", "maxima", "wild"])
    def test_what_formats_quantizes_is_right(self, order, regime):
        values = np.clip(values_of(regime), -(2.0**30), 2.0**30)
        matrix = nvfp4.quantize(values, order, 1.0, self.policy)
        expected = quantize_nvfp4(
            values, order, 1.0, self.policy, storage=Storage(scales=SCALES_128X4, scales_padding=0)
        )
        assert wrong(matrix.codes, expected.codes) == 0
        assert wrong(SCALES_128X4.pack(matrix.scales, 0), expected.scales) == 0
        assert wrong(matrix.codes, requantize_nvfp4(values, matrix.scales, order, 1.0, self.policy)) == 0

    def test_codes_under_a_zero_scale_may_be_anything(self):
        values = np.array([[2.0**-20] * 16 + [1.0] * 16], np.float32)
        fast, exact = (nvfp4.quantize(values, order, 448.0) for order in (nvfp4.FAST, nvfp4.EXACT))
        assert (fast.elements != exact.elements).any()
        assert wrong(exact.codes, quantize_nvfp4(values, nvfp4.FAST, 448.0).codes) == 0
        assert wrong(fast.codes, quantize_nvfp4(values, nvfp4.EXACT, 448.0).codes) == 0

    def test_another_order_is_seen_where_it_matters(self):
        values = np.random.default_rng(0).integers(0, 97, (64, 4096)).astype(np.float32)
        g = float(nvfp4.FAST.global_scale(np.float32(96)))
        expected = quantize_nvfp4(values, nvfp4.FAST, g)
        assert wrong(nvfp4.quantize(values, nvfp4.EXACT, g).codes, expected.codes) > 0


def test_stochastic_rounding_is_checked_with_the_words_that_the_kernel_drew():
    values = values_of("wild", (8, 64))
    values = np.where(np.isfinite(values), values, np.float32(1))
    words = np.random.default_rng(1).integers(0, 1 << 32, values.shape, np.uint32)
    policy, nv_policy = (kind(rounding=Rounding.STOCHASTIC) for kind in (mx.MXPolicy, nvfp4.NVPolicy))
    matrix = mx.quantize(values, policy, random=words)
    assert wrong(matrix.codes, quantize_mx(values, policy, random=words).codes) == 0
    assert wrong(matrix.codes, requantize_mx(values, matrix.scales, policy, random=words)) == 0
    assert wrong(matrix.codes, quantize_mx(values, policy, random=words[::-1].copy()).codes) > 0
    values = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    matrix = nvfp4.quantize(values, nvfp4.FAST, 64.0, nv_policy, random=words)
    assert wrong(matrix.codes, quantize_nvfp4(values, nvfp4.FAST, 64.0, nv_policy, random=words).codes) == 0
    assert wrong(matrix.codes, requantize_nvfp4(values, matrix.scales, nvfp4.FAST, 64.0, nv_policy, random=words)) == 0
