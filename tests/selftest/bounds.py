"""Accesses beyond the end of a tensor or of a row: masks that are missing, too wide, or of the wrong axis."""

import torch
import triton
import triton.language as tl

from fp4guard.memory.layouts import ODD_ROWS, PADDED_PLANES, PADDED_ROWS


def copying(mem, kernel, n=37, BLOCK=16):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    kernel[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)
    mem.expect(out, x)


@triton.jit
def copy(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)


@triton.jit
def copy_one_more(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0)
    tl.store(out + i, value, mask=i <= n)  # wrong: store one past the end


@triton.jit
def copy_unmasked_store(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0)
    tl.store(out + i, value)  # wrong: store without a mask


@triton.jit
def copy_unmasked_load(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i)  # wrong: load without a mask
    tl.store(out + i, value, mask=i < n)


@triton.jit
def copy_last_specially(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0)
    if tl.program_id(0) == tl.num_programs(0) - 1:
        tl.store(out + i, value)  # wrong: branch that only the last program takes
    else:
        tl.store(out + i, value, mask=i < n)


@triton.jit
def copy_early(x, out, n, BLOCK: tl.constexpr):
    if tl.program_id(0) * BLOCK > n:
        return
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)


@triton.jit
def copy_early_unmasked(x, out, n, BLOCK: tl.constexpr):
    if tl.program_id(0) * BLOCK >= n:
        return
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0))  # wrong: early return in place of a mask


@triton.jit
def copy_for(x, out, n, BLOCK: tl.constexpr):
    first = tl.program_id(0) * BLOCK
    for i in range(first, tl.minimum(first + BLOCK, n)):
        tl.store(out + i, tl.load(x + i))


@triton.jit
def copy_for_too_long(x, out, n, BLOCK: tl.constexpr):
    first = tl.program_id(0) * BLOCK
    for i in range(first, tl.minimum(first + BLOCK, n + 1)):
        value = tl.load(x + tl.minimum(i, n - 1))
        tl.store(out + i, value)  # wrong: store in a for


@triton.jit
def copy_while(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK
    last = tl.minimum(i + BLOCK, n)
    while i < last:
        tl.store(out + i, tl.load(x + i))
        i += 1


@triton.jit
def copy_while_too_long(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK
    last = tl.minimum(i + BLOCK, n + 3)
    while i < last:
        value = tl.load(x + tl.minimum(i, n - 1))
        tl.store(out + i, value)  # wrong: store in a while
        i += 1


# Matrices


def copying_rows(layout):
    def host(mem, kernel, m=5, n=19, BLOCK=32):
        x = mem.tensor("x", (m, n), torch.float32, (layout,))
        out = mem.output("out", (m, n), torch.float32, (layout,))
        kernel[(1,)](x, out, m, n, x.stride(0), BLOCK=BLOCK)
        mem.expect(out, x)

    return host


@triton.jit
def copy_rows(x, out, m, n, stride, BLOCK: tl.constexpr):
    j = tl.arange(0, BLOCK)
    for i in range(m):
        tl.store(out + i * stride + j, tl.load(x + i * stride + j, mask=j < n), mask=j < n)


@triton.jit
def copy_rows_store_overruns(x, out, m, n, stride, BLOCK: tl.constexpr):
    j = tl.arange(0, BLOCK)
    for i in range(m):
        value = tl.load(x + i * stride + j, mask=j < n, other=0)
        # Right when rows lie one behind the other: the next row overwrites it.
        tl.store(out + i * stride + j, value, mask=i * stride + j < (m - 1) * stride + n)  # wrong: padded row, store


@triton.jit
def copy_rows_load_overruns(x, out, m, n, stride, BLOCK: tl.constexpr):
    j = tl.arange(0, BLOCK)
    for i in range(m):
        inside = i * stride + j < (m - 1) * stride + n
        value = tl.load(x + i * stride + j, mask=inside, other=0)  # wrong: padded row, load
        tl.store(out + i * stride + j, value, mask=j < n)


@triton.jit
def copy_as_if_dense(x, out, m, n, stride, BLOCK: tl.constexpr):
    j = tl.arange(0, BLOCK)
    for i in range(m):
        value = tl.load(x + i * n + j, mask=j < n, other=0)  # wrong: stride of a padded row
        tl.store(out + i * stride + j, value, mask=j < n)


def copying_planes(mem, kernel, planes=3, m=5, n=19, BLOCK=32):
    x = mem.tensor("x", (planes, m, n), torch.float32, (PADDED_PLANES,))
    out = mem.output("out", (planes, m, n), torch.float32)
    kernel[(planes, m)](x, out, n, *x.stride()[:2], BLOCK=BLOCK)
    mem.expect(out, x)


@triton.jit
def copy_plane(x, out, n, stride_plane, stride_row, BLOCK: tl.constexpr):
    plane, row, j = tl.program_id(0), tl.program_id(1), tl.arange(0, BLOCK)
    value = tl.load(x + plane * stride_plane + row * stride_row + j, mask=j < n)
    tl.store(out + (plane * tl.num_programs(1) + row) * n + j, value, mask=j < n)


@triton.jit
def copy_plane_as_if_dense(x, out, n, stride_plane, stride_row, BLOCK: tl.constexpr):
    row, j = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), tl.arange(0, BLOCK)
    value = tl.load(x + row * stride_row + j, mask=j < n)  # wrong: stride of a padded plane
    tl.store(out + row * n + j, value, mask=j < n)


def copying_by_rows(mem, kernel, m=5, n=19, BLOCK=32):
    x, out = mem.tensor("x", (m, n), torch.float32), mem.output("out", (m, n), torch.float32)
    kernel[(m,)](x, out, m, n, BLOCK=BLOCK)
    mem.expect(out, x)


@triton.jit
def copy_row(x, out, m, n, BLOCK: tl.constexpr):
    i, j = tl.program_id(0), tl.arange(0, BLOCK)
    tl.store(out + i * n + j, tl.load(x + i * n + j, mask=j < n), mask=j < n)


@triton.jit
def copy_row_overruns(x, out, m, n, BLOCK: tl.constexpr):
    i, j = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + i * n + j, mask=j < n, other=0)
    tl.store(out + i * n + j, value, mask=i * n + j < m * n)  # wrong: row without padding, store


def copying_tiles(mem, kernel, m=5, n=19, BLOCK=16):
    x, out = mem.tensor("x", (m, n), torch.float32), mem.output("out", (m, n), torch.float32)
    kernel[(triton.cdiv(m, BLOCK), triton.cdiv(n, BLOCK))](x, out, m, n, *x.stride(), BLOCK=BLOCK)
    mem.expect(out, x)


@triton.jit
def copy_tile(x, out, m, n, stride_m, stride_n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    place, inside = i * stride_m + j * stride_n, (i < m) & (j < n)
    tl.store(out + place, tl.load(x + place, mask=inside), mask=inside)


@triton.jit
def copy_tile_wrong_axis(x, out, m, n, stride_m, stride_n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    place, inside = i * stride_m + j * stride_n, (i < m) & (j < n)
    value = tl.load(x + place, mask=inside, other=0)
    tl.store(out + place, value, mask=(i < n) & (j < n))  # wrong: mask of the wrong axis


@triton.jit
def copy_tile_half_masked(x, out, m, n, stride_m, stride_n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    place, inside = i * stride_m + j * stride_n, (i < m) & (j < n)
    value = tl.load(x + place, mask=j < n, other=0)  # wrong: mask of one axis of two
    tl.store(out + place, value, mask=inside)


@triton.jit
def copy_tile_wrong_stride(x, out, m, n, stride_m, stride_n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = (i < m) & (j < n)
    value = tl.load(x + j * stride_m + i * stride_n, mask=inside, other=0)  # wrong: strides the wrong way round
    tl.store(out + i * stride_m + j * stride_n, value, mask=inside)


# Loops along a row


def summing(mem, kernel, n=37, BLOCK=16):
    x = mem.tensor("x", (3, n), torch.float32, (ODD_ROWS,))
    out = mem.output("out", (3,), torch.float32)
    kernel[(3,)](x, out, n, x.stride(0), BLOCK=BLOCK)
    mem.expect(out, x.double().sum(1).float())


@triton.jit
def sum_row(x, out, n, stride, BLOCK: tl.constexpr):
    places = x + tl.program_id(0) * stride + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n, BLOCK):
        total += tl.load(places, mask=tl.arange(0, BLOCK) < n - start, other=0)
        places += BLOCK
    tl.store(out + tl.program_id(0), tl.sum(total))


@triton.jit
def sum_row_unmasked(x, out, n, stride, BLOCK: tl.constexpr):
    places = x + tl.program_id(0) * stride + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n, BLOCK):
        value = tl.load(places)  # wrong: pointers that a loop carries
        total += tl.where(tl.arange(0, BLOCK) < n - start, value, 0)
        places += BLOCK
    tl.store(out + tl.program_id(0), tl.sum(total))


def scaling(mem, kernel, k=96, BLOCK=128):
    """Codes of k elements and a scale for every 32 of them, as MXFP4 has."""
    scales = mem.integers("scales", (3, k // 32), 120, 130, torch.uint8, (ODD_ROWS,))
    out = mem.output("out", (3, k), torch.uint8)
    kernel[(3,)](scales, out, k, scales.stride(0), BLOCK=BLOCK)
    mem.expect(out, scales.repeat_interleave(32, 1))


@triton.jit
def spread_scales(scales, out, k, stride, BLOCK: tl.constexpr):
    row, j = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(scales + row * stride + j // 32, mask=j < k)
    tl.store(out + row * k + j, value, mask=j < k)


@triton.jit
def spread_all_scales(scales, out, k, stride, BLOCK: tl.constexpr):
    row, j = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(scales + row * stride + j // 32)  # wrong: scales beyond k
    tl.store(out + row * k + j, value, mask=j < k)


PAIRS = [
    ("store one past the end", copying, copy_one_more, copy, "oob-write", "out"),
    ("store without a mask", copying, copy_unmasked_store, copy, "oob-write", "out"),
    ("load without a mask", copying, copy_unmasked_load, copy, "oob-read", "x"),
    ("branch that only the last program takes", copying, copy_last_specially, copy, "oob-write", "out"),
    ("early return in place of a mask", copying, copy_early_unmasked, copy_early, "oob-write", "out"),
    ("store in a for", copying, copy_for_too_long, copy_for, "oob-write", "out"),
    ("store in a while", copying, copy_while_too_long, copy_while, "oob-write", "out"),
    ("padded row, store", copying_rows(PADDED_ROWS), copy_rows_store_overruns, copy_rows, "oob-write", "out"),
    ("padded row, load", copying_rows(PADDED_ROWS), copy_rows_load_overruns, copy_rows, "oob-read", "x"),
    ("stride of a padded row", copying_rows(ODD_ROWS), copy_as_if_dense, copy_rows, "oob-read", "x", "wrong-value"),
    ("stride of a padded plane", copying_planes, copy_plane_as_if_dense, copy_plane, "oob-read", "x", "wrong-value"),
    ("row without padding, store", copying_by_rows, copy_row_overruns, copy_row, "race", "out"),
    ("mask of the wrong axis", copying_tiles, copy_tile_wrong_axis, copy_tile, "oob-write", "out"),
    ("mask of one axis of two", copying_tiles, copy_tile_half_masked, copy_tile, "oob-read", "x"),
    ("strides the wrong way round", copying_tiles, copy_tile_wrong_stride, copy_tile, "oob-read", "x", "wrong-value"),
    ("pointers that a loop carries", summing, sum_row_unmasked, sum_row, "oob-read", "x"),
    ("scales beyond k", scaling, spread_all_scales, spread_scales, "oob-read", "scales"),
]
