"""Tensor descriptors, made on the device and on the host: padding, bounds, gather, scatter, reduce."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from fp4guard.memory import Layout, Role


@triton.jit
def copies(x, y, m, n, sx, sy, row, column, NAN: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    pad: tl.constexpr = "nan" if NAN else "zero"
    source = tl.make_tensor_descriptor(x, [m, n], [sx, 1], [B, C], padding_option=pad)
    target = tl.make_tensor_descriptor(y, [m, n], [sy, 1], [B, C])
    target.store([row, column], source.load([row, column]))


@triton.jit
def loads(x, out, m, n, stride, row, column, NAN: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    pad: tl.constexpr = "nan" if NAN else "zero"
    source = tl.make_tensor_descriptor(x, [m, n], [stride, 1], [B, C], padding_option=pad)
    v = source.load([row + tl.program_id(0), column])
    tl.store(out + tl.program_id(0) * B * C + tl.arange(0, B)[:, None] * C + tl.arange(0, C)[None, :], v)


@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 4), (5, 9), (-2, -1), (100, 0), (0, -100)])
def test_load_pads(new_run, row, column, nan):
    x = torch.arange(1.0, 7 * 12 + 1).reshape(7, 12)
    run = new_run()
    out = run.empty((2, 4, 8))
    tensor = run.place(x, Layout("padded rows", row_gap=4))
    run.launch(loads, (2,), tensor, out, 7, 12, 16, row, column, nan, 4, 8)
    expected = np.full((2, 4, 8), np.nan if nan else 0.0, np.float32)
    for p, i, j in np.ndindex(2, 4, 8):
        r, c = row + p + i, column + j
        if 0 <= r < 7 and 0 <= c < 12:
            expected[p, i, j] = x[r, c]
    np.testing.assert_array_equal(out.numpy(), expected)
    assert not run.incidents()


def test_store_leaves_what_is_outside_alone(new_run):
    x = torch.arange(1.0, 29).reshape(7, 4)
    run = new_run()
    out = run.empty((7, 4), layout=Layout("padded rows", row_gap=4))
    run.launch(copies, (1,), run.place(x), out, 7, 4, 4, 8, 5, 0, False, 4, 4)
    assert torch.equal(out[5:], x[5:])
    assert run.written().tolist() == [[False] * 4] * 5 + [[True] * 4] * 2
    assert not run.incidents()


def test_descriptor_that_states_more_than_the_tensor_has(new_run):
    run = new_run()
    out = run.empty((2, 4, 4))
    run.launch(loads, (1,), run.place(torch.ones(3, 4)), out, 5, 4, 4, 2, 0, False, 4, 4)
    assert out[0, 0].tolist() == [1.0] * 4
    assert out[0, 1:3].isnan().all()
    assert not out[0, 3].any()
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.low) == ("oob-read", 8, 48)


def test_rows_further_apart_than_stated(new_run):
    """A stride of a contiguous tensor given for a padded one reads the gaps between rows."""
    run = new_run()
    tensor = run.place(torch.ones(4, 4), Layout("padded rows", row_gap=4))
    run.launch(loads, (1,), tensor, run.empty((1, 4, 4)), 4, 4, 4, 0, 0, False, 4, 4)
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes) == ("oob-read", 8)


@triton.jit
def on_host(source, target, out, B: tl.constexpr):
    i, j = tl.program_id(0), tl.program_id(1)
    v = source.load([i * B, j * B])
    target.store([i * B, j * B], v * 2)
    if i + j == 0:
        tl.store(out, source.shape[0] * 1000 + source.shape[1])
        tl.store(out + 1, source.strides[0].to(tl.int32))


@pytest.mark.parametrize("arch", ["sm_90", "sm_100", "gfx950"])
def test_descriptors_made_on_the_host(new_run, arch):
    x = torch.arange(7.0 * 12).reshape(7, 12)
    run = new_run(arch=arch)
    target, out = run.empty((7, 12)), run.empty((2,), torch.int32, name="shape")
    source = TensorDescriptor.from_tensor(run.place(x), [4, 4])
    run.launch(on_host, (2, 3), source, TensorDescriptor.from_tensor(target, [4, 4]), out, B=4)
    assert torch.equal(target, 2 * x)
    assert out.tolist() == [7012, 12]
    assert not run.incidents()


@triton.jit
def moves_rows(x, y, index, column, N: tl.constexpr, C: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [10, 16], [16, 1], [1, C])
    target = tl.make_tensor_descriptor(y, [10, 16], [16, 1], [1, C])
    rows = tl.load(index + tl.arange(0, N))
    v = source.gather(rows, column)
    target.scatter(v + 1, rows, column)


@pytest.mark.parametrize("column", [0, 8, 12])
def test_gather_and_scatter(new_run, column):
    x = torch.arange(160.0).reshape(10, 16)
    rows = [9, 3, 0, 5, 7, -1, 10, 1]
    run = new_run(arch="sm_100")
    y = run.place(torch.zeros(10, 16), name="y", role=Role.OUTPUT)
    run.launch(moves_rows, (1,), run.place(x), y, run.place(np.array(rows, np.int32), name="rows"), column, 8, 8)
    expected = torch.zeros(10, 16)
    for r in rows:
        if 0 <= r < 10:
            expected[r, column : column + 8] = x[r, column : column + 8] + 1
    assert torch.equal(y, expected)
    assert not run.incidents()


@triton.jit
def reduces(x, y, op: tl.constexpr, B: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [6, 8], [8, 1], [B, 2 * B])
    target = tl.make_tensor_descriptor(y, [6, 8], [8, 1], [B, 2 * B])
    at = [tl.program_id(0) * B, 4]
    if op == "add":
        target.atomic_add(at, source.load(at))
    elif op == "max":
        target.atomic_max(at, source.load(at))
    elif op == "min":
        target.atomic_min(at, source.load(at))
    elif op == "xor":
        target.atomic_xor(at, source.load(at))


@pytest.mark.parametrize(
    ("op", "dtype"), [("add", torch.float32), ("add", torch.bfloat16), ("max", torch.int32), ("min", torch.int32),
                      ("max", torch.uint32), ("xor", torch.int32)], ids=str
)  # fmt: skip
def test_reduce(new_run, op, dtype):
    rng = np.random.default_rng(1)
    x, y = (torch.from_numpy(rng.integers(0 if dtype is torch.uint32 else -9, 9, (6, 8))).to(dtype) for _ in range(2))
    run = new_run(arch="sm_100")
    out = run.place(y, name="y", role=Role.OUTPUT)
    run.launch(reduces, (2,), run.place(x), out, op, 4)
    function = {"add": torch.add, "max": torch.maximum, "min": torch.minimum, "xor": torch.bitwise_xor}[op]
    expected = y.clone()
    wide = torch.float64 if dtype.is_floating_point else torch.int64
    expected[:, 4:] = function(x[:, 4:].to(wide), y[:, 4:].to(wide)).to(dtype)
    assert torch.equal(out.to(wide), expected.to(wide))
    assert not run.incidents()


@triton.jit
def carried(x, y, out, n, B: tl.constexpr):
    """Descriptors through a branch that programs take differently, and through a loop."""
    a = tl.make_tensor_descriptor(x, [n, B], [B, 1], [1, B])
    if tl.program_id(0) % 2 == 1:
        a = tl.make_tensor_descriptor(y, [n, B], [B, 1], [1, B])
    total = tl.zeros((1, B), tl.float32)
    for i in range(tl.program_id(0) + 1):
        total += a.load([i, 0])
    tl.store(out + tl.program_id(0) * B + tl.arange(0, B)[None, :], total)


def test_descriptors_through_control_flow(new_run):
    x, y = torch.rand(4, 8), torch.rand(4, 8)
    run = new_run()
    out = run.empty((4, 8))
    run.launch(carried, (4,), run.place(x), run.place(y, name="y"), out, 4, 8)
    expected = torch.stack([(y if p % 2 else x)[: p + 1].sum(0) for p in range(4)])
    torch.testing.assert_close(out, expected)
    assert not run.incidents()


@triton.jit
def misaligned(x, out, skip, stride, row):
    if tl.program_id(0) < 2:
        d = tl.make_tensor_descriptor(x + skip * tl.program_id(0), [2, 3, 16], [stride, row, 1], [1, 1, 16])
        tl.store(out + tl.arange(0, 16), tl.reshape(d.load([0, 0, 0]), (16,)))


@pytest.mark.parametrize(("arch", "dtype", "skip", "stride", "programs"), [
    ("sm_90", torch.float32, 0, 64, []), ("sm_100", torch.float32, 4, 64, []),
    ("sm_90", torch.float32, 2, 64, [(1, 0, 0)]), ("sm_120", torch.float32, 0, 62, [(0, 0, 0), (1, 0, 0)]),
    ("sm_90", torch.float16, 0, 64, [(0, 0, 0), (1, 0, 0)]),  # 20 of 2 bytes
    ("sm_80", torch.float32, 2, 62, []), ("gfx950", torch.float16, 2, 62, []),  # pointers there
])  # fmt: skip
def test_what_the_hardware_asks_of_a_descriptor(new_run, arch, dtype, skip, stride, programs):
    run = new_run(arch=arch)
    x, out = run.place(torch.arange(200).to(dtype)), run.empty((16,), dtype)
    run.launch(misaligned, (3,), x, out, skip, stride, 20)
    found = list(run.incidents("assert-failed").values())
    assert [i.programs for i in found] == ([programs] if programs else [])
