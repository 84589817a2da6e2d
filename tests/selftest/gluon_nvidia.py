"""Gluon for Hopper: shared memory, asynchronous copies, tensor descriptors, products of what is in shared memory."""

import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from fp4guard.memory.layouts import PADDED_ROWS

ARCH = "sm_90"

# What has another name before Triton 3.8.
async_load = getattr(async_copy, "async_load", None) or async_copy.async_copy_global_to_shared
tma_load = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
tma_store = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global

LINE = gl.constexpr(gl.BlockedLayout([1], [32], [4], [0]))
PLANE = gl.constexpr(gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0]))
ACCUMULATOR = gl.constexpr(gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, 32, 16]))
FLAT = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
TILE = gl.constexpr(gl.NVMMASharedLayout(64, 16, 2))


# A tiled product through two buffers of shared memory


def multiplying(mem, kernel, m=70, n=45, k=96, BM=64, BN=32, BK=32):
    a = mem.integers("a_values", (m, k), -8, 8).half()
    b = mem.integers("b_values", (k, n), -8, 8).half()
    a, b = mem.input("a", a), mem.input("b", b)
    out = mem.output("out", (m, n), torch.float32)
    kernel[(triton.cdiv(m, BM), triton.cdiv(n, BN))](a, b, out, m, n, k, BM=BM, BN=BN, BK=BK)
    mem.expect(out, a.float() @ b.float())


@gluon.jit
def load_tiles(a, b, at_m, at_n, at_k, m, n, k, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr):
    rows = at_m + gl.arange(0, BM, layout=gl.SliceLayout(1, PLANE))[:, None]
    columns = at_n + gl.arange(0, BN, layout=gl.SliceLayout(0, PLANE))[None, :]
    down = at_k + gl.arange(0, BK, layout=gl.SliceLayout(1, PLANE))[:, None]
    along = at_k + gl.arange(0, BK, layout=gl.SliceLayout(0, PLANE))[None, :]
    x = gl.load(a + rows * k + along, mask=(rows < m) & (along < k), other=0.0)
    y = gl.load(b + down * n + columns, mask=(down < k) & (columns < n), other=0.0)
    return x, y


@gluon.jit
def store_tile(out, total, at_m, at_n, m, n, BM: gl.constexpr, BN: gl.constexpr):
    rows = at_m + gl.arange(0, BM, layout=gl.SliceLayout(1, ACCUMULATOR))[:, None]
    columns = at_n + gl.arange(0, BN, layout=gl.SliceLayout(0, ACCUMULATOR))[None, :]
    gl.store(out + rows * n + columns, total, mask=(rows < m) & (columns < n))


@gluon.jit
def multiply(a, b, out, m, n, k, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr):
    at_m, at_n = gl.program_id(0) * BM, gl.program_id(1) * BN
    a_tiles = gl.allocate_shared_memory(gl.float16, [2, BM, BK], TILE)
    b_tiles = gl.allocate_shared_memory(gl.float16, [2, BK, BN], TILE)
    total = gl.zeros([BM, BN], gl.float32, ACCUMULATOR)
    for start in range(0, k, BK):
        turn = start // BK % 2
        x, y = load_tiles(a, b, at_m, at_n, start, m, n, k, BM, BN, BK)
        a_tiles.index(turn).store(x)
        b_tiles.index(turn).store(y)
        fence_async_shared()
        total = warpgroup_mma(a_tiles.index(turn), b_tiles.index(turn), total, is_async=True)
        total = warpgroup_mma_wait(0, deps=(total,))
    store_tile(out, total, at_m, at_n, m, n, BM, BN)


@gluon.jit
def multiply_too_early(a, b, out, m, n, k, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr):
    at_m, at_n = gl.program_id(0) * BM, gl.program_id(1) * BN
    a_tiles = gl.allocate_shared_memory(gl.float16, [2, BM, BK], TILE)
    b_tiles = gl.allocate_shared_memory(gl.float16, [2, BK, BN], TILE)
    total = gl.zeros([BM, BN], gl.float32, ACCUMULATOR)
    for start in range(0, k, BK):
        turn = start // BK % 2
        x, y = load_tiles(a, b, at_m, at_n, start, m, n, k, BM, BN, BK)
        a_tiles.index(turn).store(x)
        b_tiles.index(turn).store(y)
        fence_async_shared()
        total = warpgroup_mma(a_tiles.index(1 - turn), b_tiles.index(turn), total)  # wrong: tile that is not there yet
    store_tile(out, total, at_m, at_n, m, n, BM, BN)


@gluon.jit
def multiply_past_the_buffers(a, b, out, m, n, k, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr):
    at_m, at_n = gl.program_id(0) * BM, gl.program_id(1) * BN
    a_tiles = gl.allocate_shared_memory(gl.float16, [2, BM, BK], TILE)
    b_tiles = gl.allocate_shared_memory(gl.float16, [3, BK, BN], TILE)
    total = gl.zeros([BM, BN], gl.float32, ACCUMULATOR)
    for start in range(0, k, BK):
        turn = start // BK
        x, y = load_tiles(a, b, at_m, at_n, start, m, n, k, BM, BN, BK)
        a_tiles.index(turn).store(x)  # wrong: third of two buffers
        b_tiles.index(turn).store(y)
        fence_async_shared()
        total = warpgroup_mma(a_tiles.index(turn), b_tiles.index(turn), total)
    store_tile(out, total, at_m, at_n, m, n, BM, BN)


# Copies to shared memory that pass registers by


def adding(mem, kernel, n=300, BLOCK=128):
    x, y = mem.tensor("x", (n,), torch.float32), mem.tensor("y", (n,), torch.float32)
    out = mem.output("out", (n,), torch.float32)
    kernel[(triton.cdiv(n, BLOCK),)](x, y, out, n, BLOCK=BLOCK)
    mem.expect(out, x + y)


@gluon.jit
def add(x, y, out, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [BLOCK], FLAT)
    async_load(held, x + i, mask=i < n)
    async_copy.commit_group()
    value = gl.load(y + i, mask=i < n)
    async_copy.wait_group(0)
    gl.store(out + i, held.load(LINE) + value, mask=i < n)


@gluon.jit
def add_unmasked(x, y, out, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [BLOCK], FLAT)
    async_load(held, x + i)  # wrong: copy to shared memory past the end
    async_copy.commit_group()
    value = gl.load(y + i, mask=i < n)
    async_copy.wait_group(0)
    gl.store(out + i, held.load(LINE) + value, mask=i < n)


@gluon.jit
def add_what_is_nowhere(x, y, out, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [2, BLOCK], FLAT)
    async_load(held.index(0), x + i, mask=i < n)
    async_copy.commit_group()
    value = gl.load(y + i, mask=i < n)
    async_copy.wait_group(0)
    other = held.index(1).load(LINE)  # wrong: part of shared memory that nobody wrote
    gl.store(out + i, other + value, mask=i < n)


# Blocks by descriptors


def copying_blocks(mem, kernel, m=100, n=40):
    x = mem.tensor("x", (m, n), torch.float16, (PADDED_ROWS,))
    x = mem.tensor("aligned", (m, 64), torch.float16)[:, :n] if x.stride(0) % 8 else x
    out = mem.output("out", (m, n), torch.float16)
    rows = m + kernel.fn.__name__.endswith("of_more_rows")
    source = TensorDescriptor(x, [rows, n], list(x.stride()), [32, 32], TILE.value)
    target = TensorDescriptor(out, [rows, n], list(out.stride()), [32, 32], TILE.value)
    kernel[(triton.cdiv(m, 32), triton.cdiv(n, 32))](source, target, BM=32, BN=32)
    mem.expect(out, x)


@gluon.jit
def copy_block(source, target, BM: gl.constexpr, BN: gl.constexpr):
    tile = gl.allocate_shared_memory(source.dtype, [BM, BN], source.layout)
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(ready, count=1)
    mbarrier.expect(ready, source.block_type.nbytes)
    at = [gl.program_id(0) * BM, gl.program_id(1) * BN]
    tma_load(source, at, ready, tile)
    mbarrier.wait(ready, 0)
    mbarrier.invalidate(ready)
    tma_store(target, at, tile)
    tma.store_wait(0)


@gluon.jit
def copy_block_of_more_rows(source, target, BM: gl.constexpr, BN: gl.constexpr):
    tile = gl.allocate_shared_memory(source.dtype, [BM, BN], source.layout)
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(ready, count=1)
    mbarrier.expect(ready, source.block_type.nbytes)
    at = [gl.program_id(0) * BM, gl.program_id(1) * BN]
    tma_load(source, at, ready, tile)
    mbarrier.wait(ready, 0)
    mbarrier.invalidate(ready)
    tma_store(target, at, tile)  # wrong: descriptor of more rows than there are
    tma.store_wait(0)


PAIRS = [
    ("tile that is not there yet", multiplying, multiply_too_early, multiply, "uninitialized-read",
     "a_tiles (shared memory)"),
    ("third of two buffers", multiplying, multiply_past_the_buffers, multiply, "oob-write", "a_tiles (shared memory)",
     "oob-read"),
    ("copy to shared memory past the end", adding, add_unmasked, add, "oob-read", "x"),
    ("part of shared memory that nobody wrote", adding, add_what_is_nowhere, add, "uninitialized-read",
     "held (shared memory)"),
    ("descriptor of more rows than there are", copying_blocks, copy_block_of_more_rows, copy_block, "oob-write", "out",
     "oob-read"),
]  # fmt: skip
