"""Conversions and constants: rounding, saturation, sign and zero extension, bit patterns."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard import UnsupportedError
from fp4guard.sim.elements import ELEMENTS, round_to_bfloat16
from fp4guard.sim.ops.convert import constant

QUICK = settings(max_examples=50, deadline=None)


def bits_of(x):
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def test_bfloat16_rounding_on_every_tie_and_beside_it():
    """Every bfloat16 code, with what lies exactly between it and the next, and one float32 to either side."""
    codes = np.arange(1 << 16, dtype=np.uint32) << 16
    for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        x = (codes | low).view(np.float32)
        with np.errstate(all="ignore"):
            expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
        found = round_to_bfloat16(x)
        nan = np.isnan(x)
        assert (np.isnan(found) == nan).all()
        assert (bits_of(found)[~nan] == bits_of(expected)[~nan]).all()
        assert not (bits_of(found) & 0xFFFF).any()


@pytest.mark.parametrize("element", ELEMENTS)
def test_every_code_survives_a_load_and_a_store(element):
    found = ELEMENTS[element]
    raw = np.arange(256, dtype=np.uint8) if found.width == 1 else np.arange(1 << 16, dtype=np.uint16)
    raw = raw.astype(f"u{found.width}") << np.uint8(8 * max(found.width - 2, 0))
    if element == "i1":
        raw &= 1
    held = found.load(raw)
    assert held.dtype == found.held
    assert (found.store(held) == raw).all()
    assert found.torch_dtype.itemsize == found.width


FLOAT_TYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}


def nearest(x: float, fraction_bits: int, least_exponent: int, largest: float) -> float:
    """Rounding by definition, in exact arithmetic: to the nearest multiple of the last place, ties to even."""
    if x == 0 or math.isnan(x) or math.isinf(x):
        return x
    exponent = max(math.frexp(x)[1] - 1, least_exponent)
    unit = Fraction(2) ** (exponent - fraction_bits)
    rounded = round(Fraction(x) / unit) * unit
    if abs(rounded) > largest:
        return math.copysign(math.inf, x)
    return math.copysign(float(rounded), x)


LIMITS = {
    "f16": (10, -14, 65504.0),
    "bf16": (7, -126, float(torch.finfo(torch.bfloat16).max)),
    "f32": (23, -126, float(np.finfo(np.float32).max)),
}


@pytest.mark.parametrize("target", LIMITS)
@pytest.mark.parametrize("source", ["f32", "f64"])
@QUICK
@given(data=st.data())
def test_truncation_rounds_once_to_the_nearest_even(apply, source, target, data):
    if source == target:
        return
    fraction_bits = LIMITS[target][0]
    width = 32 if source == "f32" else 64
    # Ties, and ties disturbed so little that rounding by way of float32 would lose it.
    tie = st.builds(
        lambda n, e, d: math.ldexp(2 * n + 1 + d, e),
        st.integers(0, 2 << fraction_bits), st.integers(-30, 10), st.sampled_from([0, 2.0**-30, -(2.0**-30)]),
    )  # fmt: skip
    x = data.draw(st.floats(width=width) | tie)
    held = np.array([x], np.float32 if source == "f32" else np.float64)
    x = float(held[0])
    found = float(apply("arith.truncf", [source], target, held)[0])
    expected = nearest(x, *LIMITS[target])
    assert (math.isnan(found) and math.isnan(expected)) or (
        found == expected and math.copysign(1, found) == math.copysign(1, expected)
    )


@pytest.mark.parametrize(("source", "target"), [("f16", "f32"), ("bf16", "f32"), ("bf16", "f64"), ("f32", "f64")])
def test_extension_is_exact(apply, source, target):
    codes = np.arange(1 << 16, dtype=np.uint16)
    raw = codes if source != "f32" else codes.astype(np.uint32) << 16
    held = ELEMENTS[source].load(raw)[None]
    kind = f"tensor<{1 << 16}x"
    found = apply("arith.extf", [f"{kind}{source}>"], f"{kind}{target}>", held)
    expected = torch.from_numpy(raw).view(FLOAT_TYPES[source]).to(FLOAT_TYPES[target]).numpy()
    np.testing.assert_array_equal(found[0], expected)
    assert found.dtype == expected.dtype


INTEGERS = ["i8", "i16", "i32", "i64"]


@pytest.mark.parametrize("source", ["i1", *INTEGERS])
@pytest.mark.parametrize("target", INTEGERS)
def test_integer_casts(apply, source, target):
    narrow, wide = int(source[1:]), int(target[1:])
    numbers = [-1, 0] if narrow == 1 else [-(1 << (narrow - 1)), -1, 0, 1, (1 << (narrow - 1)) - 1]
    held = np.array([numbers], ELEMENTS[source].held)
    kinds = [f"tensor<{len(numbers)}x{source}>"], f"tensor<{len(numbers)}x{target}>"
    if narrow < wide:
        assert apply("arith.extsi", *kinds, held)[0].tolist() == numbers
        assert apply("arith.extui", *kinds, held)[0].tolist() == [n % (1 << narrow) for n in numbers]
    elif narrow > wide:
        found = apply("arith.trunci", *kinds, held)[0].tolist()
        assert found == [(n + (1 << (wide - 1))) % (1 << wide) - (1 << (wide - 1)) for n in numbers]


@pytest.mark.parametrize("source", INTEGERS)
def test_truncation_to_one_bit_keeps_the_last(apply, source):
    held = np.array([[-2, -1, 0, 1, 2, 3]], ELEMENTS[source].held)
    found = apply("arith.trunci", [f"tensor<6x{source}>"], "tensor<6xi1>", held)
    assert found.tolist() == [[False, True, False, True, False, True]]


@pytest.mark.parametrize("target", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("name", ["arith.sitofp", "arith.uitofp"])
@QUICK
@given(n=st.integers(-(2**31), 2**31 - 1))
def test_integers_to_floats(apply, name, target, n):
    found = apply(name, ["i32"], target, np.array([n], np.int32))
    number = n % (1 << 32) if name == "arith.uitofp" else n
    # On its way to 16 bits an integer becomes a float32 first, on every GPU that Triton knows.
    step = torch.tensor(number, dtype=torch.int64).double()
    step = step if target == "f64" else step.float()
    assert float(found[0]) == float(step.to(FLOAT_TYPES[target]))


def test_one_bit_integers_to_floats(apply):
    held = np.array([[False, True]])
    assert apply("arith.uitofp", ["tensor<2xi1>"], "tensor<2xf32>", held).tolist() == [[0, 1]]


@pytest.mark.parametrize("element", ["i32", "i64"])
@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64])
@QUICK
@given(x=st.floats() | st.sampled_from([2.0**31, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64, -0.9]))
def test_floats_to_integers_go_toward_zero_and_saturate(apply, source, element, x):
    with np.errstate(all="ignore"):
        held = np.array([x], source)
    kind, bits = f"f{held.dtype.itemsize * 8}", int(element[1:])
    for name, low, high in (
        ("arith.fptosi", -(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        ("arith.fptoui", 0, (1 << bits) - 1),
    ):
        number = float(held[0])
        if math.isnan(number):
            expected = 0
        else:
            expected = max(low, min(high, int(number))) if math.isfinite(number) else (low, high)[number > 0]
        found = apply(name, [kind], element, held)
        assert found.dtype == ELEMENTS[element].held
        assert int(found[0]) % (1 << bits) == expected % (1 << bits)


@pytest.mark.parametrize("name", ["arith.fptosi", "arith.fptoui"])
def test_floats_to_bytes_in_range(apply, name):
    numbers = [-128, -1.5, 0, 1.9, 127] if name == "arith.fptosi" else [0, 1.9, 127, 128, 255.9]
    found = apply(name, ["tensor<5xf32>"], "tensor<5xi8>", np.array([numbers], np.float32))
    assert found.dtype == np.int8
    assert [n % 256 for n in found[0].tolist()] == [int(n) % 256 for n in numbers]


@pytest.mark.parametrize(
    ("source", "target"),
    [("f32", "i32"), ("i32", "f32"), ("bf16", "i16"), ("i16", "bf16"), ("i16", "f16"), ("f64", "i64")],
)
def test_bitcast_keeps_the_bits(apply, source, target):
    raw = (np.arange(1 << 16, dtype=np.uint16)).astype(f"u{ELEMENTS[source].width}")
    raw = raw << np.uint8(8 * (ELEMENTS[source].width - 2))
    held = ELEMENTS[source].load(raw)[None]
    kind = f"tensor<{len(raw)}x"
    found = apply("tt.bitcast", [f"{kind}{source}>"], f"{kind}{target}>", held)
    assert found.dtype == ELEMENTS[target].held
    assert (ELEMENTS[target].store(found) == raw).all()


def test_a_bitcast_of_another_width_is_refused(apply):
    with pytest.raises(UnsupportedError, match="different widths"):
        apply("tt.bitcast", ["i32"], "i16", np.zeros(1, np.int32))


@pytest.mark.parametrize(("text", "element", "expected"), [
    ("true", "i1", True),
    ("dense<false>", "i1", False),
    ("-5", "i32", -5),
    ("dense<-128>", "i8", -128),
    ("-9223372036854775808", "i64", -(2**63)),
    ("1.000000e+00", "f32", 1.0),
    ("dense<-0.000000e+00>", "f16", -0.0),
    ("0xFF800000", "f32", -math.inf),
    ("0x7FC00000", "f32", math.nan),
    ("0xFC00", "f16", -math.inf),
    ("dense<0xFF80>", "bf16", -math.inf),
    ("0x7FF0000000000000", "f64", math.inf),
    ("dense<3.140630e+00>", "bf16", 3.140625),
])  # fmt: skip
def test_constants(operation, text, element, expected):
    shape = "tensor<4x2x" if text.startswith("dense") else ""
    op = operation("arith.constant", [], shape + element + (">" if shape else ""), {"value": text})
    found = constant(op)
    assert found.shape == ((1, 1, 1) if shape else (1,))
    assert found.dtype == ELEMENTS[element].held
    value = found.flat[0]
    if element == "bf16":
        value = round_to_bfloat16(found).flat[0]
    assert (math.isnan(value) and math.isnan(expected)) or (value == expected)
    assert np.signbit(value) == np.signbit(float(expected)) or math.isnan(expected)


@pytest.mark.parametrize("text", ["dense<[1, 2]>", 'dense<"0x0102">', "dense<[[1], [2]]>"])
def test_constants_whose_elements_differ_are_refused(operation, text):
    with pytest.raises(UnsupportedError, match="elements differ"):
        constant(operation("arith.constant", [], "tensor<2xi8>", {"value": text}))


def test_a_type_that_is_not_supported_is_refused_by_name(apply, monkeypatch):
    monkeypatch.delitem(ELEMENTS, "f16")
    with pytest.raises(UnsupportedError, match="the type f16"):
        apply("tt.bitcast", ["f16"], "i16", np.zeros(1, np.float16))
