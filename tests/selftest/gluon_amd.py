"""Gluon for CDNA4: buffer operations, which take a base and an offset a lane, and the scaled matrix core."""

import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd import AMDMFMALayout, cdna4

from fp4guard import oracle
from fp4guard.memory.layouts import PADDED_ROWS, Layout

ARCH = "gfx950"

LINE = gl.constexpr(gl.BlockedLayout([1], [64], [4], [0]))
PLANE = gl.constexpr(gl.BlockedLayout([1, 4], [4, 16], [4, 1], [1, 0]))


# Stores past the row: a chunk of a row a program, the last one of which is not full


def copying_rows(mem, kernel, rows=3, n=300, CHUNK=256):
    x = mem.tensor("x", (rows, n), torch.float32)
    out = mem.output("out", (rows, n), torch.float32, (PADDED_ROWS,))
    kernel[(rows, triton.cdiv(n, CHUNK))](x, out, n, x.stride(0), out.stride(0), CHUNK=CHUNK)
    mem.expect(out, x)


def copying_dense_rows(mem, kernel, rows=3, n=300, CHUNK=256):
    x, out = mem.tensor("x", (rows, n), torch.float32), mem.output("out", (rows, n), torch.float32)
    kernel[(rows, triton.cdiv(n, CHUNK))](x, out, n, n, n, CHUNK=CHUNK)
    mem.expect(out, x)


@gluon.jit
def copy_chunk(x, out, n, stride_x, stride_out, CHUNK: gl.constexpr):
    row = gl.program_id(0)
    i = gl.program_id(1) * CHUNK + gl.arange(0, CHUNK, layout=LINE)
    value = cdna4.buffer_load(x, row * stride_x + i, mask=i < n, other=0.0)
    cdna4.buffer_store(value, ptr=out, offsets=row * stride_out + i, mask=i < n)


@gluon.jit
def copy_chunk_past_the_row(x, out, n, stride_x, stride_out, CHUNK: gl.constexpr):
    row = gl.program_id(0)
    i = gl.program_id(1) * CHUNK + gl.arange(0, CHUNK, layout=LINE)
    value = cdna4.buffer_load(x, row * stride_x + i, mask=i < n, other=0.0)
    cdna4.buffer_store(value, ptr=out, offsets=row * stride_out + i)  # wrong: buffer_store past the row


@gluon.jit
def copy_chunk_into_the_next_row(x, out, n, stride_x, stride_out, CHUNK: gl.constexpr):
    row = gl.program_id(0)
    i = gl.program_id(1) * CHUNK + gl.arange(0, CHUNK, layout=LINE)
    value = cdna4.buffer_load(x, row * stride_x + i, mask=i < n, other=0.0)
    last = row == gl.num_programs(0) - 1
    cdna4.buffer_store(value, out, row * stride_out + i, (i < n) | (not last))  # wrong: buffer_store into the next row


@gluon.jit
def copy_chunk_unmasked(x, out, n, stride_x, stride_out, CHUNK: gl.constexpr):
    row = gl.program_id(0)
    i = gl.program_id(1) * CHUNK + gl.arange(0, CHUNK, layout=LINE)
    value = cdna4.buffer_load(x, row * stride_x + i)  # wrong: buffer_load past the end
    cdna4.buffer_store(value, out, row * stride_out + i, mask=i < n)


@gluon.jit
def copy_chunk_from_before(x, out, n, stride_x, stride_out, CHUNK: gl.constexpr):
    row = gl.program_id(0)
    i = gl.program_id(1) * CHUNK + gl.arange(0, CHUNK, layout=LINE)
    earlier = cdna4.buffer_load(x, row * stride_x + i - 1, mask=i < n, other=0.0)  # wrong: buffer_load before the start
    value = cdna4.buffer_load(x, row * stride_x + i, mask=i < n, other=0.0)
    cdna4.buffer_store(gl.where(i == n, earlier, value), out, row * stride_out + i, mask=i < n)


def repeating(mem, kernel, n=100):
    """Programs 0 and 4 copy the same row."""
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (2, n), torch.float32)
    kernel[(5,)](x, out, n, 1 << 30, BLOCK=256)
    mem.expect(out, x.expand(2, n))


@gluon.jit
def repeat(x, out, n, stride, BLOCK: gl.constexpr):
    row, i = gl.program_id(0), gl.arange(0, BLOCK, layout=LINE)
    mask = (i < n) & (row % 4 == 0)
    cdna4.buffer_store(cdna4.buffer_load(x, i, mask=mask, other=0.0), out, row // 4 * n + i, mask=mask)


@gluon.jit
def repeat_by_wrapping(x, out, n, stride, BLOCK: gl.constexpr):
    row, i = gl.program_id(0), gl.arange(0, BLOCK, layout=LINE)
    mask = (i < n) & (row % 4 == 0)
    value = cdna4.buffer_load(x, row * stride + i, mask=mask, other=0.0)  # wrong: buffer offset that wraps
    cdna4.buffer_store(value, out, row // 4 * n + i, mask=mask)


# Softmax of rows that the block is larger than


def normalizing(mem, kernel, rows=3, n=300):
    x, out = mem.tensor("x", (rows, n), torch.float32), mem.output("out", (rows, n), torch.float32)
    kernel[(rows,)](x, out, n, BLOCK=512)
    mem.expect(out, oracle.within(x.double().softmax(1), 1e-6))


@gluon.jit
def softmax(x, out, n, BLOCK: gl.constexpr):
    i = gl.arange(0, BLOCK, layout=LINE)
    value = cdna4.buffer_load(x, gl.program_id(0) * n + i, mask=i < n, other=-float("inf"))
    e = gl.exp(value - gl.max(value, axis=0))
    cdna4.buffer_store(e / gl.sum(e, axis=0), out, gl.program_id(0) * n + i, mask=i < n)


@gluon.jit
def softmax_of_undefined(x, out, n, BLOCK: gl.constexpr):
    i = gl.arange(0, BLOCK, layout=LINE)
    value = cdna4.buffer_load(x, gl.program_id(0) * n + i, mask=i < n)  # wrong: softmax over undefined lanes
    e = gl.exp(value - gl.max(value, axis=0))
    cdna4.buffer_store(e / gl.sum(e, axis=0), out, gl.program_id(0) * n + i, mask=i < n)


@gluon.jit
def softmax_of_zeros(x, out, n, BLOCK: gl.constexpr):
    i = gl.arange(0, BLOCK, layout=LINE)
    value = cdna4.buffer_load(x, gl.program_id(0) * n + i, mask=i < n, other=0.0)
    e = gl.exp(value - gl.max(value, axis=0))
    cdna4.buffer_store(e / gl.sum(e, axis=0), out, gl.program_id(0) * n + i, mask=i < n)


# Pages of a cache, by a table, the last of which is not full


def gathering(mem, kernel, sequences=3, pages=4, PAGE=16, WIDTH=64):
    cache = mem.tensor("cache", (sequences * pages, PAGE, WIDTH), torch.float16)
    table = mem.input("table", torch.arange(sequences * pages, dtype=torch.int32).flip(0).reshape(sequences, pages))
    lengths = mem.input("lengths", torch.tensor([1, 33, 49], dtype=torch.int32))
    used = table[torch.arange(sequences), (lengths - 1) // PAGE]
    table = mem.input("used", torch.where(torch.arange(pages) <= (lengths - 1)[:, None] // PAGE, table, 1 << 20))
    out = mem.output("out", (sequences, pages * PAGE, WIDTH), torch.float16)
    kernel[(sequences, pages)](cache, table, lengths, out, pages, PAGE=PAGE, WIDTH=WIDTH)
    whole = cache[torch.where(table < sequences * pages, table, used[:, None])].reshape(out.shape)
    mem.expect(out, torch.where(torch.arange(pages * PAGE)[:, None] < lengths[:, None, None], whole, 0))


@gluon.jit
def gather(cache, table, lengths, out, pages, PAGE: gl.constexpr, WIDTH: gl.constexpr):
    sequence, page = gl.program_id(0), gl.program_id(1)
    length = gl.load(lengths + sequence)
    row = gl.arange(0, PAGE, layout=gl.SliceLayout(1, PLANE))
    column = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, PLANE))
    token = page * PAGE + row
    number = gl.load(table + sequence * pages + page)
    offsets = (number * PAGE + row)[:, None] * WIDTH + column[None, :]
    value = cdna4.buffer_load(cache, offsets, mask=(token < length)[:, None], other=0.0)
    cdna4.buffer_store(value, out, (sequence * pages * PAGE + token)[:, None] * WIDTH + column[None, :])


@gluon.jit
def gather_every_page(cache, table, lengths, out, pages, PAGE: gl.constexpr, WIDTH: gl.constexpr):
    sequence, page = gl.program_id(0), gl.program_id(1)
    length = gl.load(lengths + sequence)
    row = gl.arange(0, PAGE, layout=gl.SliceLayout(1, PLANE))
    column = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, PLANE))
    token = page * PAGE + row
    number = gl.load(table + sequence * pages + page)
    offsets = (number * PAGE + row)[:, None] * WIDTH + column[None, :]
    value = cdna4.buffer_load(cache, offsets)  # wrong: pages that the table does not have
    value = gl.where((token < length)[:, None], value, 0.0)
    cdna4.buffer_store(value, out, (sequence * pages * PAGE + token)[:, None] * WIDTH + column[None, :])


# Counts, by atomics


def counting(mem, kernel, n=300, bins=20):
    x = mem.integers("x", (n,), 0, bins - 1)
    counts = mem.output("counts", (bins,), torch.int32, fill=0)
    kernel[(2,)](x, counts.view(torch.uint32), n, BLOCK=256)
    mem.expect(counts, x.bincount(minlength=bins).int())


@gluon.jit
def count(x, counts, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    bins = cdna4.buffer_load(x, i, mask=i < n, other=0)
    cdna4.buffer_atomic_add(counts, bins, gl.full([BLOCK], 1, gl.uint32, LINE), mask=i < n, sem="relaxed")


@gluon.jit
def count_without_atomics(x, counts, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    bins = cdna4.buffer_load(x, i, mask=i < n, other=0)
    before = cdna4.buffer_load(counts, bins)
    cdna4.buffer_store(before + 1, counts, bins, mask=i < n)  # wrong: counts without atomics


# MXFP4 on the scaled matrix core, K no multiple of the tile

MATRIX = gl.constexpr(AMDMFMALayout(version=4, instr_shape=[32, 32, 64], transposed=True, warps_per_cta=[2, 2]))


def multiplying(mem, kernel, m=50, n=41, k=160, BM=64, BN=64, BK=128):
    a, b = mem.mxfp4("a", (m, k)), mem.mxfp4("b", (n, k))
    out = mem.output("out", (m, n), torch.float32)
    grid = (triton.cdiv(m, BM), triton.cdiv(n, BN))
    kernel[grid](a.codes, a.scales, b.codes, b.scales, out, m, n, k, BM=BM, BN=BN, BK=BK)
    mem.expect(out, oracle.gemm(a, b))


@gluon.jit
def load_elements(x, rows, columns, m, k):
    """Packed elements [rows, columns] of an (m, k) matrix, two a byte."""
    mask = (rows < m) & (columns < k // 2)
    return cdna4.buffer_load(x, rows * (k // 2) + columns, mask=mask, other=0)


@gluon.jit
def load_scales(x, rows, columns, m, k):
    mask = (rows < m) & (columns < k // 32)
    return cdna4.buffer_load(x, rows * (k // 32) + columns, mask=mask, other=127)


@gluon.jit
def load_scales_of_whole_tiles(x, rows, columns, m, k):
    return cdna4.buffer_load(x, rows * (k // 32) + columns, mask=rows < m, other=127)  # wrong: scales beyond K


@gluon.jit
def multiply(
    a, a_scales, b, b_scales, out, m, n, k, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr,
    SCALES: gl.constexpr = load_scales,
):  # fmt: skip
    left: gl.constexpr = gl.DotOperandLayout(0, MATRIX, 16)
    right: gl.constexpr = gl.DotOperandLayout(1, MATRIX, 16)
    left_scale: gl.constexpr = cdna4.get_mfma_scale_layout(left, [BM, BK // 32])
    right_scale: gl.constexpr = cdna4.get_mfma_scale_layout(right, [BN, BK // 32])
    at_m, at_n = gl.program_id(0) * BM, gl.program_id(1) * BN
    a_rows = at_m + gl.arange(0, BM, layout=gl.SliceLayout(1, left))[:, None]
    a_columns = gl.arange(0, BK // 2, layout=gl.SliceLayout(0, left))[None, :]
    b_rows = at_n + gl.arange(0, BN, layout=gl.SliceLayout(0, right))[None, :]
    b_columns = gl.arange(0, BK // 2, layout=gl.SliceLayout(1, right))[:, None]
    a_scale_rows = at_m + gl.arange(0, BM, layout=gl.SliceLayout(1, left_scale))[:, None]
    a_scale_columns = gl.arange(0, BK // 32, layout=gl.SliceLayout(0, left_scale))[None, :]
    b_scale_rows = at_n + gl.arange(0, BN, layout=gl.SliceLayout(1, right_scale))[:, None]
    b_scale_columns = gl.arange(0, BK // 32, layout=gl.SliceLayout(0, right_scale))[None, :]
    total = gl.zeros([BM, BN], gl.float32, MATRIX)
    for start in range(0, k, BK):
        x = load_elements(a, a_rows, a_columns + start // 2, m, k)
        y = load_elements(b, b_rows, b_columns + start // 2, n, k)
        xs = SCALES(a_scales, a_scale_rows, a_scale_columns + start // 32, m, k)
        ys = load_scales(b_scales, b_scale_rows, b_scale_columns + start // 32, n, k)
        total = cdna4.mfma_scaled(x, xs, "e2m1", y, ys, "e2m1", total)
    rows = at_m + gl.arange(0, BM, layout=gl.SliceLayout(1, MATRIX))[:, None]
    columns = at_n + gl.arange(0, BN, layout=gl.SliceLayout(0, MATRIX))[None, :]
    cdna4.buffer_store(total, out, rows * n + columns, mask=(rows < m) & (columns < n))


@gluon.jit
def multiply_with_other_scales(
    a, a_scales, b, b_scales, out, m, n, k, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr
):
    multiply(a, a_scales, b, b_scales, out, m, n, k, BM, BN, BK, load_scales_of_whole_tiles)


# Copies to shared memory that pass registers by

FLAT = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))


def copying(mem, kernel, n=300, BLOCK=256):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    kernel[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)
    mem.expect(out, x)


@gluon.jit
def copy_through_shared(x, out, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [BLOCK], FLAT)
    cdna4.async_copy.buffer_load_to_shared(held, x, i, mask=i < n)
    cdna4.async_copy.commit_group()
    cdna4.async_copy.wait_group(0)
    cdna4.buffer_store(held.load(LINE), out, i, mask=i < n)


@gluon.jit
def copy_through_shared_unmasked(x, out, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [BLOCK], FLAT)
    cdna4.async_copy.buffer_load_to_shared(held, x, i)  # wrong: buffer_load_to_shared past the end
    cdna4.async_copy.commit_group()
    cdna4.async_copy.wait_group(0)
    cdna4.buffer_store(held.load(LINE), out, i, mask=i < n)


@gluon.jit
def copy_pointers_through_shared_unmasked(x, out, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [BLOCK], FLAT)
    cdna4.async_copy.global_load_to_shared(held, x + i)  # wrong: global_load_to_shared past the end
    cdna4.async_copy.commit_group()
    cdna4.async_copy.wait_group(0)
    cdna4.buffer_store(held.load(LINE), out, i, mask=i < n)


def summing(mem, kernel, n=300, BLOCK=256):
    x, out = mem.integers("values", (n,), 1, 99).float(), mem.output("out", (2,), torch.float32)
    x = mem.input("x", x)
    kernel[(2,)](x, out, n, BLOCK=BLOCK)
    mem.expect(out, torch.nn.functional.pad(x, (0, 2 * BLOCK - n)).reshape(2, BLOCK).sum(1))


@gluon.jit
def add_up(x, out, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [BLOCK], FLAT)
    cdna4.async_copy.buffer_load_to_shared(held, x, i, mask=i < n, other=0.0)
    cdna4.async_copy.commit_group()
    cdna4.async_copy.wait_group(0)
    gl.store(out + gl.program_id(0), gl.sum(held.load(LINE), axis=0))


@gluon.jit
def add_up_undefined(x, out, n, BLOCK: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [BLOCK], FLAT)
    cdna4.async_copy.buffer_load_to_shared(held, x, i, mask=i < n)  # wrong: sum over what a copy left out
    cdna4.async_copy.commit_group()
    cdna4.async_copy.wait_group(0)
    gl.store(out + gl.program_id(0), gl.sum(held.load(LINE), axis=0))


# Offsets of buffer operations: bytes, in 31 bits, from the base on


def copying_far_rows(mem, kernel, rows=3, n=100):
    x = mem.tensor("x", (rows, n), torch.float32, (Layout("rows far apart", row_gap=(1 << 28) - n),))
    out = mem.output("out", (rows, n), torch.float32)
    kernel[(rows,)](x, out, n, x.stride(0), BLOCK=256)
    mem.expect(out, x)


@gluon.jit
def copy_far_row(x, out, n, stride, BLOCK: gl.constexpr):
    row, i = gl.program_id(0), gl.arange(0, BLOCK, layout=LINE)
    value = cdna4.buffer_load(x + row.to(gl.int64) * stride, i, mask=i < n, other=0.0)
    cdna4.buffer_store(value, out, row * n + i, mask=i < n)


@gluon.jit
def copy_far_row_by_offsets(x, out, n, stride, BLOCK: gl.constexpr):
    row, i = gl.program_id(0), gl.arange(0, BLOCK, layout=LINE)
    value = cdna4.buffer_load(x, row * stride + i, mask=i < n, other=0.0)  # wrong: buffer offset of 2 GiB
    cdna4.buffer_store(value, out, row * n + i, mask=i < n)


def turning(mem, kernel, n=100):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    kernel[(1,)](x, out, n, BLOCK=256)
    mem.expect(out, x.flip(0))


@gluon.jit
def turn(x, out, n, BLOCK: gl.constexpr):
    i = gl.arange(0, BLOCK, layout=LINE)
    cdna4.buffer_store(cdna4.buffer_load(x, n - 1 - i, mask=i < n, other=0.0), out, i, mask=i < n)


@gluon.jit
def turn_from_the_end(x, out, n, BLOCK: gl.constexpr):
    i = gl.arange(0, BLOCK, layout=LINE)
    value = cdna4.buffer_load(x + (n - 1), -i, mask=i < n, other=0.0)  # wrong: buffer offset before the base
    cdna4.buffer_store(value, out, i, mask=i < n)


PAIRS = [
    ("buffer_store past the row", copying_rows, copy_chunk_past_the_row, copy_chunk, "oob-write", "out",
     "race", "wrong-value"),
    ("buffer_store into the next row", copying_dense_rows, copy_chunk_into_the_next_row, copy_chunk, "race", "out",
     "wrong-value"),
    ("buffer_load past the end", copying_rows, copy_chunk_unmasked, copy_chunk, "oob-read", "x"),
    ("buffer_load before the start", copying_rows, copy_chunk_from_before, copy_chunk, "oob-read", "x"),
    ("buffer offset that wraps", repeating, repeat_by_wrapping, repeat, "int-overflow", "x"),
    ("softmax over undefined lanes", normalizing, softmax_of_undefined, softmax, "undefined-lane", "x"),
    ("softmax over zeros", normalizing, softmax_of_zeros, softmax, "wrong-value", "out"),
    ("pages that the table does not have", gathering, gather_every_page, gather, "oob-read", "cache"),
    ("counts without atomics", counting, count_without_atomics, count, "race", "counts", "wrong-value"),
    ("scales beyond K", multiplying, multiply_with_other_scales, multiply, "oob-read", "a_scales"),
    ("buffer_load_to_shared past the end", copying, copy_through_shared_unmasked, copy_through_shared, "oob-read", "x"),
    ("global_load_to_shared past the end", copying, copy_pointers_through_shared_unmasked, copy_through_shared,
     "oob-read", "x"),
    ("sum over what a copy left out", summing, add_up_undefined, add_up, "undefined-lane", "x"),
    ("buffer offset of 2 GiB", copying_far_rows, copy_far_row_by_offsets, copy_far_row, "int-overflow", "x"),
    ("buffer offset before the base", turning, turn_from_the_end, turn, "int-overflow", "x"),
]  # fmt: skip
