import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import round_to
from fp4guard.oracle import Expected, exactly, within
from fp4guard.oracle.expected import stack

NO = np.zeros(2, bool)


def test_values_given_once_stay_one_array_and_are_certified():
    expected = exactly(np.array([[1.0, -0.1], [np.inf, np.nan]]))
    assert expected.is_point
    assert expected.low is expected.value is expected.high
    assert expected.certified.all()
    assert expected.nan.tolist() == [[False, False], [False, True]]
    np.testing.assert_array_equal(expected.bound, 0)


def test_what_is_expected_does_not_change_with_the_tensor_it_came_from():
    for tensor in (torch.ones(2, dtype=torch.float64), torch.ones(2), np.ones(2)):
        expected = exactly(tensor)
        tensor[:] = 7
        assert expected.value.tolist() == [1, 1]


@given(
    st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=5),
    st.floats(0, 1e30),
    st.sampled_from(["float32", "bfloat16", "float16"]),
)
def test_the_interval_is_that_of_the_rounded_ends(values, bound, dtype_name):
    value = np.array(values)
    expected = within(value, bound)
    low, high = expected.interval(dtype_name)
    np.testing.assert_array_equal(low.value, round_to(expected.low, dtype_name).value)
    np.testing.assert_array_equal(high.value, round_to(expected.high, dtype_name).value)
    assert (expected.low <= value - bound).all()
    assert (expected.high >= value + bound).all()
    assert (expected.bound >= bound).all()
    assert (expected.certified == (bound == 0)).all()


def test_an_end_at_infinity_is_a_bound_without_limit_and_a_certain_infinity_is_none():
    expected = Expected(np.array([1.0, np.inf]), np.array([0.5, np.inf]), np.array([np.inf, np.inf]), NO, NO)
    assert expected.bound.tolist() == [np.inf, 0]
    assert expected.certified.tolist() == [False, True]
    assert expected.interval("float16").high.value.tolist() == [np.inf, np.inf]


def test_unconstrained_elements_are_not_certified_and_nan_is():
    expected = Expected(np.zeros(2), np.zeros(2), np.zeros(2), np.array([True, False]), np.array([True, True]))
    assert expected.certified.tolist() == [True, False]


def test_parts_and_stacks_keep_every_array():
    rng = np.random.default_rng(0)
    whole = within(rng.normal(size=(4, 6)), np.abs(rng.normal(size=(4, 6))))
    parts = stack([whole[row] for row in range(4)])
    for name in ("value", "low", "high", "nan", "unconstrained"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(whole.reshape(2, -1), name), getattr(whole, name).reshape(2, -1))
    points = stack([exactly(np.ones(3)), exactly(np.zeros(3))])
    assert points.is_point
    assert not stack([exactly(np.ones(3)), within(np.ones(3), 0.5)]).is_point


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ((np.ones(2), np.ones(2), np.ones(2), np.zeros(3, bool), NO), r"nan: shape \(3,\); value has \(2,\)"),
        ((np.ones(2), np.array([1.0, 2.0]), np.full(2, 3.0), NO, NO), r"low: 2.0 at \(1,\); .* value is 1.0"),
        ((np.ones(2), np.ones(2), np.array([1.0, np.nan]), NO, NO), r"high: nan at \(1,\)"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(arrays, match):
    with pytest.raises(ValueError, match=match):
        Expected(*arrays)


@pytest.mark.parametrize("bound", [-1.0, np.nan, np.array([0.0, -1e-300])])
def test_a_bound_is_a_number_from_0_on(bound):
    with pytest.raises(ValueError, match="bound: a negative number or NaN"):
        within(np.ones(2), bound)
