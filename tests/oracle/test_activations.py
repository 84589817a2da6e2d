"""Activations as kernels compute them in float32 lie inside; mpmath says that the reference is right."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import round_to
from fp4guard.oracle import ACTIVATIONS, TANH_APPROX, activate, activations, compare, exactly, within

F32 = np.float32
seeds = st.integers(0, 2**32 - 1)
LOG2E, HALF_ROOT = F32(1.4426950408889634), F32(0.7071067811865476)
TANH_SCALE, TANH_CUBE = F32(0.7978845608028654), F32(0.044715)


def erf(x):
    return torch.erf(torch.from_numpy(np.ascontiguousarray(x))).numpy()


def erfc(x):
    return torch.special.erfc(torch.from_numpy(np.ascontiguousarray(x))).numpy()


def fast_exp(x):
    """What Triton's exp is on an NVIDIA GPU, with an exact ex2."""
    return np.exp2((x * LOG2E).astype(np.float64)).astype(F32)


def stable_sigmoid(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, F32(1) / (F32(1) + small), small / (F32(1) + small))


def one_half(x, gate):
    return F32(0.5) * x * (F32(1) + gate)


def tanh_argument(x):
    return TANH_SCALE * (x + TANH_CUBE * x * x * x)


#: What kernels do, each its own way.
KERNELS = {
    "exp": [np.exp, fast_exp],
    "sigmoid": [lambda x: F32(1) / (F32(1) + np.exp(-x)), lambda x: F32(1) / (F32(1) + fast_exp(-x)), stable_sigmoid],
    "silu": [
        lambda x: x * (F32(1) / (F32(1) + np.exp(-x))),
        lambda x: x / (F32(1) + fast_exp(-x)),
        lambda x: x * stable_sigmoid(x),
    ],
    "gelu": [
        lambda x: one_half(x, erf(x * HALF_ROOT)),
        lambda x: x * (F32(0.5) * (F32(1) + erf(x / F32(2**0.5)))),
        lambda x: x * (F32(1) + erf(x * HALF_ROOT)) * F32(0.5),
        lambda x: F32(0.5) * x * erfc(-x * HALF_ROOT),
    ],
    "gelu_tanh": [
        lambda x: one_half(x, np.tanh(tanh_argument(x))),
        lambda x: x * (F32(0.5) * (F32(1) + np.tanh(TANH_SCALE * x * (F32(1) + TANH_CUBE * (x * x))))),
        lambda x: x * (F32(1) / (F32(1) + np.exp(F32(-2) * tanh_argument(x)))),
        lambda x: x * stable_sigmoid(F32(2) * tanh_argument(x)),
    ],
}

#: The exact functions, for mpmath's numbers.
EXACT = {
    "exp": mpmath.exp,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x / 2 * mpmath.erfc(-x / mpmath.sqrt(2)),
    "gelu_tanh": lambda x: x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
}

every = pytest.mark.parametrize("name", list(KERNELS))


def arguments(rng, count=400):
    """float32 of every size, and many where the functions bend."""
    with np.errstate(under="ignore"):
        return np.concatenate(
            [
                rng.normal(0, 3, count),
                rng.uniform(-110, 110, count),
                rng.choice([-1, 1], count) * np.exp2(rng.uniform(-149, 128, count)),
                [0.0, -0.0, 88.7, -88.7, 88.8, -88.8, -87.4, -103.5, 5.0, -5.0, 3.4e38, -3.4e38],
            ]
        ).astype(F32)


def allowed(result, expected):
    return compare(result.view(np.uint32), "float32", expected) is None


def widths(expected):
    low, high = (end.bits.astype(np.int64) for end in expected.interval("float32"))
    return np.abs(high - low)


@every
@given(seed=seeds)
def test_every_kernel_is_inside(name, seed):
    x = arguments(np.random.default_rng(seed))
    expected = getattr(activations, name)(exactly(x))
    for kernel in KERNELS[name]:
        with np.errstate(all="ignore"):
            result = kernel(x)
        assert result.dtype == F32
        assert allowed(result, expected)
        assert allowed(np.where(np.abs(result) < F32(2.0**-126), F32(0), result), expected)


@every
def test_the_exact_function_is_inside_and_the_value_is_near(name):
    x = arguments(np.random.default_rng(0), 100)
    x = x[np.abs(x) < 200]
    expected = getattr(activations, name)(exactly(x))
    with mpmath.workdps(60):
        exact = [EXACT[name](mpmath.mpf(float(value))) for value in x]
        for i, truth in enumerate(exact):
            # Far below what float32 and even float64 hold, 0 will do.
            assert mpmath.mpf(expected.low[i]) - 2.0**-1000 <= truth <= mpmath.mpf(expected.high[i]) + 2.0**-1000
            # float64's own error; gelu_tanh loses some where its argument is large and negative.
            assert abs(mpmath.mpf(expected.value[i]) - truth) <= abs(truth) * mpmath.mpf(2) ** -44 + 2.0**-200


@every
def test_intervals_hold_the_function_of_all_that_is_in_them(name):
    # Of an interval around the function's minimum the ends alone would not do.
    rng = np.random.default_rng(1)
    centre, radius = rng.normal(-0.5, 1.5, 300), rng.uniform(0, 1, 300) ** 4
    expected = getattr(activations, name)(within(centre, radius))
    for share in np.linspace(-1, 1, 41):
        x = (centre + share * radius).astype(F32)
        x = x[np.abs(x - centre) <= radius]
        inside = getattr(activations, name)(within(centre, radius))
        with np.errstate(all="ignore"):
            result = KERNELS[name][0]((centre + share * radius).astype(F32)).astype(np.float64)
        chosen = np.abs((centre + share * radius).astype(F32) - centre) <= radius
        assert ((inside.low <= result) & (result <= inside.high))[chosen].all()
    wide = getattr(activations, name)(within(np.array([-0.8]), np.array([0.5])))
    points = getattr(activations, name)(exactly(np.linspace(-1.3, -0.3, 1001)))
    # No looser than the function's range there, but for a few ulps.
    assert wide.low[0] >= points.value.min() - 2.0**-20
    assert wide.high[0] <= points.value.max() + 2.0**-20
    assert expected.shape == (300,)


@pytest.mark.parametrize(
    ("name", "most"), [("exp", 48), ("sigmoid", 40), ("silu", 50), ("gelu", 40), ("gelu_tanh", 40)]
)
def test_the_enclosure_is_a_few_ulps_wide(name, most):
    # Where nothing cancels and exp's argument is of moderate size: (3 + |x|) ulp of exp either side, 2 of the division.
    x = np.linspace(-0.5, 8, 5001).astype(F32)
    x = x[np.abs(x) > 2.0**-10]
    assert widths(getattr(activations, name)(exactly(x))).max() <= most


@every
def test_results_that_are_off_by_more_are_outside(name):
    x = np.linspace(0.5, 4, 500).astype(F32)
    expected = getattr(activations, name)(exactly(x))
    with np.errstate(all="ignore"):
        result = KERNELS[name][0](x)
    assert not allowed((result.view(np.uint32) + 64).view(F32), expected)
    assert not allowed(round_to(result.astype(np.float64), "bfloat16").value.astype(F32), expected)


def test_planted_mistakes_of_constants_and_forms_are_outside():
    x = np.random.default_rng(0).normal(0, 2, 400).astype(F32)
    gelu, gelu_tanh = activations.gelu(exactly(x)), activations.gelu_tanh(exactly(x))
    assert not allowed(one_half(x, np.tanh(tanh_argument(x))), gelu)
    assert not allowed(one_half(x, erf(x * HALF_ROOT)), gelu_tanh)
    assert not allowed(one_half(x, np.tanh(F32(0.8) * (x + TANH_CUBE * x * x * x))), gelu_tanh)
    assert not allowed(x * (F32(1) / (F32(1) + np.exp(-F32(1.702) * x))), activations.silu(exactly(x)))


def test_the_accuracy_of_tanh_is_a_policy():
    x = np.random.default_rng(0).uniform(-4, 4, 400).astype(F32)
    approximate = np.tanh(tanh_argument(x)) * F32(1 + 2.0**-12)
    assert not allowed(one_half(x, approximate), activations.gelu_tanh(exactly(x)))
    assert allowed(one_half(x, approximate), activations.gelu_tanh(exactly(x), TANH_APPROX))


@pytest.mark.parametrize(
    ("name", "at_minus_inf", "at_inf"),
    [("exp", 0, np.inf), ("sigmoid", 0, 1), ("silu", np.nan, np.inf), ("gelu", np.nan, np.inf)],
)
def test_infinities(name, at_minus_inf, at_inf):
    expected = getattr(activations, name)(exactly(np.array([-np.inf, np.inf, np.nan])))
    np.testing.assert_array_equal(np.where(expected.nan, np.nan, expected.value), [at_minus_inf, at_inf, np.nan])
    assert not expected.unconstrained.any()


@pytest.mark.parametrize(
    ("name", "extremum"),
    [
        ("silu", activations.SILU_EXTREMUM),
        ("gelu", activations.GELU_EXTREMUM),
        ("gelu_tanh", activations.GELU_TANH_EXTREMUM),
    ],
)
def test_the_minima_are_where_the_derivatives_vanish(name, extremum):
    place, least = extremum
    with mpmath.workdps(40):
        root = mpmath.findroot(lambda x: mpmath.diff(EXACT[name], x), place)
        assert abs(root - place) < 1e-15
        assert abs(EXACT[name](root) - least) < 1e-16


def test_the_slopes_of_the_gates_are_largest_as_stated():
    with mpmath.workdps(40):
        y = mpmath.sqrt(0.5)
        assert abs(y * mpmath.diff(mpmath.erf, y) - 0.4839414490382867) < 1e-15
        assert max(y / 100 * (1 - mpmath.tanh(y / 100) ** 2) for y in range(1, 400)) < 0.448


def swiglu(gate, up, limit=7, *, gate_and_up_first=True):
    gate, up = np.minimum(gate, F32(limit)), np.clip(up, F32(-limit), F32(limit))
    sigmoid = F32(1) / (F32(1) + np.exp(-(F32(1.702) * gate)))
    return (up + F32(1)) * gate * sigmoid if gate_and_up_first else (up + F32(1)) * (gate * sigmoid)


class TestGated:
    @given(seeds)
    def test_swiglu_oai_in_every_order(self, seed):
        rng = np.random.default_rng(seed)
        x = np.concatenate([rng.normal(0, 4, (6, 40)), rng.uniform(-120, 120, (6, 40))]).astype(F32)
        expected = activate(exactly(x), "swiglu_oai")
        with np.errstate(over="ignore"):
            for first in (True, False):
                assert allowed(swiglu(x[:, 0::2], x[:, 1::2], gate_and_up_first=first), expected)
            assert not allowed(swiglu(x[:, 1::2], x[:, 0::2]), expected)  # gate and up swapped
            assert not allowed(swiglu(x[:, 0::2], x[:, 1::2], limit=6), expected)
            assert not allowed(swiglu(x[:, :20], x[:, 20:]), expected)  # halves instead of interleaved
            halves = activate(exactly(x), "swiglu_oai", alpha=1.0, limit=None)
            assert not allowed(swiglu(x[:, 0::2], x[:, 1::2]), halves)

    def test_swiglu_oai_of_subnormal_numbers_in_every_order(self):
        rng = np.random.default_rng(0)
        x = np.stack([rng.integers(-(2**12), 2**12, 2000) * 2.0**-149, rng.uniform(-1, 1, 2000)], axis=-1).astype(F32)
        expected = activate(exactly(x), "swiglu_oai")
        for first in (True, False):
            assert allowed(swiglu(x[:, 0::2], x[:, 1::2], gate_and_up_first=first), expected)

    @given(seeds, st.sampled_from(["silu", "gelu", "gelu_tanh"]), st.sampled_from(["float32", "bfloat16"]))
    def test_a_gate_in_the_first_half(self, seed, name, gate_dtype):
        x = np.random.default_rng(seed).normal(0, 3, (6, 64)).astype(F32)
        gate, up = KERNELS[name][0](x[:, :32]), x[:, 32:]
        if gate_dtype == "bfloat16":
            gate = round_to(gate.astype(np.float64), "bfloat16").value.astype(F32)
        expected = activate(exactly(x), name, gate_dtype=gate_dtype)
        assert allowed(gate * up, expected)
        assert not allowed(KERNELS[name][0](up) * x[:, :32], expected)
        other = activate(exactly(x), name, gate_dtype={"float32": "bfloat16"}.get(gate_dtype, "float32"))
        assert not allowed(gate * up, other)

    def test_unknown_names_and_odd_lengths_are_refused(self):
        with pytest.raises(ValueError, match=f"activation: 'relu'; allowed are {', '.join(ACTIVATIONS)}"):
            activate(exactly(np.ones((1, 2))), "relu")
        with pytest.raises(ValueError, match=r"e: shape \(1, 3\)"):
            activate(exactly(np.ones((1, 3))), "silu")

    def test_a_product_that_may_overflow_on_the_way_is_unconstrained(self):
        expected = activate(exactly(np.array([[-1e38, 30.0]], F32)), "swiglu_oai", limit=None)
        assert expected.unconstrained.all()
