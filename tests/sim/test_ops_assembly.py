"""Inline assembly of FP4 and quantisation kernels, against ml_dtypes and numpy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from fp4guard import UnsupportedError


@triton.jit
def to_fp4(x, out, PAIRS: tl.constexpr):
    """Four bytes an invocation, eight floats in."""
    i = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    low, high = tl.load(x + 2 * i), tl.load(x + 2 * i + 1)
    packed = tl.inline_asm_elementwise(
        """
        {
        .reg .b8 byte0, byte1, byte2, byte3;
        cvt.rn.satfinite.e2m1x2.f32 byte0, $5, $1;  // the first operand is the upper half
        cvt.rn.satfinite.e2m1x2.f32 byte1, $6, $2;
        cvt.rn.satfinite.e2m1x2.f32 byte2, $7, $3;
        cvt.rn.satfinite.e2m1x2.f32 byte3, $8, $4;
        mov.b32 $0, {byte0, byte1, byte2, byte3};
        }
        """,
        "=r,r,r,r,r,r,r,r,r",
        [low, high],
        dtype=tl.uint8,
        is_pure=True,
        pack=4,
    )
    tl.store(out + i, packed)


def test_float32_to_packed_e2m1(new_run):
    points = np.array([0.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 7.0, 1e30, np.inf], np.float32)
    values = np.concatenate([points, np.nextafter(points, np.float32(9)), np.nextafter(points, np.float32(-9))])
    values = np.resize(np.concatenate([values, -values, [np.nan, -np.nan]]), 128).astype(np.float32)
    run = new_run(arch="sm_100")
    out = run.empty((64,), torch.uint8)
    run.launch(to_fp4, (2,), run.place(values), out, PAIRS=32)
    with np.errstate(all="ignore"):
        codes = np.where(np.isnan(values), 7, values.astype(ml_dtypes.float4_e2m1fn).view(np.uint8))
    np.testing.assert_array_equal(out.numpy(), codes[::2] | codes[1::2] << 4)
    assert not run.incidents()


@triton.jit
def from_fp4(codes, out, N: tl.constexpr):
    i = tl.arange(0, N)
    pair = tl.inline_asm_elementwise(
        "{ .reg .b8 t; cvt.u8.u32 t, $1; cvt.rn.f16x2.e2m1x2 $0, t; }",
        "=r,r",
        [tl.load(codes + i).to(tl.uint32)],
        dtype=tl.uint32,
        is_pure=True,
        pack=1,
    )
    tl.store(out + i, pair)


def test_packed_e2m1_to_float16(new_run):
    codes = torch.arange(256, dtype=torch.uint8)
    run = new_run(arch="sm_100")
    out = run.empty((256,), torch.uint32)
    run.launch(from_fp4, (1,), run.place(codes), out, N=256)
    halves = out.numpy().view(np.float16).reshape(256, 2)
    nibbles = np.stack([codes.numpy() & 15, codes.numpy() >> 4], -1)
    np.testing.assert_array_equal(halves, nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float16))


@triton.jit
def to_fp8(x, out, KIND: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    low, high = tl.load(x + 2 * i), tl.load(x + 2 * i + 1)
    if KIND == "e4m3":
        r = tl.inline_asm_elementwise(
            "cvt.rn.satfinite.e4m3x2.f32 $0, $2, $1;", "=h,f,f", [low, high], dtype=tl.uint16, is_pure=True, pack=1
        )
    else:
        r = tl.inline_asm_elementwise(
            "cvt.rn.satfinite.e5m2x2.f32 $0, $2, $1;", "=h,f,f", [low, high], dtype=tl.uint16, is_pure=True, pack=1
        )
    tl.store(out + i, r)


@pytest.mark.parametrize(
    ("kind", "theirs", "most"), [("e4m3", ml_dtypes.float8_e4m3fn, 448), ("e5m2", ml_dtypes.float8_e5m2, 57344)]
)
def test_float32_to_packed_fp8(new_run, kind, theirs, most):
    halves = np.arange(1 << 16, dtype=np.uint32) << 16
    values = np.concatenate([halves, halves | 1]).view(np.float32)
    run = new_run()
    out = run.empty((len(values) // 2,), torch.uint16)
    run.launch(to_fp8, (1,), run.place(values), out, kind, len(values) // 2)
    with np.errstate(all="ignore"):
        codes = np.clip(values, -most, most).astype(theirs).view(np.uint8)
    codes = np.where(np.isnan(values), 0x7F, codes).reshape(-1, 2).astype(np.uint16)
    np.testing.assert_array_equal(out.numpy(), codes[:, 0] | codes[:, 1] << 8)


@triton.jit
def one_operand(x, out, ASM: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.inline_asm_elementwise(ASM, "=f,f", [tl.load(x + i)], dtype=tl.float32, is_pure=True, pack=1))


ONE = {
    "ex2.approx.f32 $0, $1;": np.exp2,
    "ex2.approx.ftz.f32 $0, $1;": np.exp2,
    "lg2.approx.f32 $0, $1;": np.log2,
    "tanh.approx.f32 $0, $1;": np.tanh,
    "rcp.approx.ftz.f32 $0, $1;": lambda v: 1 / v,
    "rsqrt.approx.f32 $0, $1;": lambda v: 1 / np.sqrt(v),
    "mul.f32 $0, $1, 0f40000000;": lambda v: 2 * v,
    "fma.rn.f32 $0, $1, $1, 0f3F800000;": lambda v: v * v + 1,
    "{ .reg .pred p; setp.gt.f32 p, $1, 0f3F800000; selp.f32 $0, 0f40400000, $1, p; }": lambda v: np.where(v > 1, 3, v),
    "{ .reg .pred p<2>; mov.b32 $0, $1; setp.lt.f32 p1, $1, 0f00000000; @!p1 neg.f32 $0, $1; }": lambda v: -np.abs(v),
    "{ .reg .b32 t; and.b32 t, $1, 0x7fffffff; mov.b32 $0, t; }": np.abs,
    "{ .reg .b16 lo, hi; mov.b32 {lo, hi}, $1; mov.b32 $0, {0, hi}; }": None,
    "prmt.b32 $0, $1, 0, 0x3254;": None,
}


@pytest.mark.parametrize("asm", ONE)
def test_instructions(new_run, asm):
    values = np.random.default_rng(1).normal(0, 1.5, 64).astype(np.float32)
    run = new_run()
    out = run.empty((64,))
    run.launch(one_operand, (1,), run.place(values), out, asm.replace("{0, hi}", "{zero, hi}").replace(
        ".reg .b16 lo, hi;", ".reg .b16 lo, hi, zero; mov.b16 zero, 0;"), N=64)  # fmt: skip
    function = ONE[asm] or (lambda v: (v.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))
    with np.errstate(all="ignore"):
        expected = function(values.astype(np.float64) if ONE[asm] else values).astype(np.float32)
    np.testing.assert_allclose(out.numpy(), expected, rtol=3e-7)


@triton.jit
def two_results(x, a, b, N: tl.constexpr):
    i = tl.arange(0, N)
    p, q = tl.inline_asm_elementwise(
        "shr.b32 $1, $2, 4; and.b32 $0, $2, 0x0F0F0F0F; and.b32 $1, $1, 0x0F0F0F0F;",
        "=&r,=r,r",
        [tl.load(x + i)],
        dtype=(tl.uint8, tl.uint8),
        is_pure=True,
        pack=4,
    )
    tl.store(a + i, p)
    tl.store(b + i, q)


def test_several_results_of_packed_bytes(new_run):
    x = np.arange(256, dtype=np.uint8)
    run = new_run()
    a, b = run.empty((256,), torch.uint8, name="a"), run.empty((256,), torch.uint8, name="b")
    run.launch(two_results, (1,), run.place(x), a, b, N=256)
    np.testing.assert_array_equal(a.numpy(), x & 15)
    np.testing.assert_array_equal(b.numpy(), x >> 4)


@pytest.mark.parametrize(
    ("asm", "what"),
    [
        ("ld.global.b32 $0, [$1];", "ld.global.b32"),
        ("cvt.rz.f32.f64 $0, $1;", "cvt.rz"),
        ("add.rz.f32 $0, $1, $1;", "add.rz.f32"),
        ("mov.u32 $0, %smid;", "%smid"),
    ],
)
def test_instruction_without_a_row_is_refused_by_name(new_run, asm, what):
    run = new_run()
    with pytest.raises(UnsupportedError, match=what) as caught:
        run.launch(one_operand, (1,), run.place(torch.zeros(8)), run.empty((8,)), asm, N=8)
    assert "test_ops_assembly.py" in str(caught.value)


@triton.jit
def dependent(x, out):
    """Programmatic dependent launch: nothing, where grids run one after the other."""
    gdc_wait()
    gdc_launch_dependents()
    tl.store(out, tl.load(x) + 1)


def test_a_grid_has_nothing_to_wait_for(new_run):
    run = new_run()
    out = run.empty((1,), torch.int32)
    run.launch(dependent, (1,), run.place(np.array([41], np.int32)), out)
    assert out.tolist() == [42]
