"""What kernels compute lies inside of what the steps enclose, and the enclosure is as narrow as it can be."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard.formats import round_to
from fp4guard.oracle import FP32_TRUNCATING, Expected, NanOperand, compare, exactly, steps, within

seeds = st.integers(0, 2**32 - 1)
F32 = np.float32
MIN_NORMAL = 2.0**-126
ROWS, TERMS = 40, 12


def flush(x):
    return np.where(np.abs(x) < MIN_NORMAL, 0 * x, x)


def keep(x):
    return x


def data(kind, shape, rng):
    if kind == "integers":
        return rng.integers(-9, 10, shape).astype(F32)
    if kind == "normal":
        return rng.normal(0, 3, shape).astype(F32)
    scale = np.exp2(rng.integers(-149, 128, shape))
    special = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4028235e38, 2.0**-126], shape)
    with np.errstate(over="ignore", under="ignore"):
        wild = (rng.uniform(-1, 1, shape) * scale).astype(F32)
    return np.where(rng.random(shape) < 0.1, special, wild).astype(F32)


class Kernel:
    """float32 arithmetic, as one compiler or another may do it."""

    def __init__(self, subnormal, fuse):
        self.subnormal, self.fuse, self.exact = subnormal, fuse, None

    def store(self, exact):
        return self.subnormal(self.subnormal(exact).astype(F32).astype(np.float64)).astype(F32)

    def read(self, x):
        return self.subnormal(x.astype(np.float64))

    def run(self, name, x, y):
        ready, self.exact = self.exact, None
        if name == "multiply":
            exact = self.read(x) * self.read(y)  # of two float32: exact in float64
            self.exact = exact if self.fuse else None
            return self.store(exact)
        if name == "add":
            if ready is not None:  # fused: the product was not rounded. float64's rounding of the sum is 2^-53's
                return self.store(ready + self.read(y))
            return self.store(self.read(x) + self.read(y))
        if name == "maximum":
            return np.fmax(self.read(x), self.read(y)).astype(F32)
        if name == "minimum":
            return np.fmin(self.read(x), self.read(y)).astype(F32)
        if name == "negate":
            return -x
        return round_to(x.astype(np.float64), name).value.astype(F32)

    def total(self, x, rng):
        result = self.read(x[:, 0])
        terms = list(rng.permutation(x.shape[1])) if self.fuse else list(range(x.shape[1]))
        result = np.zeros(len(x))
        for term in terms:
            result = self.read(self.store(result + self.read(x[:, term])))
        return result.astype(F32)


STEPS = {
    "multiply": steps.multiply,
    "add": steps.add,
    "maximum": steps.maximum,
    "minimum": steps.minimum,
    "negate": lambda e, _: steps.negate(e),
    "bfloat16": lambda e, _: steps.rounded(e, "bfloat16"),
    "float16": lambda e, _: steps.rounded(e, "float16"),
}


def inside(result, expected):
    """`result`, float32, against the enclosure itself: what is held between steps is not rounded once more."""
    result = result.astype(np.float64)
    right = (expected.low <= result) & (result <= expected.high)
    return np.where(expected.nan, np.isnan(result), right | expected.unconstrained)


@settings(max_examples=150)
@given(
    seeds,
    st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=6),
    st.sampled_from(["integers", "normal", "wild"]),
    st.booleans(),
)
def test_every_kernel_is_inside(seed, program, kind, summed):
    rng = np.random.default_rng(seed)
    start = data(kind, (ROWS, TERMS), rng)
    operands = [data(kind, (ROWS, TERMS) if rng.random() < 0.5 else (1, TERMS), rng) for _ in program]
    expected = exactly(start)
    for name, operand in zip(program, operands):
        expected = STEPS[name](expected, operand)
    for subnormal in (keep, flush):
        for fuse in (False, True):
            kernel, x = Kernel(subnormal, fuse), start
            with np.errstate(all="ignore"):
                for name, operand in zip(program, operands):
                    x = kernel.run(name, x, np.broadcast_to(operand, x.shape))
                assert inside(x, expected).all()
                if summed:
                    assert inside(kernel.total(x, rng), steps.total(expected, axis=1)).all()


@given(seeds, st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=6))
def test_what_is_exactly_representable_stays_certified(seed, program):
    rng = np.random.default_rng(seed)
    expected = exactly(rng.integers(-3, 4, (ROWS, TERMS)).astype(F32))
    exact = expected.value
    for name in program:
        operand = rng.integers(-3, 4, (ROWS, TERMS)).astype(F32)
        expected = STEPS[name](expected, operand)
        # 4^6 * 3 has 13 bits: bfloat16 rounds some, and what is rounded is exact again.
        exact = {
            "multiply": exact * operand,
            "add": exact + operand,
            "maximum": np.maximum(exact, operand),
            "minimum": np.minimum(exact, operand),
            "negate": -exact,
        }.get(name, round_to(exact, name if name.endswith("16") else "float32").value)
    total = steps.total(expected, axis=1)
    assert expected.certified.all()
    assert total.certified.all()
    np.testing.assert_array_equal(expected.value, exact)
    np.testing.assert_array_equal(total.value, exact.sum(axis=1))


@given(seeds, st.integers(1, 6))
def test_the_enclosure_is_a_few_ulps_wide(seed, length):
    # Positive numbers of one size: nothing cancels, so each step adds half an ulp on both sides, and a fused one as
    # much; with the steps of float64 and what an end's binade makes of it, 2 ulps.
    rng = np.random.default_rng(seed)
    expected = exactly(rng.uniform(1, 2, 200).astype(F32))
    for _ in range(length):
        name = rng.choice(["multiply", "add"])
        expected = STEPS[name](expected, rng.uniform(1, 2, 200).astype(F32))
    low, high = (end.bits.astype(np.int64) for end in expected.interval("float32"))
    assert (high - low <= 2 * length).all()
    assert (high - low > 0).any() or length == 1


@given(seeds, st.sampled_from(["multiply", "add"]))
def test_one_step_is_one_rounding_and_holds_the_exact_result(seed, name):
    x, y = np.random.default_rng(seed).normal(size=(2, 100)).astype(F32)
    result = x * y if name == "multiply" else x + y
    expected = STEPS[name](exactly(x), y)
    low, high = expected.interval("float32")
    np.testing.assert_array_equal(low.bits, result.view(np.uint32))
    np.testing.assert_array_equal(high.bits, result.view(np.uint32))
    operator = Fraction.__mul__ if name == "multiply" else Fraction.__add__
    for one, two, least, most in zip(x.tolist(), y.tolist(), expected.low.tolist(), expected.high.tolist()):
        assert Fraction(least) <= operator(Fraction(one), Fraction(two)) <= Fraction(most)


def test_what_float64_cannot_hold_is_enclosed():
    small = steps.add(exactly(np.array([1.0])), F32(2.0**-100))
    assert small.low < 1 < small.high
    third = within(np.array([1 / 3]), 0.0)  # 53 bits: its products with float32 numbers are not exact
    product = steps.multiply(third, F32(0.7))
    exact = Fraction(1 / 3) * Fraction(float(F32(0.7)))
    assert Fraction(float(product.low[0])) < exact < Fraction(float(product.high[0]))


def planted(x, bias, mistake):
    """relu((x * 0.7 + bias)), with one mistake."""
    scale = F32(0.7)
    if mistake == "bias first":
        return np.maximum((x + bias) * scale, 0)
    if mistake == "rounded to bfloat16 in between":
        return np.maximum(round_to((x * scale).astype(np.float64), "bfloat16").value.astype(F32) + bias, 0)
    if mistake == "no relu":
        return x * scale + bias
    if mistake == "truncated":
        exact = x.astype(np.float64) * scale + bias
        return np.maximum((exact.astype(F32).view(np.uint32) - 4).view(F32), 0)
    return np.maximum(x * scale + bias, 0)


MISTAKES = ["bias first", "rounded to bfloat16 in between", "no relu", "truncated"]


@pytest.mark.parametrize("mistake", [None, *MISTAKES])
def test_planted_mistakes_are_outside(mistake):
    rng = np.random.default_rng(0)
    x, bias = rng.normal(size=(2, 500)).astype(F32)
    expected = steps.relu(steps.add(steps.multiply(exactly(x), F32(0.7)), bias))
    mismatch = compare(planted(x, bias, mistake).view(np.uint32), "float32", expected)
    assert (mismatch is None) == (mistake is None)


class TestTotal:
    def test_it_is_exact_up_to_the_limit_of_the_accumulator_and_bounded_beyond(self):
        terms = np.ones((1, 1 << 12), F32) * F32(2.0**12)
        assert steps.total(exactly(terms), axis=1).certified.all()
        terms[0, 0] = 1
        bounded = steps.total(exactly(terms), axis=1)
        assert bounded.certified.all()
        terms[0, :2] = 2.0**13 + 1
        bounded = steps.total(exactly(terms), axis=1)
        assert not bounded.certified.any()
        assert bounded.bound[0] < 2.0**-24 * 2.0**12 * 2.0**25

    @given(seeds, st.sampled_from([1, 2, 7, 60]))
    def test_any_tree_is_inside(self, seed, n):
        rng = np.random.default_rng(seed)
        x = (rng.normal(size=(5, n)) * np.exp2(rng.integers(-12, 12, (5, n)))).astype(F32)
        terms = [x[:, i] for i in range(n)]
        while len(terms) > 1:
            one, two = (terms.pop(int(rng.integers(len(terms)))) for _ in range(2))
            terms.append(one + two)
        expected = steps.total(exactly(x), axis=1)
        assert inside(terms[0], expected).all()
        exact = [sum(map(Fraction, row)) for row in x.astype(np.float64).tolist()]
        for low, value, high in zip(expected.low.tolist(), exact, expected.high.tolist()):
            assert Fraction(low) <= value <= Fraction(high)

    @given(seeds)
    def test_a_truncating_adder_has_a_wider_bound(self, seed):
        x = np.random.default_rng(seed).normal(size=(5, 60)).astype(F32)
        total = np.zeros(5, F32)
        for i in range(60):
            exact = total.astype(np.float64) + x[:, i]
            nearest = exact.astype(F32)
            total = np.where(np.abs(nearest) > np.abs(exact), np.nextafter(nearest, F32(0)), nearest)
        assert inside(total, steps.total(exactly(x), 1, FP32_TRUNCATING)).all()

    def test_infinities(self):
        terms = np.array([[np.inf, 1], [-np.inf, 1], [np.inf, -np.inf], [np.inf, np.nan], [3e38, 3e38]])
        total = steps.total(exactly(terms.astype(F32)), axis=1)
        assert total.nan.tolist() == [False, False, True, True, False]
        assert total.unconstrained.tolist() == [False, False, False, False, True]
        assert total.value[:2].tolist() == [np.inf, -np.inf]
        assert total.certified[:4].all()

    def test_a_partial_sum_may_be_flushed(self):
        least = 2.0**-126
        total = steps.total(exactly(np.array([[least, -1.5 * least, least]])), axis=1)
        assert total.low <= 0.5 * least < least <= total.high  # (1 - 1.5 -> 0) + 1


class TestNanAndInf:
    def test_ieee(self):
        x = exactly(np.array([np.inf, np.inf, -np.inf, np.nan, np.inf, 2.0]))
        y = np.array([0.0, 2.0, 2.0, 0.0, -np.inf, np.inf])
        product, total = steps.multiply(x, y), steps.add(x, y)
        assert product.nan.tolist() == [True, False, False, True, False, False]
        assert product.value[[1, 2, 4, 5]].tolist() == [np.inf, -np.inf, -np.inf, np.inf]
        assert total.nan.tolist() == [False, False, False, True, True, False]
        assert product.certified.all()
        assert total.certified.all()

    @pytest.mark.filterwarnings("error")
    def test_a_sum_of_bounds_beyond_float64_is_unconstrained_and_no_warning(self):
        huge = np.finfo(np.float64).max
        e = Expected(*(np.full((2, 1), end) for end in (0.0, -huge, huge)), *np.zeros((2, 2, 1), np.bool_))
        assert steps.total(e, axis=0).unconstrained.all()

    def test_an_overflow_that_may_or_may_not_happen_leaves_nothing_known_of_what_it_meets(self):
        huge = steps.multiply(exactly(np.array([3.4e38], F32)), F32(1.5))
        assert huge.high == np.inf
        assert huge.low < np.inf
        assert steps.multiply(huge, 0.0).unconstrained.all()
        assert steps.add(huge, -np.inf).unconstrained.all()
        assert not steps.multiply(huge, 2.0).unconstrained.any()

    def test_a_flushed_number_times_inf_is_unconstrained(self):
        assert steps.multiply(exactly(np.array([2.0**-130])), np.inf).unconstrained.all()

    def test_unconstrained_stays_unless_a_nan_is_certain(self):
        unknown = Expected(*(np.zeros(1) for _ in range(3)), np.zeros(1, bool), np.ones(1, bool))
        assert steps.add(unknown, 1.0).unconstrained.all()
        assert steps.multiply(unknown, np.nan).nan.all()
        assert steps.relu(unknown).unconstrained.all()
        assert steps.total(unknown, axis=0).unconstrained.all()

    @pytest.mark.parametrize(
        ("nan", "value"), [(NanOperand.NUMBER, 0.0), (NanOperand.PROPAGATE, np.nan)], ids=lambda x: str(x)
    )
    def test_the_larger_of_nan_and_a_number_is_a_policy(self, nan, value):
        expected = steps.relu(exactly(np.array([np.nan, -1.0, 2.0])), nan)
        np.testing.assert_array_equal(np.where(expected.nan, np.nan, expected.value), [value, 0, 2])
        torch_says = torch.relu(torch.tensor([np.nan, -1.0, 2.0]))
        assert bool(torch_says[0].isnan()) == np.isnan(value) or nan is NanOperand.NUMBER

    def test_clamp(self):
        expected = steps.clamp(exactly(np.array([-9.0, 0.5, 9.0, np.nan])), -7.0, 7.0)
        assert expected.value.tolist() == [-7.0, 0.5, 7.0, -7.0]
        with pytest.raises(ValueError, match=r"low: 2; allowed is up to high, 1"):
            steps.clamp(expected, 2, 1)


def test_subnormals_may_be_flushed_anywhere():
    tiny = exactly(np.array([2.0**-130, 1.0]))
    assert steps.multiply(tiny, 2.0**10).low.tolist() == [0, 2.0**10]
    assert steps.add(tiny, 1.0).low.tolist() == [1, 2]
    assert steps.maximum(tiny, 0.0).low.tolist() == [0, 1]
    assert steps.multiply(exactly(np.array([1.0])), 2.0**-130).low == 0


def test_operands_are_what_the_kernel_holds():
    one = exactly(np.ones(1))
    with pytest.raises(ValueError, match=r"factor: 0.1; allowed are numbers that float32 holds"):
        steps.multiply(one, 0.1)
    with pytest.raises(ValueError, match=r"addend: 1e-60"):
        steps.add(one, np.array([1e-60]))
    with pytest.raises(TypeError, match="addend: dtype int64"):
        steps.add(one, np.ones(1, np.int64))
    assert steps.multiply(one, F32(0.1)).value == float(F32(0.1))
    assert steps.multiply(one, torch.tensor([0.5], dtype=torch.bfloat16)).value == 0.5
    assert steps.multiply(one, within(np.ones(1), 0.25)).bound >= 0.25
