"""Hopper and Blackwell: products of what is in shared memory, copies by descriptor, tensor memory."""

from __future__ import annotations

import pytest
import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia import blackwell
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.experimental.gluon.language.nvidia.blackwell import TensorMemoryLayout
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from fp4guard.formats import packing
from fp4guard.memory import Role

VERSION = tuple(int(n) for n in triton.__version__.split(".")[:2])
PLANE = gl.constexpr(gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0]))
LINE = gl.constexpr(gl.BlockedLayout([1], [32], [4], [0]))
HALVES, SINGLES = gl.constexpr(gl.NVMMASharedLayout(64, 16, 2)), gl.constexpr(gl.NVMMASharedLayout(128, 32, 2))

FLAT = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
BYTES = gl.constexpr(gl.NVMMASharedLayout(64, 8, 2))

# What has another name before Triton 3.8.
async_load = getattr(async_copy, "async_load", None) or async_copy.async_copy_global_to_shared
tma_load = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
tma_store = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global


@gluon.jit
def places(M: gl.constexpr, N: gl.constexpr, LAYOUT: gl.constexpr):
    rows = gl.arange(0, M, layout=gl.SliceLayout(1, LAYOUT))
    columns = gl.arange(0, N, layout=gl.SliceLayout(0, LAYOUT))
    return rows[:, None] * N + columns[None, :]


@gluon.jit
def multiply(
    a, b, c, out, times, K: gl.constexpr, TYPE: gl.constexpr, SHARED: gl.constexpr, FRESH: gl.constexpr
):  # fmt: skip
    """C + a @ b, or the product alone where FRESH."""
    result: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 32, 256 // TYPE.primitive_bitwidth])
    left = gl.allocate_shared_memory(TYPE, [64, K], SHARED, gl.load(a + places(64, K, PLANE)))
    right = gl.allocate_shared_memory(TYPE, [32, K], SHARED, gl.load(b + places(32, K, PLANE)))
    fence_async_shared()
    total = gl.load(c + places(64, 32, result))
    total = warpgroup_mma(left, right.permute([1, 0]), total, use_acc=times > FRESH, is_async=True)
    total = warpgroup_mma_wait(0, deps=(total,))
    gl.store(out + places(64, 32, result), total)


@pytest.mark.parametrize("fresh", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_wgmma(new_run, dtype, fresh):
    k = 64 // dtype.itemsize
    a, b, c = torch.randint(-4, 5, (64, k)).to(dtype), torch.randint(-4, 5, (32, k)).to(dtype), torch.randn(64, 32)
    types = {torch.float16: gl.float16, torch.bfloat16: gl.bfloat16, torch.float8_e4m3fn: gl.float8e4nv}
    run = new_run()
    out = run.empty((64, 32))
    inputs = [run.place(x.view(torch.uint8) if x.dtype.itemsize == 1 else x, name=n) for x, n in ((a, "a"), (b, "b"))]
    inputs = [x.view(dtype) for x in inputs]
    shared = gl.NVMMASharedLayout(64, 8 * dtype.itemsize, 2)
    type_ = types.get(dtype, gl.float8e5)
    run.launch(multiply, (1,), *inputs, run.place(c, name="c"), out, 1, k, type_, shared, fresh)
    torch.testing.assert_close(out, a.float() @ b.float().T + (0 if fresh else c), rtol=0, atol=1e-5)
    assert not run.incidents()


def test_wgmma_of_tf32(new_run):
    """The tensor core drops the last 13 bits of its operands."""
    a, b = torch.full((64, 32), 1 + 2**-12), torch.ones(32, 32)
    run = new_run()
    out = run.empty((64, 32))
    inputs = [run.place(x, name=n) for x, n in ((a, "a"), (b, "b"), (torch.zeros(64, 32), "c"))]
    run.launch(multiply, (1,), *inputs, out, 1, 32, gl.float32, SINGLES.value, 0)
    assert torch.equal(out, torch.full((64, 32), 32.0))


@gluon.jit
def copied(x, out, n, B: gl.constexpr):
    i = gl.program_id(0) * B + gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [B], FLAT, gl.full([B], 7.0, gl.float32, LINE))
    async_load(held, x + i, mask=i < n)
    async_copy.commit_group()
    async_copy.wait_group(0)
    gl.store(out + i, held.load(LINE))


def test_a_copy_writes_zeros_where_its_mask_is_off(new_run):
    """Cp.async from no bytes: seen on an H200, and what products of a tile that is not full rely on."""
    run = new_run()
    x, out = torch.randn(300), run.empty((512,))
    run.launch(copied, (4,), run.place(x), out, 300, 128)
    assert torch.equal(out, torch.nn.functional.pad(x, (0, 212)))
    assert not run.incidents()


@gluon.jit
def copy_if(source, target, wanted, BM: gl.constexpr, BN: gl.constexpr):
    tile = gl.allocate_shared_memory(source.dtype, [BM, BN], source.layout)
    tile.store(gl.full([BM, BN], 5.0, source.dtype, PLANE))
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(ready, count=1)
    pred = gl.program_id(0) == wanted
    mbarrier.expect(ready, source.block_type.nbytes, pred=pred)
    tma_load(source, [gl.program_id(0) * BM, gl.program_id(1) * BN], ready, tile, pred=pred)
    mbarrier.wait(ready, 0, pred=pred)
    tma_store(target, [gl.program_id(0) * BM, gl.program_id(1) * BN], tile)
    tma.store_wait(0)


@pytest.mark.parametrize("padding", ["zero", "nan"])
def test_a_copy_by_descriptor_for_some_programs(new_run, padding):
    x = torch.randn(40, 24).half()
    run = new_run()
    out = run.empty((40, 48), torch.float16)
    source = TensorDescriptor.from_tensor(run.place(x), [32, 32], HALVES.value)
    source.padding = padding
    target = TensorDescriptor.from_tensor(out, [32, 32], HALVES.value)
    run.launch(copy_if, (2, 2), source, target, 0, BM=32, BN=32)
    assert torch.equal(out[:32, :24], x[:32])
    assert out[:32, 24:].isnan().all() if padding == "nan" else not out[:32, 24:].any()
    assert (out[32:] == 5).all()
    assert not run.incidents()


@gluon.jit
def described_there(x, out, m, n, stride, BM: gl.constexpr, BN: gl.constexpr, SHARED: gl.constexpr):
    source = tma.make_tensor_descriptor(x, [m, n], [stride, 1], [BM, BN], SHARED)
    tile = gl.allocate_shared_memory(gl.float16, [BM, BN], SHARED)
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(ready, count=1)
    mbarrier.expect(ready, BM * BN * 2)
    tma_load(source, [gl.program_id(0) * BM, 8], ready, tile)
    mbarrier.wait(ready, 0)
    gl.store(out + places(BM, BN, PLANE), tile.load(PLANE))


@pytest.mark.skipif(VERSION < (3, 8), reason="Gluon makes descriptors on the device since Triton 3.8")
def test_a_descriptor_made_in_the_kernel(new_run):
    x = torch.randn(50, 40).half()
    run = new_run()
    out = run.empty((32, 32), torch.float16)
    run.launch(described_there, (1,), run.place(x), out, 20, 36, 40, 32, 32, HALVES.value)
    assert torch.equal(out[:20, :28], x[:20, 8:36])
    assert not out[20:].any() and not out[:, 28:].any()
    assert not run.incidents()
    run = new_run()
    run.launch(
        described_there, (1,), run.place(x[:20]), run.empty((32, 32), torch.float16), 21, 40, 40, 32, 32, HALVES.value
    )
    assert set(run.incidents()) == {("oob-read", "x")}


@gluon.jit
def added(source, target, BM: gl.constexpr, BN: gl.constexpr):
    tile = gl.allocate_shared_memory(source.dtype, [BM, BN], source.layout)
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(ready, count=1)
    mbarrier.expect(ready, source.block_type.nbytes)
    tma_load(source, [gl.program_id(0) * BM, 0], ready, tile)
    mbarrier.wait(ready, 0)
    tma.async_atomic_add(target, [0, 0], tile)
    tma.store_wait(0)


@pytest.mark.skipif(VERSION < (3, 8), reason="Gluon has these since Triton 3.8")
def test_a_reduction_by_descriptor(new_run):
    x = torch.arange(64.0 * 32).reshape(64, 32)
    run = new_run()
    out = run.place(torch.zeros(30, 32), name="out", role=Role.SCRATCH)
    source = TensorDescriptor.from_tensor(run.place(x), [32, 32], SINGLES.value)
    run.launch(added, (2,), source, TensorDescriptor.from_tensor(out, [32, 32], SINGLES.value), BM=32, BN=32)
    assert torch.equal(out, x[:30] + x[32:62])
    assert not run.incidents()


@gluon.jit
def in_tensor_memory(a, b, out, twice, MEMORY: gl.constexpr, ROW: gl.constexpr, HALF: gl.constexpr):
    left = gl.allocate_shared_memory(gl.float16, [128, 32], HALVES, gl.load(a + places(128, 32, PLANE)))
    right = gl.allocate_shared_memory(gl.float16, [32, 64], HALVES, gl.load(b + places(32, 64, PLANE)))
    fence_async_shared()
    done = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(done, count=1)
    total = blackwell.allocate_tensor_memory(gl.float32, [2, 128, 64], MEMORY)
    total.index(1).store(gl.full([128, 64], 1000.0, gl.float32, ROW))
    blackwell.tcgen05_mma(left, right, total.index(0), use_acc=False)
    blackwell.tcgen05_mma(left, right, total.index(0), pred=twice > 0)
    blackwell.tcgen05_commit(done)
    mbarrier.wait(done, 0)
    gl.store(out + places(128, 64, ROW), total.index(0).load(ROW) + total.index(1).load(ROW))
    gl.store(out + 128 * 64 + places(128, 32, HALF), total.index(0).slice(32, 32).load(HALF))


@pytest.mark.parametrize("twice", [0, 1])
def test_products_in_tensor_memory(new_run, twice):
    a, b = torch.randint(-8, 9, (128, 32)).half(), torch.randint(-8, 9, (32, 64)).half()
    run = new_run(arch="sm_100")
    out = run.empty((128 * 96,))
    memory = TensorMemoryLayout([128, 64], col_stride=1)
    row, half = (gl.BlockedLayout([1, n], [32, 1], [4, 1], [1, 0]) for n in (64, 32))
    run.launch(in_tensor_memory, (1,), run.place(a), run.place(b, name="b"), out, twice, memory, row, half)
    product = (1 + twice) * (a.float() @ b.float())
    assert torch.equal(out[: 128 * 64].reshape(128, 64), product + 1000)
    assert torch.equal(out[128 * 64 :].reshape(128, 32), product[:, 32:])
    assert not run.incidents()


@gluon.jit
def unwritten_tensor_memory(a, b, out, MEMORY: gl.constexpr, ROW: gl.constexpr):
    left = gl.allocate_shared_memory(gl.float16, [128, 32], HALVES, gl.load(a + places(128, 32, PLANE)))
    right = gl.allocate_shared_memory(gl.float16, [32, 64], HALVES, gl.load(b + places(32, 64, PLANE)))
    total = blackwell.allocate_tensor_memory(gl.float32, [128, 64], MEMORY)
    blackwell.tcgen05_mma(left, right, total)
    gl.store(out + places(128, 64, ROW), total.load(ROW))


def test_a_product_added_to_what_nobody_wrote(new_run):
    run = new_run(arch="sm_100")
    memory, row = TensorMemoryLayout([128, 64], col_stride=1), gl.BlockedLayout([1, 64], [32, 1], [4, 1], [1, 0])
    a, b = run.place(torch.zeros(128, 32).half()), run.place(torch.zeros(32, 64).half(), name="b")
    run.launch(unwritten_tensor_memory, (1,), a, b, run.empty((128, 64)), memory, row)
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.region.name) == ("uninitialized-read", "total (tensor memory)")
    assert incident.site.location.source == "blackwell.tcgen05_mma(left, right, total)"


@gluon.jit
def scaled_in_tensor_memory(a, a_scale, b, b_scale, out, MEMORY: gl.constexpr, SCALES: gl.constexpr, ROW: gl.constexpr):
    left = gl.allocate_shared_memory(gl.uint8, [128, 64], BYTES, gl.load(a + places(128, 64, PLANE)))
    right = gl.allocate_shared_memory(gl.uint8, [64, 64], BYTES, gl.load(b + places(64, 64, PLANE)))
    fence_async_shared()
    xs = blackwell.allocate_tensor_memory(gl.uint8, [128, 4], SCALES)
    ys = blackwell.allocate_tensor_memory(gl.uint8, [64, 4], SCALES)
    x_layout: gl.constexpr = xs.get_reg_layout()
    y_layout: gl.constexpr = ys.get_reg_layout()
    xs.store(gl.load(a_scale + places(128, 4, x_layout)))
    ys.store(gl.load(b_scale + places(64, 4, y_layout)))
    done = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(done, count=1)
    total = blackwell.allocate_tensor_memory(gl.float32, [128, 64], MEMORY)
    blackwell.tcgen05_mma_scaled(left, right.permute([1, 0]), total, xs, ys, "e2m1", "e2m1", use_acc=False)
    blackwell.tcgen05_commit(done)
    mbarrier.wait(done, 0)
    gl.store(out + places(128, 64, ROW), total.load(ROW))


@pytest.mark.skipif(VERSION < (3, 8), reason="another way to the layout of registers")
def test_scaled_products_in_tensor_memory(new_run):
    codes = [torch.randint(0, 256, (n, 64), dtype=torch.uint8) for n in (128, 64)]
    scales = [torch.randint(124, 131, (n, 4), dtype=torch.uint8) for n in (128, 64)]
    run = new_run(arch="sm_100")
    out = run.empty((128, 64))
    held = [run.place(x, name=name) for pair in zip(codes, scales) for x, name in zip(pair, "xs")]
    memory, row = TensorMemoryLayout([128, 64], col_stride=1), gl.BlockedLayout([1, 64], [32, 1], [4, 1], [1, 0])
    run.launch(scaled_in_tensor_memory, (1,), *held, out, memory, blackwell.TensorMemoryScalesLayout(), row)
    a, b = (
        torch.from_numpy(packing.decode_packed(x.numpy()).astype("f8"))
        * 2.0 ** (s.double() - 127).repeat_interleave(32, 1)
        for x, s in zip(codes, scales)
    )
    assert torch.equal(out, (a @ b.T).float())
    assert not run.incidents()
