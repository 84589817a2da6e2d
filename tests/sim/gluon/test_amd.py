"""AMD's matrix core, slices of tensors, hints to its scheduler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd import AMDMFMALayout, cdna4

from fp4guard import UnsupportedError
from fp4guard.formats import packing
from fp4guard.sim.ops import NO_OPS

VERSION = tuple(int(n) for n in triton.__version__.split(".")[:2])
PLANE = gl.constexpr(gl.BlockedLayout([1, 4], [8, 8], [4, 1], [1, 0]))
LINE = gl.constexpr(gl.BlockedLayout([1], [64], [4], [0]))


@gluon.jit
def places(M: gl.constexpr, N: gl.constexpr, LAYOUT: gl.constexpr):
    rows = gl.arange(0, M, layout=gl.SliceLayout(1, LAYOUT))
    columns = gl.arange(0, N, layout=gl.SliceLayout(0, LAYOUT))
    return rows[:, None] * N + columns[None, :]


@gluon.jit
def multiply(a, b, c, out, K: gl.constexpr, WIDTH: gl.constexpr, MATRIX: gl.constexpr):
    left: gl.constexpr = gl.DotOperandLayout(0, MATRIX, WIDTH)
    right: gl.constexpr = gl.DotOperandLayout(1, MATRIX, WIDTH)
    x = cdna4.buffer_load(a, places(64, K, left))
    y = cdna4.buffer_load(b, places(K, 64, right))
    total = cdna4.mfma(x, y, cdna4.buffer_load(c, places(64, 64, MATRIX)))
    cdna4.buffer_store(total, out, places(64, 64, MATRIX))


#: Architecture, element type, elements of K to an instruction.
PRODUCTS = [
    ("gfx942", torch.float16, 8), ("gfx942", torch.bfloat16, 8), ("gfx942", torch.float8_e4m3fnuz, 16),
    ("gfx942", torch.float8_e5m2fnuz, 16), ("gfx942", torch.int8, 16), ("gfx942", torch.float32, 2),
    ("gfx950", torch.float16, 16), ("gfx950", torch.bfloat16, 16), ("gfx950", torch.float8_e4m3fn, 64),
    ("gfx950", torch.float8_e5m2, 64), ("gfx950", torch.int8, 32),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "dtype", "k"), PRODUCTS)
def test_products(new_run, arch, dtype, k):
    a, b = torch.randint(-4, 5, (64, 64)).to(dtype), torch.randint(-4, 5, (64, 64)).to(dtype)
    sums = torch.int32 if dtype == torch.int8 else torch.float32
    c = torch.randint(-9, 10, (64, 64)).to(sums)
    run = new_run(arch=arch)
    out = run.empty((64, 64), sums)
    held = [
        run.place(x.view(torch.uint8) if x.element_size() == 1 else x, name=n).view(dtype)
        for x, n in ((a, "a"), (b, "b"))
    ]
    version, width = (3 if arch == "gfx942" else 4), max(k // 2, 1) if dtype == torch.float32 else min(k // 2, 16)
    matrix = AMDMFMALayout(version=version, instr_shape=[32, 32, k], transposed=True, warps_per_cta=[2, 2])
    run.launch(multiply, (1,), *held, run.place(c, name="c"), out, K=64, WIDTH=width, MATRIX=matrix)
    assert torch.equal(out, (a.double() @ b.double()).to(sums) + c)
    assert not run.incidents()


@gluon.jit
def multiply_scaled(a, a_scale, b, b_scale, out, MATRIX: gl.constexpr, A: gl.constexpr, B: gl.constexpr):
    """[64, 128] elements in format A by [128, 64] in B, of which E2M1 comes two a byte along K."""
    left: gl.constexpr = gl.DotOperandLayout(0, MATRIX, 16)
    right: gl.constexpr = gl.DotOperandLayout(1, MATRIX, 16)
    left_scale: gl.constexpr = cdna4.get_mfma_scale_layout(left, [64, 4])
    right_scale: gl.constexpr = cdna4.get_mfma_scale_layout(right, [64, 4])
    x = cdna4.buffer_load(a, places(64, 64 if A == "e2m1" else 128, left))
    y = cdna4.buffer_load(b, places(64 if B == "e2m1" else 128, 64, right))
    xs = cdna4.buffer_load(a_scale, places(64, 4, left_scale))
    ys = cdna4.buffer_load(b_scale, places(64, 4, right_scale))
    total = cdna4.mfma_scaled(x, xs, A, y, ys, B, gl.zeros([64, 64], gl.float32, MATRIX))
    cdna4.buffer_store(total, out, places(64, 64, MATRIX))


def scaled_operand(kind, scale):
    """Random elements [64, 128] as a kernel holds them, and their scaled values."""
    factors = 2.0 ** (scale.double() - 127).repeat_interleave(32, 1)
    if kind == "e2m1":
        codes = torch.randint(0, 256, (64, 64), dtype=torch.uint8)
        return codes, torch.from_numpy(packing.decode_packed(codes.numpy()).astype(np.float64)) * factors
    values = torch.randint(-4, 5, (64, 128)).to(torch.float8_e4m3fn if kind == "e4m3" else torch.float8_e5m2)
    return values, values.double() * factors


@pytest.mark.parametrize(("left", "right"), [("e2m1", "e2m1"), ("e4m3", "e2m1"), ("e5m2", "e4m3")])
def test_scaled_products(new_run, left, right):
    scales = [torch.randint(124, 131, (64, 4), dtype=torch.uint8) for _ in range(2)]
    (a, a_values), (b, b_values) = scaled_operand(left, scales[0]), scaled_operand(right, scales[1])
    run = new_run(arch="gfx950")
    out = run.empty((64, 64))
    held = [run.place(x.view(torch.uint8), name=n).view(x.dtype) for x, n in ((a, "a"), (b.T.contiguous(), "b"))]
    xs, ys = run.place(scales[0], name="a_scale"), run.place(scales[1], name="b_scale")
    matrix = AMDMFMALayout(version=4, instr_shape=[32, 32, 64], transposed=True, warps_per_cta=[2, 2])
    run.launch(multiply_scaled, (1,), held[0], xs, held[1], ys, out, MATRIX=matrix, A=left, B=right)
    assert torch.equal(out, (a_values @ b_values.T).float())
    assert not run.incidents()


@gluon.jit
def unpack(x, out, AXIS: gl.constexpr):
    value = gl.fp4_to_fp(cdna4.buffer_load(x, places(64, 64, PLANE)), gl.bfloat16, AXIS)
    layout: gl.constexpr = value.type.layout
    cdna4.buffer_store(value, out, places(value.shape[0], value.shape[1], layout))


@pytest.mark.parametrize("axis", [0, 1])
def test_two_elements_of_a_byte(new_run, axis):
    codes = torch.randint(0, 256, (64, 64), dtype=torch.uint8)
    run = new_run(arch="gfx950")
    out = run.empty((128, 64) if axis == 0 else (64, 128), torch.bfloat16)
    run.launch(unpack, (1,), run.place(codes), out, axis)
    pairs = codes if axis == 1 else codes.T.contiguous()
    expected = torch.from_numpy(packing.decode_packed(pairs.numpy()).astype(np.float32)).bfloat16()
    assert torch.equal(out, expected if axis == 1 else expected.T)
    assert not run.incidents()


def test_slices_and_tiles(apply):
    x = np.arange(2 * 8 * 6).reshape(2, 8, 6)
    part = apply("amdg.extract_slice", ["tensor<8x6xi64>"], "tensor<4x2xi64>", x, attributes={"offsets": (4, 2)})
    np.testing.assert_array_equal(part, x[:, 4:, 2:4])
    uniform = apply(
        "amdg.extract_slice", ["tensor<8x6xi64>"], "tensor<4x2xi64>", x[:, :1, :1], attributes={"offsets": (4, 2)}
    )
    np.testing.assert_array_equal(uniform, np.broadcast_to(x[:, :1, :1], (2, 4, 2)))
    tiles = [x[:, i : i + 4, j : j + 3] for i in (0, 4) for j in (0, 3)]
    whole = apply("amdg.concat", ["tensor<4x3xi64>"] * 4, "tensor<8x6xi64>", *tiles)
    np.testing.assert_array_equal(whole, x)
    mixed = apply("amdg.concat", ["tensor<4x6xi64>"] * 2, "tensor<8x6xi64>", x[:1, :4], x[:, 4:])
    np.testing.assert_array_equal(mixed[1], np.concatenate([x[0, :4], x[1, 4:]]))


@gluon.jit
def in_stages(x, out, n, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    total = gl.zeros([B], gl.float32, LINE)
    for k in range(n):
        with gl.amd.warp_pipeline_stage("load"):
            value = gl.load(x + k * B + i)
        with gl.amd.warp_pipeline_stage("add"):
            total += value
    gl.store(out + i, total)


@gluon.jit
def with_hints(x, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    value = gl.load(x + i)
    gl.amd.hint.sched_barrier()
    gl.store(out + i, value)


@pytest.mark.skipif(VERSION < (3, 7), reason="Gluon has these since Triton 3.7")
def test_stages_of_a_pipeline(new_run):
    x = torch.randint(-9, 9, (5, 256)).float()
    run = new_run(arch="gfx950")
    out = run.empty((256,))
    run.launch(in_stages, (1,), run.place(x), out, 5, 256)
    assert torch.equal(out, x.sum(0))
    assert not run.incidents()


@pytest.mark.skipif(VERSION < (3, 9), reason="Gluon has these since Triton 3.9")
def test_hints(new_run):
    run = new_run(arch="gfx950")
    out = run.empty((256,))
    run.launch(with_hints, (1,), run.place(torch.ones(256)), out, 256)
    assert torch.equal(out, torch.ones(256))
    assert {"rocdl.sched.barrier", "amdgpu.sched_barrier", "rocdl.s.setprio", "amdg.async_wait"} <= NO_OPS


@gluon.jit
def counted(x, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.int32, [B], gl.SwizzledSharedLayout(1, 1, 1, [0]), gl.load(x + i))
    held.atomic_scatter_add(gl.load(x + i), i // 2, 0)
    gl.store(out + i, held.load(LINE))


@pytest.mark.skipif(VERSION < (3, 9), reason="Gluon has these since Triton 3.9")
def test_what_is_not_supported_is_named(new_run):
    run = new_run(arch="gfx950")
    x, out = run.place(torch.zeros(256, dtype=torch.int32)), run.empty((256,), torch.int32)
    with pytest.raises(UnsupportedError, match=r"ttg\.local_atomic_scatter_rmw") as caught:
        run.launch(counted, (1,), x, out, 256)
    assert caught.value.location.source == "held.atomic_scatter_add(gl.load(x + i), i // 2, 0)"
