"""Kernels of the benchmark once more, in Gluon for CDNA4: the same arithmetic in the same order."""

# mypy: ignore-errors

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd import AMDMFMALayout, cdna4

LINE = gl.constexpr(gl.BlockedLayout([1], [64], [4], [0]))
PLANE = gl.constexpr(gl.BlockedLayout([1, 4], [8, 8], [4, 1], [1, 0]))
MATRIX = gl.constexpr(AMDMFMALayout(version=4, instr_shape=[16, 16, 32], transposed=True, warps_per_cta=[2, 2]))
TILES = gl.constexpr(gl.SwizzledSharedLayout(4, 1, 8, [1, 0]))


@gluon.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: gl.constexpr):
    """The sum of two vectors."""
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    mask = i < n
    total = cdna4.buffer_load(x_ptr, i, mask=mask) + cdna4.buffer_load(y_ptr, i, mask=mask)
    cdna4.buffer_store(total, out_ptr, i, mask=mask)


@gluon.jit
def softmax_kernel(x_ptr, out_ptr, columns, BLOCK: gl.constexpr):
    """The softmax of one row a program."""
    i = gl.arange(0, BLOCK, layout=LINE)
    mask = i < columns
    start = gl.program_id(0) * columns
    x = cdna4.buffer_load(x_ptr, start + i, mask=mask, other=-float("inf"))
    e = gl.exp(x - gl.max(x, axis=0))
    cdna4.buffer_store(e / gl.sum(e, axis=0), out_ptr, start + i, mask=mask)


@gluon.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, M, N, K, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr):
    """C = A @ B, contiguous, one (BM, BN) tile a program; those of A and B go through two buffers of shared memory."""
    left: gl.constexpr = gl.DotOperandLayout(0, MATRIX, 8)
    right: gl.constexpr = gl.DotOperandLayout(1, MATRIX, 8)
    rows = gl.program_id(0) * BM + gl.arange(0, BM, layout=gl.SliceLayout(1, PLANE))
    columns = gl.program_id(1) * BN + gl.arange(0, BN, layout=gl.SliceLayout(0, PLANE))
    along = gl.arange(0, BK, layout=gl.SliceLayout(0, PLANE))
    down = gl.arange(0, BK, layout=gl.SliceLayout(1, PLANE))
    a_tiles = gl.allocate_shared_memory(gl.float16, [2, BM, BK], TILES)
    b_tiles = gl.allocate_shared_memory(gl.float16, [2, BK, BN], TILES)
    a_offsets = rows[:, None] * K + along[None, :]
    b_offsets = down[:, None] * N + columns[None, :]
    acc = gl.zeros([BM, BN], gl.float32, MATRIX)
    for k in range(0, K, BK):
        a_mask = (rows[:, None] < M) & (along[None, :] < K - k)
        b_mask = (down[:, None] < K - k) & (columns[None, :] < N)
        a_tile, b_tile = a_tiles.index(k // BK % 2), b_tiles.index(k // BK % 2)
        a_tile.store(cdna4.buffer_load(a_ptr, a_offsets, mask=a_mask, other=0.0))
        b_tile.store(cdna4.buffer_load(b_ptr, b_offsets, mask=b_mask, other=0.0))
        acc = cdna4.mfma(a_tile.load(left), b_tile.load(right), acc)
        a_offsets += BK
        b_offsets += BK * N
    rows = gl.program_id(0) * BM + gl.arange(0, BM, layout=gl.SliceLayout(1, MATRIX))
    columns = gl.program_id(1) * BN + gl.arange(0, BN, layout=gl.SliceLayout(0, MATRIX))
    mask = (rows[:, None] < M) & (columns[None, :] < N)
    cdna4.buffer_store(acc.to(gl.float16), c_ptr, rows[:, None] * N + columns[None, :], mask=mask)


@gluon.jit
def paged_gather_kernel(cache_ptr, table_ptr, lengths_ptr, out_ptr, pages, PAGE: gl.constexpr, WIDTH: gl.constexpr):
    """The rows of a paged cache that a block table names, [sequences, pages * PAGE, WIDTH]; one page a program."""
    sequence, page = gl.program_id(0), gl.program_id(1)
    length = gl.load(lengths_ptr + sequence)
    row = gl.arange(0, PAGE, layout=gl.SliceLayout(1, PLANE))
    column = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, PLANE))
    token = page * PAGE + row
    number = gl.load(table_ptr + sequence * pages + page)
    offsets = ((number * PAGE + row) * WIDTH)[:, None] + column[None, :]
    values = cdna4.buffer_load(cache_ptr, offsets, mask=(token < length)[:, None], other=0.0)
    out = ((sequence * pages * PAGE + token) * WIDTH)[:, None] + column[None, :]
    cdna4.buffer_store(values, out_ptr, out)
