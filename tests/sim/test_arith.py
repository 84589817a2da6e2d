"""Integer and floating-point operations against Python's integers, torch and ml_dtypes."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

QUICK = settings(max_examples=12, deadline=None)
INTEGERS = {"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64}
FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


def wrap(n: int, bits: int) -> int:
    n &= (1 << bits) - 1
    return n - (1 << bits) if n >> (bits - 1) else n


def unsigned(n: int, bits: int) -> int:
    return n & ((1 << bits) - 1)


def quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


#: op -> what it gives for two Python integers of so many bits; None where TTIR leaves it undefined.
INTEGER_OPS = {
    "arith.addi": lambda a, b, n: a + b,
    "arith.subi": lambda a, b, n: a - b,
    "arith.muli": lambda a, b, n: a * b,
    "arith.divsi": lambda a, b, n: quotient(a, b) if b else None,
    "arith.remsi": lambda a, b, n: a - b * quotient(a, b) if b else None,
    "arith.divui": lambda a, b, n: unsigned(a, n) // unsigned(b, n) if b else None,
    "arith.remui": lambda a, b, n: unsigned(a, n) % unsigned(b, n) if b else None,
    "arith.andi": lambda a, b, n: a & b,
    "arith.ori": lambda a, b, n: a | b,
    "arith.xori": lambda a, b, n: a ^ b,
    "arith.shli": lambda a, b, n: a << b if 0 <= b < n else None,
    "arith.shrsi": lambda a, b, n: a >> b if 0 <= b < n else None,
    "arith.shrui": lambda a, b, n: unsigned(a, n) >> b if 0 <= b < n else None,
    "arith.maxsi": lambda a, b, n: max(a, b),
    "arith.minsi": lambda a, b, n: min(a, b),
    "arith.maxui": lambda a, b, n: max(unsigned(a, n), unsigned(b, n)),
    "arith.minui": lambda a, b, n: min(unsigned(a, n), unsigned(b, n)),
}
PREDICATES = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def pairs(bits: int):
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    one = st.integers(low, high) | st.sampled_from([low, low + 1, -1, 0, 1, 2, bits - 1, high])
    return st.lists(st.tuples(one, one), min_size=1, max_size=12)


@pytest.mark.parametrize("element", INTEGERS)
@pytest.mark.parametrize("name", INTEGER_OPS)
@QUICK
@given(data=st.data())
def test_integers_wrap_as_twos_complement(apply, name, element, data):
    dtype, bits = INTEGERS[element], int(element[1:])
    operands = data.draw(pairs(bits))
    a, b = (np.array(column, dtype)[None] for column in zip(*operands))
    kind = f"tensor<{len(operands)}x{element}>"
    found = apply(name, [kind, kind], kind, a, b)
    assert found.dtype == dtype
    for value, (x, y) in zip(found[0].tolist(), operands):
        expected = INTEGER_OPS[name](x, y, bits)
        if expected is not None:
            assert value == wrap(expected, bits), (x, y)


@pytest.mark.parametrize("name", [n for n in INTEGER_OPS if "sh" not in n])
def test_one_bit_integers(apply, name):
    """A set bit is -1 to the signed operations and 1 to the unsigned ones; numpy's bool is neither."""
    kind = "tensor<4xi1>"
    a, b = np.array([[0, 0, 1, 1]], bool), np.array([[0, 1, 0, 1]], bool)
    found = apply(name, [kind, kind], kind, a, b)
    assert found.dtype == bool
    for value, x, y in zip(found[0].tolist(), a[0].tolist(), b[0].tolist()):
        expected = INTEGER_OPS[name](-int(x), -int(y), 1)
        if expected is not None:
            assert value == bool(expected & 1), (x, y)


@pytest.mark.parametrize("element", ["i1", *INTEGERS])
@pytest.mark.parametrize("predicate", ["eq", "ne"] + [f"{s}{p}" for s in "su" for p in ("lt", "le", "gt", "ge")])
@QUICK
@given(data=st.data())
def test_integer_comparisons(apply, predicate, element, data):
    bits = int(element[1:])
    operands = data.draw(pairs(bits) if bits > 1 else st.lists(st.tuples(*[st.integers(-1, 0)] * 2), min_size=1))
    dtype = INTEGERS.get(element, bool)
    a, b = (np.array(column, dtype)[None] for column in zip(*operands))
    kind = f"tensor<{len(operands)}x{element}>"
    found = apply("arith.cmpi", [kind, kind], f"tensor<{len(operands)}xi1>", a, b, words=[predicate])
    compare = PREDICATES[predicate[-2:]]
    view = (lambda n: unsigned(n, bits)) if predicate[0] == "u" else (lambda n: n)
    assert found.dtype == bool
    assert found[0].tolist() == [compare(view(x), view(y)) for x, y in operands]


def floats(dtype, shape=None):
    """Arrays of any bit patterns, the special ones often."""
    bits, info = np.dtype(f"u{np.dtype(dtype).itemsize}"), np.finfo(dtype)
    edge = [0.0, 1.0, math.nan, math.inf, info.smallest_subnormal, info.tiny, info.max]
    edge = np.array([*edge, *np.negative(edge)], dtype).view(bits).tolist()
    element = st.integers(0, int(np.iinfo(bits).max)) | st.sampled_from(edge)
    shape = shape or hnp.array_shapes(max_dims=1, max_side=8)
    return hnp.arrays(bits, shape, elements=element).map(lambda raw: raw.view(dtype))


def same(found: np.ndarray, expected: np.ndarray) -> None:
    """The same bits, any NaN for a NaN."""
    assert found.dtype == expected.dtype
    nan = np.isnan(expected)
    assert (np.isnan(found) == nan).all()
    bits = f"u{found.dtype.itemsize}"
    assert (found.view(bits)[~nan] == expected.view(bits)[~nan]).all(), (found, expected)


def remainder(a, b):
    """Exact, by C's fmod on each: torch's vectorised one is not."""
    found = [
        math.fmod(x, y) if y != 0 and math.isfinite(x) and not math.isnan(y) else math.nan
        for x, y in zip(a[0].tolist(), b[0].tolist())
    ]
    return torch.tensor([found], dtype=torch.float64).to(a.dtype)


FLOAT_OPS = {
    "arith.addf": torch.add,
    "arith.subf": torch.sub,
    "arith.mulf": torch.mul,
    "arith.divf": torch.div,
    "arith.remf": remainder,
    "arith.negf": lambda a, b: torch.neg(a),
    "math.absf": lambda a, b: torch.abs(a),
    "math.floor": lambda a, b: torch.floor(a),
    "math.ceil": lambda a, b: torch.ceil(a),
    "math.sqrt": lambda a, b: torch.sqrt(a.double()).to(a.dtype),  # of float32, torch's own is an ulp off
}
UNARY = {"arith.negf", "math.absf", "math.floor", "math.ceil", "math.sqrt"}


@pytest.mark.parametrize("element", FLOATS)
@pytest.mark.parametrize("name", FLOAT_OPS)
@QUICK
@given(data=st.data())
def test_floats_round_once(apply, name, element, data):
    a = data.draw(floats(FLOATS[element]))[None]
    b = data.draw(floats(FLOATS[element], a.shape))
    kind = f"tensor<{a.shape[1]}x{element}>"
    arrays = (a,) if name in UNARY else (a, b)
    found = apply(name, [kind] * len(arrays), kind, *arrays)
    same(found, FLOAT_OPS[name](torch.from_numpy(a), torch.from_numpy(b)).numpy())


#: Finite and special bfloat16 codes around every boundary.
BF16_CODES = np.array(
    [0, 1, 2, 0x7F, 0x80, 0x81, 0x3F80, 0x3F81, 0x3FFF, 0x4000, 0x42FF, 0x7F7F, 0x7F80, 0x7FC0], np.uint16
)
BF16_CODES = np.concatenate([BF16_CODES, BF16_CODES | 0x8000])


@pytest.mark.parametrize("name", sorted(set(FLOAT_OPS) - {"arith.remf"}))
def test_bfloat16_rounds_every_result(apply, name):
    codes = np.stack(np.meshgrid(BF16_CODES, BF16_CODES), -1).reshape(-1, 2)
    a, b = (np.ascontiguousarray(codes[:, i]).view(ml_dtypes.bfloat16) for i in (0, 1))
    with np.errstate(all="ignore"):
        function = {
            "arith.addf": np.add,
            "arith.subf": np.subtract,
            "arith.mulf": np.multiply,
            "arith.divf": np.divide,
            "arith.negf": np.negative,
            "math.absf": np.abs,
            "math.floor": np.floor,
            "math.ceil": np.ceil,
            "math.sqrt": np.sqrt,
        }[name]
        expected = (function(a) if name in UNARY else function(a, b)).astype(np.float32)[None]
    kind = f"tensor<{len(a)}xbf16>"
    arrays = [x.astype(np.float32)[None] for x in ((a,) if name in UNARY else (a, b))]
    same(apply(name, [kind] * len(arrays), kind, *arrays), expected)


@pytest.mark.parametrize(("name", "least", "nan_wins"), [
    ("arith.maxnumf", False, False), ("arith.minnumf", True, False),
    ("arith.maximumf", False, True), ("arith.minimumf", True, True),
])  # fmt: skip
@QUICK
@given(a=st.floats(width=32), b=st.floats(width=32))
def test_minimum_and_maximum_order_zeros_and_nan(apply, name, least, nan_wins, a, b):
    found = float(apply(name, ["f32", "f32"], "f32", np.array([a], np.float32), np.array([b], np.float32))[0])
    if math.isnan(a) or math.isnan(b):
        numbers = [x for x in (a, b) if not math.isnan(x)]
        expected = math.nan if nan_wins or not numbers else numbers[0]
    else:
        key = lambda x: (x, math.copysign(1, x))  # noqa: E731
        expected = (min if least else max)((a, b), key=key)
    assert math.isnan(found) == math.isnan(expected)
    if not math.isnan(expected):
        assert (found, math.copysign(1, found)) == (expected, math.copysign(1, expected))


@pytest.mark.parametrize("a", [0.0, -0.0])
@pytest.mark.parametrize("b", [0.0, -0.0])
@pytest.mark.parametrize("name", ["arith.maxnumf", "arith.minnumf", "arith.maximumf", "arith.minimumf"])
@pytest.mark.parametrize("element", ["f16", "bf16", "f32"])
def test_the_negative_zero_is_the_smaller(apply, name, element, a, b):
    held = np.float16 if element == "f16" else np.float32
    found = apply(name, [element] * 2, element, np.array([a], held), np.array([b], held))
    negative = np.signbit([a, b])
    assert np.signbit(found[0]) == (negative.any() if "min" in name else negative.all())


@pytest.mark.parametrize("code", ["eq", "gt", "ge", "lt", "le", "ne"])
@pytest.mark.parametrize("ordered", ["o", "u"])
@QUICK
@given(data=st.data())
def test_float_comparisons_with_nan(apply, ordered, code, data):
    number = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.5])
    a, b = data.draw(number), data.draw(number)
    function = PREDICATES[code]
    either = math.isnan(a) or math.isnan(b)
    expected = (ordered == "u") if either else function(a, b)
    arrays = np.array([a], np.float32), np.array([b], np.float32)
    assert bool(apply("arith.cmpf", ["f32", "f32"], "i1", *arrays, words=[ordered + code])[0]) == expected
    assert bool(apply("arith.cmpf", ["f32", "f32"], "i1", *arrays, words=["uno"])[0]) == either
    assert bool(apply("arith.cmpf", ["f32", "f32"], "i1", *arrays, words=["ord"])[0]) != either


@pytest.mark.parametrize(("name", "reference"), [
    ("math.exp", torch.exp), ("math.exp2", torch.exp2), ("math.log", torch.log),
    ("math.log2", torch.log2), ("math.rsqrt", torch.rsqrt),
])  # fmt: skip
@QUICK
@given(x=floats(np.float32))
def test_transcendentals_are_close(apply, name, reference, x):
    kind = f"tensor<{len(x)}xf32>"
    found = apply(name, [kind], kind, x[None])
    expected = reference(torch.from_numpy(x.astype(np.float64)))
    torch.testing.assert_close(
        torch.from_numpy(found[0].astype(np.float64)), expected.float().double(), rtol=1e-6, atol=1e-44,
        equal_nan=True,
    )  # fmt: skip
    assert found.dtype == np.float32


@QUICK
@given(n=st.integers(-(2**31), 2**31 - 1))
def test_absolute_integers_wrap(apply, n):
    assert apply("math.absi", ["i32"], "i32", np.array([n], np.int32)).tolist() == [wrap(abs(n), 32)]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float16, np.float32])
def test_select_keeps_the_type(apply, dtype):
    element = {"bool": "i1", "int8": "i8", "int64": "i64", "float16": "f16", "float32": "f32"}[np.dtype(dtype).name]
    yes, no = np.ones((3, 2), dtype), np.zeros((1, 2), dtype)
    kind = f"tensor<2x{element}>"
    condition = np.array([[True, False]])
    found = apply("arith.select", ["tensor<2xi1>", kind, kind], kind, condition, yes, no)
    assert found.dtype == dtype
    assert found.tolist() == [[1, 0]] * 3


def test_a_scalar_condition_selects_whole_tensors(apply):
    condition = np.array([True, False])
    yes, no = np.full((2, 2, 3), 1), np.zeros((1, 1, 1), int)
    kind = "tensor<2x3xi64>"
    found = apply("arith.select", ["i1", kind, kind], kind, condition, yes, no)
    assert found.shape == (2, 2, 3)
    assert found[0].all()
    assert not found[1].any()
