import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import (
    BLOCK_FORMATS,
    FORMATS,
    MXFP4,
    MXFP8_E4M3,
    NVFP4,
    NanBlock,
    Overflow,
    Rounding,
    ScaleDecode,
    ScaleRule,
    ZeroBlock,
    codec,
    e8m0,
    mx,
    nvfp4,
    round_to,
    unpack,
)
from fp4guard.oracle import FP8_HOPPER, FP32, REGIMES, gemm, generate

CERTIFIED = [name for name, regime in REGIMES.items() if regime.certified]
DTYPES = ["float32", "bfloat16", "float16"]
DENSE = list(generate.DENSE)
PRECISION = {"bfloat16": 8, "float16": 11}

seeds = st.integers(0, 2**32 - 1)
rows = st.integers(0, 9)
lengths = st.sampled_from([0, 1, 32, 40, 64, 96, 224, 1056, 4096])


def halfway(values, dtype_name):
    """Which values have exactly one significant bit too many for the type."""
    significand, _ = np.frexp(np.where(values == 0, 1.0, values))
    return np.abs(significand) * 2.0 ** (PRECISION[dtype_name] + 1) % 2 == 1


def operand(kind, regime, count, k, rng, accumulator=FP32):
    if kind in BLOCK_FORMATS:
        return generate.blocks(regime, count, k, rng, BLOCK_FORMATS[kind], accumulator)
    return generate.dense(regime, (count, k), kind, rng, accumulator)


@given(seeds, st.sampled_from(CERTIFIED), rows, rows, lengths, *[st.sampled_from([*BLOCK_FORMATS, *DENSE])] * 2)
def test_any_two_operands_of_a_certified_regime_are_certified(seed, regime, m, n, k, left, right):
    rng = np.random.default_rng(seed)
    expected = gemm(operand(left, regime, m, k, rng), operand(right, regime, n, k, rng))
    assert expected.certified.all()
    assert not expected.unconstrained.any()


@given(
    seeds, st.sampled_from(CERTIFIED), st.sampled_from([1, 33, 64]), *[st.sampled_from([*BLOCK_FORMATS, *DENSE])] * 2
)
def test_of_a_narrow_accumulator_too(seed, regime, k, left, right):
    rng = np.random.default_rng(seed)
    a, b = (operand(kind, regime, 5, k, rng, FP8_HOPPER) for kind in (left, right))
    assert gemm(a, b, FP8_HOPPER).certified.all()


@pytest.mark.parametrize("kind", ["mxfp4", "e4m3"])
def test_float32s_operands_are_too_much_for_a_narrow_accumulator(kind):
    rng = np.random.default_rng(0)
    for accumulator, certified in ((FP32, False), (FP8_HOPPER, True)):
        a, b = (operand(kind, "exact", 5, 2048, rng, accumulator) for _ in range(2))
        assert gemm(a, b, FP8_HOPPER).certified.any() == certified
    with pytest.raises(ValueError, match="k: 4128; certified regimes of this kind allow up to 4096 in 14 bits"):
        generate.blocks("exact", 1, 4128, rng, accumulator=FP8_HOPPER)


@pytest.mark.parametrize("fmt", [MXFP4, NVFP4], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("k", [116480, 116512, 1 << 22])
def test_the_exact_regime_changes_its_alphabet_where_codes_no_longer_fit(k, fmt):
    rng = np.random.default_rng(0)
    a, b = (generate.blocks("exact", 1, k, rng, fmt) for _ in range(2))
    assert gemm(a, b).certified.all()
    assert (np.abs(a.decode()).max() == 6) == (k <= 116508)


@pytest.mark.parametrize("regime", CERTIFIED)
def test_what_is_too_long_to_certify_is_refused(regime):
    with pytest.raises(ValueError, match="certified regimes"):
        generate.blocks(regime, 1, (1 << 24) + 32, np.random.default_rng(0))


@given(
    seeds,
    st.sampled_from(list(REGIMES)),
    st.sampled_from(DENSE),
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
)
def test_dense_values_are_the_types_own(seed, regime, dtype_name, shape):
    values = generate.dense(regime, tuple(shape), dtype_name, np.random.default_rng(seed))
    assert values.shape == tuple(shape)
    fmt = FORMATS[dtype_name]
    codes = codec.encode(fmt, values, overflow=Overflow.NONSATURATING)  # an Inf is its own, where there is one
    np.testing.assert_array_equal(codec.decode(fmt, codes), values)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_seed_decides(regime):
    one, two = (generate.blocks(regime, 7, 96, np.random.default_rng(5)) for _ in range(2))
    other = generate.blocks(regime, 7, 96, np.random.default_rng(6))
    assert one.codes.tobytes() + one.scales.tobytes() == two.codes.tobytes() + two.scales.tobytes()
    assert one.codes.tobytes() != other.codes.tobytes()
    dense = [generate.dense(regime, (7, 96), "float32", np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*dense)


def test_exact_has_every_code_and_the_spread_that_the_budget_allows():
    matrix = generate.blocks("exact", 64, 1024, np.random.default_rng(0))
    assert len(np.unique(unpack(matrix.codes))) == 16
    # 144 * 1024 * 2^D <= 2^24 gives D = 6, three for each operand.
    assert np.ptp(matrix.scales) == 3


@pytest.mark.parametrize("kind", ["mxfp4", "bfloat16", "float32", "float16"])
@pytest.mark.parametrize("k", [32, 224, 4096])
def test_ties_has_many_halfway_sums_for_both_types(kind, k):
    rng = np.random.default_rng(k)
    value = gemm(operand(kind, "ties", 64, k, rng), operand(kind, "ties", 64, k, rng)).value
    assert halfway(value, "bfloat16").mean() > 0.15
    assert halfway(value, "float16").mean() > 0.05
    for dtype_name in PRECISION:
        # Ties of both kinds, those that go up to the even neighbour and those that go down.
        tied = value[halfway(value, dtype_name)]
        rounded = np.abs(round_to(tied, dtype_name).value)
        assert (rounded > np.abs(tied)).any()
        assert (rounded < np.abs(tied)).any()


def test_wild_has_the_ends_of_the_format_and_leaves_much_to_check():
    rng = np.random.default_rng(0)
    a, b = (generate.blocks("wild", 200, 224, rng) for _ in range(2))
    assert {0, 1, 253, 254, 255} <= set(np.unique(a.scales).tolist())
    expected = gemm(a, b)
    assert 0.02 < expected.nan.mean() < 0.4
    assert (expected.unconstrained & ~expected.nan).mean() < 0.4
    assert 0.1 < expected.certified.mean() < 0.7


def test_wild_lets_infinities_of_scales_through():
    rng = np.random.default_rng(0)
    weights = generate.blocks("wild", 400, 64, rng)
    numbers = generate.dense("wild", (100, 64), "bfloat16", rng)
    expected = gemm(numbers, weights, scale_decode=ScaleDecode.SHIFT)
    infinite = np.isinf(expected.value) & ~expected.nan & ~expected.unconstrained
    with_255 = (weights.scales == 255).any(axis=1)
    assert infinite[:, with_255].any(axis=0).mean() > 0.1, "0 * Inf and Inf - Inf hide nearly all of them"


def test_dense_wild_has_specials_and_subnormals():
    values = generate.dense("wild", (300, 64), "float32", np.random.default_rng(0))
    assert np.isnan(values).any()
    assert np.isinf(values).any()
    assert ((values != 0) & (np.abs(values) < 2.0**-126)).any()
    assert (np.abs(values) == np.finfo(np.float32).max).any()


def test_zeros_has_zero_blocks_under_any_scale_and_negative_zeros():
    matrix = generate.blocks("zeros", 64, 512, np.random.default_rng(0))
    elements = unpack(matrix.codes)
    assert (elements == 8).any()
    zero_blocks = ~(elements & 7).astype(bool).reshape(64, 16, 32).any(axis=2)
    assert 0.4 < zero_blocks.mean() < 0.6
    assert len(np.unique(matrix.scales[zero_blocks])) > 100
    assert e8m0.NAN in matrix.scales[zero_blocks]
    assert np.ptp(matrix.scales[~zero_blocks]) <= 4
    dense = generate.dense("zeros", (64, 512), "float16", np.random.default_rng(0))
    assert (np.signbit(dense) & (dense == 0)).any()


def test_nans_are_in_many_rows_and_leave_the_others_exact():
    rng = np.random.default_rng(0)
    a, b = (generate.blocks("nans", 200, 160, rng) for _ in range(2))
    nan = a.scales == e8m0.NAN
    assert 0.4 < nan.any(axis=1).mean() < 0.6
    assert nan[:, -1].mean() > 0.2
    assert nan[:, :-1].any(axis=0).all()
    expected = gemm(a, b)
    assert 0.5 < expected.nan.mean() < 0.9
    assert expected.certified.all()
    dense = generate.dense("nans", (200, 40), "bfloat16", rng)
    assert np.isnan(dense).any()
    assert np.isinf(dense).any()
    assert not np.isinf(generate.dense("nans", (200, 40), "e4m3", rng)).any()
    special = generate.blocks("nans", 200, 160, rng, BLOCK_FORMATS["mxfp8_e5m2"])
    assert np.isinf(special.decode()).any()
    some = generate.quantizable("nans", (320, 320), "float32", rng)
    for axis in (0, 1):
        poisoned = mx.quantize(some, mx.MXPolicy(nan_block=NanBlock.POISON), axis=axis).scales == e8m0.NAN
        assert 0.05 < poisoned.mean() < 0.3


def test_maxima_is_as_large_as_can_be_certified():
    rng = np.random.default_rng(0)
    a, b = (generate.blocks("maxima", 16, 256, rng) for _ in range(2))
    assert set(np.unique(unpack(a.codes)).tolist()) == {7, 15}
    total = (np.abs(a.decode()) @ np.abs(b.decode()).T).max()
    assert 2.0**123 < total < 2.0**127
    assert np.abs(generate.dense("maxima", (16, 64), "float16", rng)).max() > 2.0**15


def test_nvfp4_scales_are_more_than_powers_of_two_and_all_of_them_in_wild():
    rng = np.random.default_rng(0)
    exact = generate.blocks("exact", 64, 256, rng, NVFP4)
    significands = np.frexp(exact.decode_scales())[0]
    assert len(np.unique(significands)) == 8
    wild = generate.blocks("wild", 500, 256, rng, NVFP4)
    assert set(np.unique(wild.scales)) == set(range(128))
    assert np.isnan(wild.decode()).any()


@pytest.mark.parametrize("k", [32, 4096, 100_000])
def test_wide_elements_leave_a_part_of_the_budget_to_the_scales(k):
    matrix = generate.blocks("exact", 64, k, np.random.default_rng(0), MXFP8_E4M3)
    assert len(np.unique(matrix.elements)) > 4
    assert len(np.unique(matrix.scales)) > 1


class TestQuantizable:
    """What the regimes promise, along either axis."""

    @staticmethod
    def make(regime, shape=(96, 96), dtype_name="float32", fmt=MXFP4, seed=0):
        return generate.quantizable(regime, shape, dtype_name, np.random.default_rng(seed), fmt)

    @given(seeds, st.sampled_from(list(REGIMES)), st.sampled_from(DTYPES), st.sampled_from([MXFP4, NVFP4]))
    def test_values_are_the_types_own(self, seed, regime, dtype_name, fmt):
        values = self.make(regime, (3, 20, 50), dtype_name, fmt, seed)
        assert values.shape == (3, 20, 50)
        np.testing.assert_array_equal(round_to(values, dtype_name).value, values)

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("rule", [rule for rule in ScaleRule if rule is not ScaleRule.CEIL])
    def test_exact_survives(self, axis, rule):
        values = self.make("exact")
        matrix = mx.quantize(values, mx.MXPolicy(rule), axis=axis)
        np.testing.assert_array_equal(np.moveaxis(matrix.decode(), -1, axis), values)
        assert len(np.unique(matrix.elements)) == 16

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("dtype_name", DTYPES)
    @pytest.mark.parametrize("rule", ScaleRule)
    def test_ties_are_ties(self, axis, dtype_name, rule):
        values = self.make("ties", dtype_name=dtype_name)
        matrix = mx.quantize(values, mx.MXPolicy(rule), axis=axis)
        scaled = np.moveaxis(values, axis, -1) / np.repeat(matrix.decode_scales(), 32, axis=-1)
        for tie in (0.25, 1.25, 2.5):
            assert (np.abs(scaled) == tie).mean() > 0.01, tie

    def test_ties_of_nvfp4_are_ties(self):
        values = self.make("ties", fmt=NVFP4).astype(np.float32)
        even, away = (
            nvfp4.quantize(values, nvfp4.FAST, 64.0, nvfp4.NVPolicy(rounding))
            for rounding in (Rounding.TIES_TO_EVEN, Rounding.TIES_AWAY)
        )
        assert (even.elements != away.elements).mean() > 0.02

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("dtype_name", DTYPES)
    def test_maxima_tell_scale_rules_and_roundings_apart(self, axis, dtype_name):
        values = self.make("maxima", dtype_name=dtype_name)
        bytes_of = {rule: mx.quantize(values, mx.MXPolicy(rule), axis=axis).scales for rule in ScaleRule}
        for one, other in itertools.combinations(set(ScaleRule) - {ScaleRule.EVEN_FP32}, 2):
            assert (bytes_of[one] != bytes_of[other]).any(), (one, other)
        near = np.abs(values[..., None] / np.exp2(np.arange(-3, 4)))
        threshold = np.array([0.25, 1.25, 2.5, 5])[:, None, None, None]
        beside = (near != threshold) & (np.abs(near / threshold - 1) < 2.0 ** -(FORMATS[dtype_name].precision - 2))
        assert beside.any(axis=(1, 2, 3)).all()

    @pytest.mark.parametrize("dtype_name", DTYPES)
    def test_maxima_of_nvfp4_lie_halfway_between_scales(self, dtype_name):
        values = self.make("maxima", dtype_name=dtype_name, fmt=NVFP4).astype(np.float32)
        amax = np.abs(values).reshape(96, -1, 16).max(axis=-1)
        for scale in (amax / 6, amax):
            # E4M3 has 4 significant bits: a fifth one, and none behind it.
            significand = np.frexp(scale)[0] * 32
            assert (significand % 2 == 1).mean() > 0.05
        # Where rounding is as close as that, the order of the operations tells.
        fast, exact = (nvfp4.quantize(values, order, 384.0).scales for order in (nvfp4.FAST, nvfp4.EXACT))
        assert (fast != exact).any()

    def test_maxima_reach_the_ends_of_the_type(self):
        values = self.make("maxima", (640, 640))
        assert np.abs(values).max() == np.finfo(np.float32).max
        assert (np.abs(values)[values != 0] < 2.0**-140).any()
        assert {0, 253} <= set(mx.quantize(values, mx.MXPolicy(ScaleRule.CEIL)).scales.ravel().tolist())

    def test_zeros_have_zero_blocks_both_ways_and_subnormals(self):
        values = self.make("zeros", (320, 320))
        for axis in (0, 1):
            smallest = mx.quantize(values, axis=axis).scales
            one = mx.quantize(values, mx.MXPolicy(zero_block=ZeroBlock.ONE), axis=axis).scales
            assert 0.1 < (smallest != one).mean() < 0.8
        assert (np.signbit(values) & (values == 0)).any()
        assert ((values != 0) & (np.abs(values) < 2.0**-126)).any()

    def test_wild_has_nan_and_inf(self):
        values = self.make("wild", (320, 320))
        assert np.isnan(values).any()
        assert np.isinf(values).any()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda rng: generate.blocks("extact", 1, 32, rng), "'extact'; allowed are exact, wild"),
        (lambda rng: generate.blocks("exact", -1, 32, rng), "rows"),
        (lambda rng: generate.dense("exact", (), "float32", rng), "at least one axis"),
        (lambda rng: generate.dense("exact", (1,), "float64", rng), "'float64'; allowed are"),
        (lambda rng: generate.dense("exact", (1,), "e2m1", rng), "'e2m1'; allowed are"),
        (lambda rng: generate.dense("exact", (1,), "e8m0", rng), "'e8m0'; allowed are"),
        (lambda rng: generate.quantizable("exact", (1,), "e4m3", rng), "'e4m3'; allowed are float32"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.random.default_rng(0))
