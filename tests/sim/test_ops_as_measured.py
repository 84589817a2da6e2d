"""Corners that a comparison with an H200 showed (tests/conformance), one test each."""

from __future__ import annotations

import numpy as np
import pytest

from fp4guard.sim.ops.ptx import Snippet

NAN, INF = np.nan, np.inf


def snippet(code, *operands):
    """Bits of 32 bits to bits."""
    constraints = ["=r", *["r"] * len(operands)]
    inputs = [np.array([x], np.uint32) for x in operands]
    with np.errstate(all="ignore"):
        return int(Snippet(code, constraints).run(inputs, 1, (1,))[0][0])


def library(apply, symbol, types, result, *operands):
    return apply("tt.extern_elementwise", types, result, *operands, attributes={"symbol": symbol})


@pytest.mark.parametrize(
    ("code", "operands", "expected"),
    [
        ("min.f32 $0, $1, $2;", (0x80000000, 0), 0x80000000),
        ("max.f32 $0, $1, $2;", (0, 0x80000000), 0),
        ("min.f16x2 $0, $1, $2;", (0x00008000, 0x80000000), 0x80008000),
        ("max.bf16x2 $0, $1, $2;", (0x00008000, 0x80000000), 0),
        ("max.u32 $0, $1, $2;", (0, 0xFFFFFFFF), 0xFFFFFFFF),
        ("min.s32 $0, $1, $2;", (0, 0), 0),
        ("cvt.sat.f32.f32 $0, $1;", (0x80000000,), 0),
    ],
)
def test_zeros_have_signs(code, operands, expected):
    assert snippet(code, *operands) == expected


@pytest.mark.parametrize(
    ("symbol", "source", "target", "expected"),
    [
        ("__nv_float2int_rn", "f32", "i32", 0),
        ("__nv_float2uint_rn", "f32", "i32", 0),
        ("__nv_double2int_rn", "f64", "i32", -(2**31)),
        ("__nv_double2uint_rz", "f64", "i32", -(2**31)),
        ("__nv_float2ll_rz", "f32", "i64", -(2**63)),
        ("__nv_float2ull_rd", "f32", "i64", -(2**63)),
        ("__nv_double2ull_ru", "f64", "i64", -(2**63)),
        ("__nv_ilogbf", "f32", "i32", -(2**31)),
    ],
)
def test_integer_of_nan(apply, symbol, source, target, expected):
    x = np.array([[NAN, 3.0]], "f4" if source == "f32" else "f8")
    found = library(apply, symbol, [f"tensor<2x{source}>"], f"tensor<2x{target}>", x)
    assert found.tolist() == [[expected, 1 if "ilogb" in symbol else 3]]


def test_fma_of_a_large_product_and_infinity(apply):
    a, b, c = (np.array([[v]]) for v in (1e300, -1e300, INF))
    assert apply("math.fma", ["tensor<1xf64>"] * 3, "tensor<1xf64>", a, b, c) == INF


def test_norms_of_large_numbers(apply):
    large = np.full((1, 1), 1e300)
    assert library(apply, "__nv_norm4d", ["tensor<1xf64>"] * 4, "tensor<1xf64>", *[large] * 4) == 2e300


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("cyl_bessel_i0", -INF, INF),
        ("cyl_bessel_i1", -INF, -INF),
        ("j0", -INF, 0.0),
        ("j1", -INF, -0.0),
        ("y1", INF, 0.0),
        ("y0", -INF, NAN),
        ("sinpi", 1.0, 0.0),
        ("sinpi", -465.0, -0.0),
        ("sinpi", 1.5, -1.0),
        ("sinpi", 1e300, 0.0),
        ("sinpi", INF, NAN),
        ("cospi", 0.5, 0.0),
        ("cospi", 1.0, -1.0),
        ("cospi", -0.5, 0.0),
        ("cospi", -INF, NAN),
    ],
)
def test_functions_at_their_ends(apply, name, x, expected):
    found = library(apply, f"__nv_{name}", ["tensor<1xf64>"], "tensor<1xf64>", np.array([[x]]))
    np.testing.assert_array_equal(found, [[expected]])
    assert np.isnan(expected) or np.signbit(found) == np.signbit(expected)


def test_the_larger_part_of_tf32x3_is_to_nearest(apply):
    """What then remains of this number fits the smaller part; cut off, the larger would leave 12 bits."""
    x = np.float32(1 + 2**-11 + 2**-12 + 2**-22)
    a, b = np.zeros((1, 16, 16), np.float32), np.zeros((1, 16, 16), np.float32)
    a[0, 0, 0], b[0, 0, 0] = x, 1
    types = ["tensor<16x16xf32>"] * 3
    found = apply("tt.dot", types, "tensor<16x16xf32>", a, b, np.zeros_like(a), words=("tf32x3",))
    assert found[0, 0, 0] == x
