"""PTX, an instruction at a time: what is computed is right to the bit, and what is not is refused by its name."""

from __future__ import annotations

import math
import re

import ml_dtypes
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given
from hypothesis import strategies as st

from fp4guard import UnsupportedError
from fp4guard.sim.ops import ptx_cvt
from fp4guard.sim.ops.ptx import INSTRUCTIONS, Snippet
from fp4guard.sim.ops.ptx_types import TYPES

NAN, INF = np.nan, np.inf
DECLARED = ".reg .b8 c; .reg .b16 h, i; .reg .b32 r, s; .reg .b64 l; .reg .pred p, q; "


def run(code, *operands):
    """Registers of 32 bits in and out."""
    inputs = [np.atleast_1d(np.asarray(x, np.uint32)) for x in operands]
    with np.errstate(all="ignore"):
        (bits,) = Snippet(DECLARED + code, ["=r", *["r"] * len(inputs)]).run(inputs, 1, inputs[0].shape)
    return bits


def bits(values, dtype=np.float32):
    return np.asarray(values, dtype).view(f"u{np.dtype(dtype).itemsize}").astype(np.uint32)


# -- refusals --------------------------------------------------------------------------------------------------


@triton.jit
def snippet_of_three(x, out, ASM: tl.constexpr, CONSTRAINTS: tl.constexpr):
    i = tl.arange(0, 8)
    v = tl.load(x + i)
    r = tl.inline_asm_elementwise(ASM, CONSTRAINTS, [v, v], dtype=tl.float32, is_pure=True, pack=1)  # the line
    tl.store(out + i, r)


REFUSED = [
    # Stochastic rounding, four at a time, and pairs of types that are not there.
    "cvt.rs.bf16x2.f32 $0, $1, $2, $1",
    "cvt.rs.f16x2.f32 $0, $1, $2, $1",
    "cvt.rs.satfinite.e2m1x4.f32 h, {$1, $1, $1, $1}, $2",
    "cvt.rs.satfinite.e4m3x4.f32 $0, {$1, $1, $1, $1}, $2",
    "cvt.rn.satfinite.e2m1x2.f16x2 c, $1",
    "cvt.rna.tf32.f32 $0, $1",
    "cvt.pack.sat.u16.s32 $0, $1, $2",
    "cvt.rn.bf16.s64 h, l",
    # Modifiers that would mean another result.
    "cvt.rn.ue8m0x2.f32 h, $1, $2",
    "cvt.rp.satfinite.relu.ue8m0x2.f32 h, $1, $2",
    "cvt.rn.e2m3x2.f32 h, $1, $2",
    "cvt.rz.f16x2.f32 $0, $1, $2",
    "cvt.rn.satfinite.f16x2.f32 $0, $1, $2",
    "cvt.rn.relu.bf16.f32 h, $1",
    "cvt.rn.ftz.f32.f64 $0, l",
    "cvt.u32.f32 $0, $1",
    "add.ftz.f16x2 $0, $1, $2",
    "add.sat.f32 $0, $1, $2",
    "mul.hi.u32 $0, $1, $2",
    "setp.eq.and.f32 p, $1, $2, q",
    "bfe.s32 $0, $1, 4, 4",
    "bfe.u64 l, l, 4, 4",
    "rcp.approx.ftz.f64 l, l",
    # Other operands.
    "add.u32 $0",
    "cvt.f32 $0, $1",
    "cvt $0, $1",
    "max.f32 $0, $1, $2, $1",
    "cvt.rn.f16x2.f32 $0, $1",
    "cvt.rn.f16x2.e2m1x2 $0, $1",
    "cvt.rp.satfinite.ue8m0x2.f32 c, $1, $2",
    "add.f32 $0, $1, 1",
    "add.f32 $0, $1, 0d3FF0000000000000",
    "add.f32 {h, i}, $1, $2",
    "mov.b32 h, $1",
    "mov.b32 $0, {h, i, h}",
    "mov.b32 {c, h}, $1",
    "mov.b32 undeclared, $1",
    "selp.f32 $0, $1, $2, $1",
    "@q add.f32 $0, $1, $2",
    "@$1 add.f32 $0, $1, $2",
    "setp.eq.f32 p|q, $1, $2",
    ".reg .v2 .b32 two",
    ".reg .b128 wide",
    ".reg .b32 h",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_what_is_not_computed_is_refused_by_name_and_line(new_run, statement):
    launched = new_run(arch="sm_100")
    code = DECLARED + "mov.b32 {h, i}, $1; mov.b64 l, {$1, $2}; " + statement + "; mov.b32 $0, $1;"
    with pytest.raises(UnsupportedError) as caught:
        launched.launch(snippet_of_three, (1,), launched.place(torch.zeros(8)), launched.empty((8,)), code, "=f,f,f")
    name = re.sub(r"^@\S+\s", "", statement).split()[0]
    assert name in str(caught.value)
    assert re.search(r"test_ops_ptx\.py:\d+:\d+ .*# the line", str(caught.value))


@pytest.mark.parametrize(
    ("constraints", "what"),
    [
        ("=f,f,f,f", "4 constraints for 1 output and 2 input registers"),
        ("=h,f,f", r"32 bits in \$0, a register of 16"),
        ("=f,x,f", "constraint 'x'"),
    ],
)
def test_constraints_that_do_not_fit(new_run, constraints, what):
    launched = new_run()
    with pytest.raises(UnsupportedError, match=what) as caught:
        launched.launch(
            snippet_of_three, (1,), launched.place(torch.zeros(8)), launched.empty((8,)), "mov.b32 $0, $1;", constraints
        )
    assert "# the line" in str(caught.value)


def test_modifiers_that_are_allowed_are_told():
    with pytest.raises(UnsupportedError, match=r"allowed modifiers are {\.rz, \.rp}\.satfinite\?"):
        run("cvt.rn.ue8m0x2.f32 h, $1, $1; mov.b32 $0, 0;", 0)


_ROOTS = [*INSTRUCTIONS, "cvt", "setp", "bfi", "cvt.pack", ""]
_MODIFIERS = [
    *("rn", "rz", "rm", "rp", "rs", "rna", "rni", "rzi", "rmi", "rpi", "ftz", "sat", "satfinite", "relu"),
    *("approx", "full", "lo", "hi", "wide", "eq", "lt", "hs", "num", "and", "f4e"),
]
_TYPES = [*TYPES, *ptx_cvt._CODES, "e2m1x4", "e4m3x4", "tf32", "f32x2", "b128", ""]
_OPERANDS = [
    *("$0", "$1", "$2", "$7", "c", "h", "i", "r", "s", "l", "p", "q", "_", "!p", "p|q", "[$1]", "%tid.x", "none"),
    *("0", "-1", "1.5", "0x10", "0f3F800000", "0f3F8", "0d3FF0000000000000"),
    *("{h, i}", "{$1, $2}", "{c, c, c, c}", "{h}", "{h, h, h}", "{_, h}", "{0, h}", "{p, q}", "{}", "{$1, h}"),
]
_PAIRS = [f"{target}.{source}" for target, source in ptx_cvt.CONVERSIONS]
_WRITTEN = (
    "mov.b32 r, $1; mov.b32 s, $2; mov.b32 {h, i}, $1; mov.b64 l, {$1, $2}; setp.eq.b32 p, r, s; cvt.u8.u32 c, r; "
)


@st.composite
def statements(draw):
    root, modifiers = draw(st.sampled_from(_ROOTS)), draw(st.lists(st.sampled_from(_MODIFIERS), max_size=3))
    types = st.sampled_from(_TYPES)
    ends = st.one_of(st.sampled_from(_PAIRS), st.tuples(types, types).map(".".join)) if root == "cvt" else types
    operands = draw(st.lists(st.sampled_from(_OPERANDS), max_size=5))
    guard = draw(st.sampled_from(["", "", "@p ", "@!q ", "@r "]))
    return f"{guard}{'.'.join([root, *modifiers, draw(ends)])} {', '.join(operands)}; "


@given(st.lists(statements(), min_size=1, max_size=2), st.booleans())
def test_any_other_statement_is_refused(made, written):
    """Nothing but UnsupportedError comes of any statement."""
    code = _WRITTEN * written + "".join(made) + "mov.b32 $0, 0;"
    try:
        found = run(code, [0, 1, 0x7FC00000], [0, 5, 0xFFFFFFFF])
    except UnsupportedError:
        return
    assert found.dtype == np.uint32


# -- E8M0 ------------------------------------------------------------------------------------------------------

#: Value, and its bytes: rounded to zero and up, with satfinite. 2^e is byte e + 127.
SCALES = [
    (1.0, 127, 127),
    (1.0000001, 127, 128),
    (1.5, 127, 128),
    (1.9999999, 127, 128),
    (2.0, 128, 128),
    (6.0, 129, 130),
    (448.0, 135, 136),
    (2.0**-126, 1, 1),
    (2.0**-126 * 1.5, 1, 2),
    (2.0**-127, 0, 0),
    (2.0**-127 + 2.0**-149, 0, 1),
    (2.0**-149, 0, 0),
    (0.0, 0, 0),
    (2.0**127, 254, 254),
    (2.0**127 * 1.25, 254, 254),
    (INF, 254, 254),
    (NAN, 255, 255),
]


@pytest.mark.parametrize(("value", "down", "up"), SCALES)
@pytest.mark.parametrize("sign", [1, -1])
def test_scale_of_a_number_and_of_its_negative(value, down, up, sign):
    x = bits([sign * value])
    for rounding, expected in (("rz", down), ("rp", up)):
        code = f"cvt.{rounding}.satfinite.ue8m0x2.f32 h, $1, $2; cvt.u32.u16 $0, h;"
        assert run(code, x, bits([1.0])).tolist() == [expected << 8 | 127]


@pytest.mark.parametrize(
    ("rounding", "value", "byte"),
    [
        ("rz", 2.0**127 * 1.25, 254),
        ("rp", 2.0**127 * 1.25, 255),
        ("rp", 2.0**127, 254),
        ("rz", INF, 255),
        ("rp", -INF, 255),
        ("rp", 3.0, 129),
        ("rz", NAN, 255),
    ],
)
def test_scale_without_satfinite(rounding, value, byte):
    found = run(f"cvt.{rounding}.ue8m0x2.f32 h, $1, $1; cvt.u32.u16 $0, h;", bits([value]))
    assert found.tolist() == [byte << 8 | byte]


def scale(x, up, saturates):
    """Of one number, from what `math.frexp` says of it."""
    if math.isnan(x):
        return 255
    if math.isinf(x):
        exponent = 128
    elif x == 0:
        exponent = -127
    else:
        significand, exponent = math.frexp(abs(x))  # 0.5 <= significand < 1
        exponent -= not (up and significand > 0.5)
    return max(min(exponent + 127, 254 if saturates else 255), 0)


@pytest.mark.parametrize("saturates", [True, False])
@pytest.mark.parametrize("rounding", ["rz", "rp"])
def test_scales_of_every_bfloat16(rounding, saturates):
    halves = np.arange(1 << 16, dtype=np.uint32)
    name = f"cvt.{rounding}{'.satfinite' * saturates}.ue8m0x2"
    for below in (0, 1, 0xFFFF):
        singles = halves << 16 | below
        values = singles.view(np.float32).tolist()
        expected = np.array([scale(x, rounding == "rp", saturates) for x in values], np.uint32)
        found = run(f"{name}.f32 h, $1, 0f40000000; cvt.u32.u16 $0, h;", singles)
        np.testing.assert_array_equal(found, expected << 8 | 128)
        if below == 0:
            found = run(f"{name}.bf16x2 h, $1; cvt.u32.u16 $0, h;", halves | 0x3F80 << 16)
            np.testing.assert_array_equal(found, expected | 127 << 8)


@triton.jit
def scales_of(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    r = tl.inline_asm_elementwise(
        "cvt.rp.satfinite.ue8m0x2.f32 $0, $2, $1;",
        "=h,f,f",
        [tl.load(x + 2 * i), tl.load(x + 2 * i + 1)],
        dtype=tl.uint16,
        is_pure=True,
        pack=1,
    )
    tl.store(out + i, r)


def test_scales_in_a_kernel(new_run):
    launched = new_run(arch="sm_100")
    out = launched.empty((2,), torch.uint16)
    launched.launch(scales_of, (1,), launched.place(np.array([1, 3, 0.7, -0.25], np.float32)), out, N=2)
    assert out.numpy().view(np.uint8).tolist() == [127, 129, 127, 125]


# -- other conversions -----------------------------------------------------------------------------------------

SIX_BITS = {"e2m3": ml_dtypes.float6_e2m3fn, "e3m2": ml_dtypes.float6_e3m2fn}


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("e2m3", (7.5, -0.125), 0x1F21),
        ("e2m3", (100.0, -INF), 0x1F3F),
        ("e2m3", (NAN, 0.0625), 0x1F00),  # a tie, to even
        ("e3m2", (28.0, -0.0625), 0x1F21),
        ("e3m2", (1.125, NAN), 0x0C1F),  # a tie, to even
    ],
)
def test_six_bits(kind, values, expected):
    found = run(f"cvt.rn.satfinite.{kind}x2.f32 h, $1, $2; cvt.u32.u16 $0, h;", *(bits([v]) for v in values))
    assert found.tolist() == [expected]


@pytest.mark.parametrize("kind", SIX_BITS)
def test_six_bits_of_every_bfloat16(kind):
    halves = np.arange(1 << 16, dtype=np.uint32)
    singles = np.concatenate([halves << 16, halves << 16 | 1])
    values = singles.view(np.float32)
    with np.errstate(all="ignore"):
        most = float(ml_dtypes.finfo(SIX_BITS[kind]).max)
        codes = np.clip(values, -most, most).astype(SIX_BITS[kind]).view(np.uint8)
    codes = np.where(np.isnan(values), 0x1F, codes & 0x3F)
    found = run(f"cvt.rn.satfinite.{kind}x2.f32 h, $1, 0fBF800000; cvt.u32.u16 $0, h;", singles)
    one = 0x28 if kind == "e2m3" else 0x2C  # -1
    np.testing.assert_array_equal(found, codes.astype(np.uint32) << 8 | one)


@pytest.mark.parametrize("kind", SIX_BITS)
def test_six_bits_to_float16(kind):
    """The two bits above each code count for nothing."""
    codes = np.arange(256, dtype=np.uint8)
    pair = codes.astype(np.uint32) | 0x1F00
    found = run(f"cvt.u16.u32 h, $1; cvt.rn.f16x2.{kind}x2 $0, h;", pair)
    halves = found.astype(np.uint32).view(np.float16).reshape(-1, 2)
    expected = (codes & 0x3F).view(SIX_BITS[kind]).astype(np.float16)
    np.testing.assert_array_equal(bits(halves[:, 0], np.float16), bits(expected, np.float16))
    assert set(halves[:, 1].tolist()) == {7.5 if kind == "e2m3" else 28.0}


@pytest.mark.parametrize(
    ("code", "operands", "expected"),
    [
        # relu is of the numbers, not of the codes: E2M1's 0xA is -1, 0x2 is 1.
        ("cvt.u8.u32 c, $1; cvt.rn.relu.f16x2.e2m1x2 $0, c;", (0x2A,), 0x3C000000),
        ("cvt.u16.u32 h, $1; cvt.rn.relu.f16x2.e4m3x2 $0, h;", (0x38B8,), 0x3C000000),
        ("cvt.rn.satfinite.relu.e2m1x2.f32 c, $1, $2; cvt.u32.u8 $0, c;", (0xBF800000, 0x3F800000), 0x02),
        ("cvt.rn.relu.f16x2.f32 $0, $1, $2;", (0xBF800000, 0x3F800000), 0x00003C00),
        # sat of integers.
        ("cvt.sat.u8.s32 $0, $1;", (0xFFFFFFFF,), 0),
        ("cvt.sat.u8.s32 $0, $1;", (300,), 255),
        ("cvt.sat.s8.s32 $0, $1;", (300,), 127),
        ("cvt.sat.s32.u32 $0, $1;", (0xFFFFFFFF,), 0x7FFFFFFF),
        ("cvt.u8.s32 $0, $1;", (300,), 44),
        # A register that is wider holds the number, sign and all.
        ("cvt.s8.s32 $0, $1;", (0x180,), 0xFFFFFF80),
        ("cvt.rzi.s8.f32 $0, $1;", (0xC0400000,), 0xFFFFFFFD),
        ("cvt.u8.s32 $0, $1;", (0x180,), 0x80),
        # ftz: 2^-130 is no number to round up, nor one to compare.
        ("cvt.rpi.s32.f32 $0, $1;", (0x00080000,), 1),
        ("cvt.rpi.ftz.s32.f32 $0, $1;", (0x00080000,), 0),
        ("cvt.ftz.f32.f32 $0, $1;", (0x80080000,), 0x80000000),
        ("setp.gt.f32 p, $1, 0f00000000; selp.b32 $0, 1, 2, p;", (0x00080000,), 1),
        ("setp.gt.ftz.f32 p, $1, 0f00000000; selp.b32 $0, 1, 2, p;", (0x00080000,), 2),
        # Rounded once: 2^30 + 2^22 is the middle of two bfloat16, and one more is above it.
        ("cvt.rn.bf16.s32 h, $1; cvt.u32.u16 $0, h;", (0x40400001,), 0x4E81),
        ("cvt.rn.bf16.s32 h, $1; cvt.u32.u16 $0, h;", (0x40400000,), 0x4E80),
        ("div.s32 $0, $1, 2;", (0xFFFFFFF9,), 0xFFFFFFFD),
        ("div.u32 $0, $1, 3;", (0xFFFFFFFF,), 0x55555555),
        # Neighbouring scopes may give a name anew.
        ("{ .reg .b16 t; cvt.u16.u32 t, $1; cvt.u32.u16 $0, t; } { .reg .b32 t; mov.b32 t, $1; }", (7,), 7),
    ],
)
def test_single_results(code, operands, expected):
    assert run(code, *operands).tolist() == [expected]


def test_a_register_is_as_wide_as_its_constraint():
    inputs = [np.array([x], np.uint32) for x in (0x1234, 0x5678)]
    assert Snippet("mov.b32 $0, {$1, $2};", ["=r", "h", "h"]).run(inputs, 1, (1,))[0].tolist() == [0x56781234]


def test_a_literal_beside_a_register():
    assert run("cvt.rn.f16x2.f32 $0, 0f3F800000, $1;", bits([2.0, -1.0])).tolist() == [0x3C004000, 0x3C00BC00]
