"""Gluon kernels for Hopper: what `gluon.py` runs on the card and in the simulator. Triton 3.6 and later."""

from __future__ import annotations

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

# What has another name before Triton 3.8.
async_load = getattr(async_copy, "async_load", None) or async_copy.async_copy_global_to_shared
tma_load = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
tma_store = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global
barrier = getattr(gl, "barrier", None) or gl.thread_barrier

LINE = gl.constexpr(gl.BlockedLayout([1], [32], [4], [0]))
PLANE = gl.constexpr(gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0]))
FLAT = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
SWIZZLED = gl.constexpr(gl.SwizzledSharedLayout(4, 1, 8, [1, 0]))
PADDED = gl.constexpr(gl.PaddedSharedLayout.with_identity_for([[64, 4]], [64, 64], [1, 0]))
LINEAR = gl.constexpr(
    gl.DistributedLinearLayout(
        reg_bases=[[0, 1], [0, 2], [0, 32], [16, 0], [32, 0]],
        lane_bases=[[0, 4], [0, 8], [0, 16], [1, 0], [2, 0]],
        warp_bases=[[4, 0], [8, 0]],
        block_bases=[],
        shape=[64, 64],
    )
)


@gluon.jit
def places(M: gl.constexpr, N: gl.constexpr, LAYOUT: gl.constexpr):
    """Offsets in a contiguous (M, N) tensor."""
    rows = gl.arange(0, M, layout=gl.SliceLayout(1, LAYOUT))
    return rows[:, None] * N + gl.arange(0, N, layout=gl.SliceLayout(0, LAYOUT))[None, :]


@gluon.jit
def add(x, y, out, n, B: gl.constexpr):
    i = gl.program_id(0) * B + gl.arange(0, B, layout=LINE)
    gl.store(out + i, gl.load(x + i, mask=i < n, other=0) + gl.load(y + i, mask=i < n, other=0), mask=i < n)


@gluon.jit
def softmax(x, out, columns, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    value = gl.load(x + gl.program_id(0) * columns + i, mask=i < columns, other=-float("inf"))
    e = gl.exp(value - gl.max(value, axis=0))
    gl.store(out + gl.program_id(0) * columns + i, e / gl.sum(e, axis=0), mask=i < columns)


@gluon.jit
def _larger(a, i, b, j):
    first = (a > b) | ((a == b) & (i < j))
    return gl.where(first, a, b), gl.where(first, i, j)


@gluon.jit
def largest(x, out):
    """Where the largest of each row is."""
    columns = gl.arange(0, 64, layout=gl.SliceLayout(0, PLANE))[None, :] + gl.zeros([64, 64], gl.int32, PLANE)
    _, place = gl.reduce((gl.load(x + places(64, 64, PLANE)), columns), 1, _larger)
    gl.store(out + gl.arange(0, 64, layout=gl.SliceLayout(1, PLANE)), place)


@gluon.jit
def _affine(a, b, c, d):
    return a * c, b * c + d


@gluon.jit
def scan(x, y, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    _, sums = gl.associative_scan((gl.load(x + i), gl.load(y + i)), 0, _affine)
    gl.store(out + i, sums)


@gluon.jit
def interleave(x, out, B: gl.constexpr):
    i, j = gl.arange(0, B, layout=LINE), gl.arange(0, 2 * B, layout=LINE)
    pairs = gl.join(gl.load(x + i), gl.load(x + B + i))
    first, second = gl.split(pairs)
    gl.store(out + j, gl.convert_layout(gl.reshape(pairs, [2 * B]), LINE))
    gl.store(out + 2 * B + i, gl.convert_layout(first - second, LINE))


@gluon.jit
def convert(x, out):
    """Through other layouts, of registers alone."""
    value = gl.convert_layout(gl.load(x + places(64, 64, LINEAR)), PLANE)
    gl.store(out + places(64, 64, PLANE), value)


@gluon.jit
def transpose(x, out, SHARED: gl.constexpr):
    held = gl.allocate_shared_memory(gl.float32, [64, 64], SHARED)
    held.store(gl.load(x + places(64, 64, PLANE)))
    gl.store(out + places(64, 64, PLANE), held.permute([1, 0]).load(PLANE))


@gluon.jit
def cut(x, out):
    """Writes through parts of shared memory that overlap."""
    held = gl.allocate_shared_memory(gl.float32, [64, 64], SWIZZLED)
    held.store(gl.load(x + places(64, 64, PLANE)))
    held.slice(32, 32, 0).store(gl.zeros([32, 64], gl.float32, PLANE))
    held.slice(16, 16, 1).store(gl.full([64, 16], 7.0, gl.float32, PLANE))
    gl.store(out + places(64, 64, PLANE), held.load(PLANE))


@gluon.jit
def buffers(x, out, trips, B: gl.constexpr):
    """Copies to two parts of shared memory in turn, one ahead of the sum."""
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [2, B], FLAT)
    total = gl.zeros([B], gl.float32, LINE)
    start = x + gl.program_id(0) * trips * B
    async_load(held.index(0), start + i)
    async_copy.commit_group()
    for k in range(trips):
        async_load(held.index((k + 1) % 2), start + (k + 1) * B + i, mask=i < (trips - 1 - k) * B)
        async_copy.commit_group()
        async_copy.wait_group(1)
        total += held.index(k % 2).load(LINE)
        barrier()
    gl.store(out + gl.program_id(0) * B + i, total)


@gluon.jit
def masked_copy(x, out, n, B: gl.constexpr):
    """What a copy leaves out of shared memory that held something else."""
    i = gl.program_id(0) * B + gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [B], FLAT)
    held.store(gl.full([B], 77.0, gl.float32, LINE))
    async_load(held, x + i, mask=i < n)
    async_copy.commit_group()
    async_copy.wait_group(0)
    gl.store(out + i, held.load(LINE))


@gluon.jit
def product(a, b, c, out, use, K: gl.constexpr, TYPE: gl.constexpr, SHARED: gl.constexpr):
    """Wgmma: a (64, K) times b (32, K) transposed, and c where it is to be used."""
    result: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 32, 256 // TYPE.primitive_bitwidth])
    left = gl.allocate_shared_memory(TYPE, [64, K], SHARED, gl.load(a + places(64, K, PLANE)))
    right = gl.allocate_shared_memory(TYPE, [32, K], SHARED, gl.load(b + places(32, K, PLANE)))
    fence_async_shared()
    total = gl.load(c + places(64, 32, result))
    total = warpgroup_mma(left, right.permute([1, 0]), total, use_acc=use > 0, is_async=True)
    total = warpgroup_mma_wait(0, deps=(total,))
    gl.store(out + places(64, 32, result), total)


@gluon.jit
def blocks(source, target, BM: gl.constexpr, BN: gl.constexpr):
    """Copies by descriptor of blocks that begin before the tensor and end behind it."""
    tile = gl.allocate_shared_memory(source.dtype, [BM, BN], source.layout)
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(ready, count=1)
    mbarrier.expect(ready, source.block_type.nbytes)
    tma_load(source, [gl.program_id(0) * BM - 8, gl.program_id(1) * BN - 8], ready, tile)
    mbarrier.wait(ready, 0)
    mbarrier.invalidate(ready)
    tma_store(target, [gl.program_id(0) * BM, gl.program_id(1) * BN], tile)
    tma.store_wait(0)


@gluon.jit
def pipeline(a, b, out, K, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr, STAGES: gl.constexpr):
    """A product whose tiles come by descriptor into STAGES buffers in turn, waited for by the phases of barriers."""
    a_tiles = gl.allocate_shared_memory(a.dtype, [STAGES, BM, BK], a.layout)
    b_tiles = gl.allocate_shared_memory(b.dtype, [STAGES, BK, BN], b.layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(ready.index(i), count=1)
    at_m, at_n = gl.program_id(0) * BM, gl.program_id(1) * BN
    total = gl.zeros([BM, BN], gl.float32, gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BN, 16]))
    for k in range(-(STAGES - 1) * BK, K, BK):
        coming = k + (STAGES - 1) * BK
        turn = coming // BK % STAGES
        there = coming < K
        mbarrier.expect(ready.index(turn), a.block_type.nbytes + b.block_type.nbytes, pred=there)
        tma_load(a, [at_m, coming], ready.index(turn), a_tiles.index(turn), pred=there)
        tma_load(b, [coming, at_n], ready.index(turn), b_tiles.index(turn), pred=there)
        if k >= 0:
            turn = k // BK % STAGES
            mbarrier.wait(ready.index(turn), k // BK // STAGES & 1)
            total = warpgroup_mma(a_tiles.index(turn), b_tiles.index(turn), total, is_async=True)
            total = warpgroup_mma_wait(0, deps=(total,))
    for i in gl.static_range(STAGES):
        mbarrier.invalidate(ready.index(i))
    tile = gl.allocate_shared_memory(out.dtype, [BM, BN], out.layout)
    tile.store(total.to(out.dtype))
    fence_async_shared()
    tma_store(out, [at_m, at_n], tile)
    tma.store_wait(0)
