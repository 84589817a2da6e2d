"""The kernels of the benchmark: what is common in Triton, written as its users write it."""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """The sum of two vectors."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.store(out_ptr + i, tl.load(x_ptr + i, mask=mask) + tl.load(y_ptr + i, mask=mask), mask=mask)


@triton.jit
def softmax_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    """The softmax of one row a program."""
    i = tl.arange(0, BLOCK)
    mask = i < columns
    start = tl.program_id(0) * columns
    x = tl.load(x_ptr + start + i, mask=mask, other=-float("inf"))
    e = tl.exp(x - tl.max(x, axis=0))
    tl.store(out_ptr + start + i, e / tl.sum(e, axis=0), mask=mask)


@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """C = A @ B, contiguous, one (BM, BN) tile a program; pointers move along K."""
    offs_m = tl.program_id(0) * BM + tl.arange(0, BM)
    offs_n = tl.program_id(1) * BN + tl.arange(0, BN)
    offs_k = tl.arange(0, BK)
    a_ptrs = a_ptr + offs_m[:, None] * K + offs_k[None, :]
    b_ptrs = b_ptr + offs_k[:, None] * N + offs_n[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        a = tl.load(a_ptrs, mask=(offs_m[:, None] < M) & (offs_k[None, :] < K - k), other=0.0)
        b = tl.load(b_ptrs, mask=(offs_k[:, None] < K - k) & (offs_n[None, :] < N), other=0.0)
        acc = tl.dot(a, b, acc)
        a_ptrs += BK
        b_ptrs += BK * N
    mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)
    tl.store(c_ptr + offs_m[:, None] * N + offs_n[None, :], acc.to(tl.float16), mask=mask)


@triton.jit
def layer_norm_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, columns, eps, BLOCK: tl.constexpr):
    """One row a program, in passes over blocks of columns: mean, variance, result."""
    row = tl.program_id(0) * columns
    offs = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        i = start + offs
        total += tl.load(x_ptr + row + i, mask=i < columns, other=0.0)
    mean = tl.sum(total, axis=0) / columns
    square = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        i = start + offs
        x = tl.load(x_ptr + row + i, mask=i < columns, other=0.0)
        centred = tl.where(i < columns, x - mean, 0.0)
        square += centred * centred
    scale = 1 / tl.sqrt(tl.sum(square, axis=0) / columns + eps)
    for start in range(0, columns, BLOCK):
        i = start + offs
        mask = i < columns
        x = tl.load(x_ptr + row + i, mask=mask, other=0.0)
        weight = tl.load(weight_ptr + i, mask=mask, other=0.0)
        bias = tl.load(bias_ptr + i, mask=mask, other=0.0)
        tl.store(out_ptr + row + i, (x - mean) * scale * weight + bias, mask=mask)


@triton.jit
def paged_gather_kernel(cache_ptr, table_ptr, lengths_ptr, out_ptr, pages, PAGE: tl.constexpr, WIDTH: tl.constexpr):
    """The rows of a paged cache that a block table names, [sequences, pages * PAGE, WIDTH]; one page a program."""
    sequence, page = tl.program_id(0), tl.program_id(1)
    length = tl.load(lengths_ptr + sequence)
    token, column = page * PAGE + tl.arange(0, PAGE), tl.arange(0, WIDTH)
    number = tl.load(table_ptr + sequence * pages + page).to(tl.int64)
    mask = token[:, None] < length
    rows = (number * PAGE + tl.arange(0, PAGE)) * WIDTH
    values = tl.load(cache_ptr + rows[:, None] + column[None, :], mask=mask, other=0.0)
    out = (sequence * pages * PAGE + token) * WIDTH
    tl.store(out_ptr + out[:, None] + column[None, :], values)


@triton.jit
def segment_sum_kernel(x_ptr, starts_ptr, out_ptr, BLOCK: tl.constexpr):
    """out[p] = the sum of x[starts[p] : starts[p + 1]]: every program loops as often as its segment is long."""
    p = tl.program_id(0)
    start, end = tl.load(starts_ptr + p), tl.load(starts_ptr + p + 1)
    total = tl.zeros((BLOCK,), tl.float32)
    for at in range(start, end, BLOCK):
        i = at + tl.arange(0, BLOCK)
        total += tl.load(x_ptr + i, mask=i < end, other=0.0)
    tl.store(out_ptr + p, tl.sum(total, axis=0))


@triton.jit
def histogram_kernel(x_ptr, counts_ptr, n, BLOCK: tl.constexpr):
    """counts[x] += 1 for every x, atomically."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    bins = tl.load(x_ptr + i, mask=mask, other=0)
    tl.atomic_add(counts_ptr + bins, 1, mask=mask)
