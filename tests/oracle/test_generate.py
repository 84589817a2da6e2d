import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import e8m0, round_to, unpack
from fp4guard.oracle import REGIMES, gemm, generate

CERTIFIED = [name for name, regime in REGIMES.items() if regime.certified]
DTYPES = ["float32", "bfloat16", "float16"]
PRECISION = {"bfloat16": 8, "float16": 11}

seeds = st.integers(0, 2**32 - 1)
rows = st.integers(0, 9)
lengths = st.sampled_from([0, 32, 64, 96, 224, 1056, 4096])


def halfway(values, dtype_name):
    """Which values have exactly one significant bit too many for the type."""
    significand, _ = np.frexp(np.where(values == 0, 1.0, values))
    return np.abs(significand) * 2.0 ** (PRECISION[dtype_name] + 1) % 2 == 1


def operand(kind, regime, count, k, rng):
    if kind == "mxfp4":
        return generate.mxfp4(regime, count, k, rng)
    return generate.dense(regime, (count, k), kind, rng)


@given(seeds, st.sampled_from(CERTIFIED), rows, rows, lengths, *[st.sampled_from(["mxfp4", *DTYPES])] * 2)
def test_any_two_operands_of_a_certified_regime_are_certified(seed, regime, m, n, k, left, right):
    rng = np.random.default_rng(seed)
    expected = gemm(operand(left, regime, m, k, rng), operand(right, regime, n, k, rng))
    assert expected.certified.all()
    assert not expected.unconstrained.any()


@pytest.mark.parametrize("k", [116480, 116512, 1 << 22])
def test_the_exact_regime_changes_its_alphabet_where_codes_no_longer_fit(k):
    rng = np.random.default_rng(0)
    a, b = (generate.mxfp4("exact", 1, k, rng) for _ in range(2))
    assert gemm(a, b).certified.all()
    assert (np.abs(a.decode()).max() == 6) == (k <= 116508)


@pytest.mark.parametrize("regime", CERTIFIED)
def test_what_is_too_long_to_certify_is_refused(regime):
    with pytest.raises(ValueError, match="certified regimes"):
        generate.mxfp4(regime, 1, (1 << 24) + 32, np.random.default_rng(0))


@given(
    seeds,
    st.sampled_from(list(REGIMES)),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
)
def test_dense_values_are_the_types_own(seed, regime, dtype_name, shape):
    values = generate.dense(regime, tuple(shape), dtype_name, np.random.default_rng(seed))
    assert values.shape == tuple(shape)
    np.testing.assert_array_equal(round_to(values, dtype_name).value, values)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_seed_decides(regime):
    one, two = (generate.mxfp4(regime, 7, 96, np.random.default_rng(5)) for _ in range(2))
    other = generate.mxfp4(regime, 7, 96, np.random.default_rng(6))
    assert one.codes.tobytes() + one.scales.tobytes() == two.codes.tobytes() + two.scales.tobytes()
    assert one.codes.tobytes() != other.codes.tobytes()
    dense = [generate.dense(regime, (7, 96), "float32", np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*dense)


def test_exact_has_every_code_and_the_spread_that_the_budget_allows():
    matrix = generate.mxfp4("exact", 64, 1024, np.random.default_rng(0))
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
    a, b = (generate.mxfp4("wild", 200, 224, rng) for _ in range(2))
    assert {0, 1, 253, 254, 255} <= set(np.unique(a.scales).tolist())
    expected = gemm(a, b)
    assert 0.02 < expected.nan.mean() < 0.4
    assert (expected.unconstrained & ~expected.nan).mean() < 0.4
    assert 0.1 < expected.certified.mean() < 0.7


def test_dense_wild_has_specials_and_subnormals():
    values = generate.dense("wild", (300, 64), "float32", np.random.default_rng(0))
    assert np.isnan(values).any()
    assert np.isinf(values).any()
    assert ((values != 0) & (np.abs(values) < 2.0**-126)).any()
    assert (np.abs(values) == np.finfo(np.float32).max).any()


def test_zeros_has_zero_blocks_under_any_scale_and_negative_zeros():
    matrix = generate.mxfp4("zeros", 64, 512, np.random.default_rng(0))
    elements = unpack(matrix.codes)
    assert (elements == 8).any()
    zero_blocks = ~(elements & 7).astype(bool).reshape(64, 16, 32).any(axis=2)
    assert 0.4 < zero_blocks.mean() < 0.6
    assert len(np.unique(matrix.scales[zero_blocks])) > 100
    assert e8m0.NAN in matrix.scales[zero_blocks]
    assert np.ptp(matrix.scales[~zero_blocks]) <= 4
    dense = generate.dense("zeros", (64, 512), "float16", np.random.default_rng(0))
    assert (np.signbit(dense) & (dense == 0)).any()


def test_maxima_is_as_large_as_can_be_certified():
    rng = np.random.default_rng(0)
    a, b = (generate.mxfp4("maxima", 16, 256, rng) for _ in range(2))
    assert set(np.unique(unpack(a.codes)).tolist()) == {7, 15}
    total = (np.abs(a.decode()) @ np.abs(b.decode()).T).max()
    assert 2.0**123 < total < 2.0**127
    assert np.abs(generate.dense("maxima", (16, 64), "float16", rng)).max() > 2.0**15


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda rng: generate.mxfp4("extact", 1, 32, rng), "'extact'; allowed are exact, wild"),
        (lambda rng: generate.mxfp4("exact", 1, 33, rng), "multiple of 32"),
        (lambda rng: generate.mxfp4("exact", -1, 32, rng), "rows"),
        (lambda rng: generate.dense("exact", (), "float32", rng), "at least one axis"),
        (lambda rng: generate.dense("exact", (1,), "float64", rng), "float64"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.random.default_rng(0))
