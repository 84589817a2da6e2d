import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import E2M1, E4M3, NVFP4, NanBlock, NanElement, ZeroSign, nvfp4
from fp4guard.formats.nvfp4 import EXACT, FAST, ORDERS, TORCHAO, NVPolicy, quantize, requantize
from fp4guard.formats.scalar import decode_scalar, encode_scalar

f = np.float32
orders = st.sampled_from(list(ORDERS.values()))
seeds = st.integers(0, 2**32 - 1)


def normal(seed, shape=(3, 48)):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * np.exp2(rng.integers(-6, 6, (*shape[:-1], 1)))).astype(f)


def block(values, order, g):
    """One block, an operation at a time in float32: the scale byte and the codes, as each library writes them."""
    amax, g = f(np.abs(values).max()), f(g)
    sixth = f(1) / f(6)
    if order is FAST:
        scale = g * (amax * sixth)
    elif order is EXACT:
        scale = amax * (g * sixth)
    else:
        scale = min(max((amax / f(6)) / g, f(2.0**-6)), f(448))
    byte = encode_scalar(E4M3, float(scale))
    rounded = f(decode_scalar(E4M3, byte))
    if order is FAST:
        multiplier = f(1) / (rounded * (f(1) / g)) if rounded else f(0)
    elif order is EXACT:
        multiplier = min(f(1) / (rounded * (f(1) / g)), np.finfo(f).max) if rounded else np.finfo(f).max
    else:
        multiplier = (f(1) / g) / rounded
    return byte, [encode_scalar(E2M1, float(v * multiplier)) for v in values]


@given(seeds, orders, st.floats(0.25, 4, width=32))
def test_every_block_is_its_order_step_by_step(seed, order, factor):
    values = normal(seed)
    g = float(order.global_scale(np.abs(values).max()) * f(factor))
    matrix = quantize(values, order, g)
    for row, number in np.ndindex(3, 3):
        part = slice(16 * number, 16 * number + 16)
        byte, codes = block(values[row, part], order, g)
        assert matrix.scales[row, number] == byte
        assert matrix.elements[row, part].tolist() == codes


@given(seeds, orders)
def test_what_decoding_gives_is_near(seed, order):
    values = normal(seed)
    amax = np.abs(values).max()
    matrix = quantize(values, order, float(order.global_scale(amax)))
    block_amax = np.abs(values.reshape(3, 3, 16)).max(axis=2)
    # Half of E2M1's widest step, 1 of 6, and E4M3's 1/16; below its least normal scale an absolute error.
    bound = np.repeat(block_amax * (1 / 6 + 1 / 16) + amax / 448 * 2.0**-6, 16, axis=1)
    assert (np.abs(matrix.decode() - values) <= bound).all()
    assert matrix.format is NVFP4


def test_orders_part():
    """Where values meet ties, as small integers do: never in random reals, and by a step."""
    values = np.random.default_rng(0).integers(0, 97, (64, 4096)).astype(f)
    results = [quantize(values, order, float(order.global_scale(f(96)))) for order in ORDERS.values()]
    for one, other in itertools.combinations(results, 2):
        steps = np.abs(one.elements.astype(int) - other.elements)
        assert 0 < (steps != 0).mean() < 0.05
        assert steps.max() == 1


class TestZeroScale:
    values = np.array([2.0**-20] * 16 + [1.0] * 16, f)

    def test_fast_writes_zeros(self):
        matrix = quantize(self.values, FAST, 448 * 6)
        assert matrix.scales[0] == 0
        assert not matrix.elements[:16].any()

    def test_exact_writes_the_largest_which_decodes_to_zero(self):
        matrix = quantize(self.values, EXACT, 448 * 6)
        assert matrix.scales[0] == 0
        assert set(matrix.elements[:16].tolist()) == {7}
        assert not matrix.decode()[:16].any()

    def test_torchao_never_has_one(self):
        matrix = quantize(self.values, TORCHAO, float(f(1) / f(448 * 6)))
        assert matrix.scales[0] == 0x08
        assert decode_scalar(E4M3, 0x08) == 2.0**-6


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_block_of_zeros_is_zeros(order):
    assert not quantize(np.zeros(16, f), order, 1.0).decode().any()


@given(seeds, orders)
def test_own_scales_give_the_same(seed, order):
    values = normal(seed, (3, 41))
    g = float(order.global_scale(np.abs(values).max()))
    matrix = quantize(values, order, g)
    again = requantize(values, matrix.scales, order, g)
    np.testing.assert_array_equal(again.elements, matrix.elements)
    assert again.tensor_scale == matrix.tensor_scale


def test_any_axis_becomes_the_last():
    values = normal(1, (40, 24))
    np.testing.assert_array_equal(quantize(values, FAST, 64.0, axis=0).codes, quantize(values.T, FAST, 64.0).codes)


def test_non_finite_values_are_a_policy():
    values = np.ones(32, f)
    values[3] = np.nan
    with pytest.raises(ValueError, match="nan_block=NanBlock"):
        quantize(values, FAST, 64.0)
    poisoned = quantize(values, FAST, 64.0, NVPolicy(nan_block=NanBlock.POISON))
    assert np.isnan(poisoned.decode()[:16]).all()
    assert not np.isnan(poisoned.decode()[16:]).any()
    ignored = quantize(values, FAST, 64.0, NVPolicy(nan_block=NanBlock.IGNORE, nan_element=NanElement.MAX))
    assert ignored.elements[3] == 7
    assert ignored.scales[0] == ignored.scales[1]


def test_the_sign_of_zero_is_a_policy():
    values = np.array([-1e-9] * 15 + [1.0], f)
    assert quantize(values, FAST, 64.0).elements[0] == 8
    assert quantize(values, FAST, 64.0, NVPolicy(zero_sign=ZeroSign.DROP)).elements[0] == 0


@pytest.mark.parametrize("g", [0.0, -1.0, float("inf"), float("nan"), 0.1, 1e300])
def test_global_scales_that_are_none_are_refused(g):
    with pytest.raises(ValueError, match="global_scale"):
        quantize(np.zeros(16, f), FAST, g)


def test_a_multiplier_beyond_float32_makes_no_number_of_a_zero():
    values = np.zeros(32, f)
    values[0], values[16] = 1e-33, 1e-38
    with pytest.raises(ValueError, match=r"global_scale: 2.68.*e\+36; .*Inf"):
        quantize(values, FAST, float(FAST.global_scale(f(1e-33))))
    policy = NVPolicy(nan_element=NanElement.MAX)  # CUDA's conversion
    found = quantize(values, FAST, float(FAST.global_scale(f(1e-33))), policy)
    assert found.elements[:2].tolist() == [7, 0]
    assert set(found.elements[16:].tolist()) == {7}


def test_float64_is_refused():
    with pytest.raises(TypeError, match="values: dtype float64"):
        quantize(np.zeros(16), FAST, 1.0)


def test_every_order_is_named():
    assert {name: order.name for name, order in ORDERS.items()} == {name: name for name in ORDERS}
    assert nvfp4.SPAN == 2688
