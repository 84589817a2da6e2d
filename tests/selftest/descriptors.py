"""Tensor descriptors, made on the device and on the host."""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

M, N, BLOCK = 5, 24, 8


def copying(mem, kernel):
    x, out = mem.tensor("x", (M, N), torch.float32), mem.output("out", (M, N), torch.float32)
    kernel[(triton.cdiv(M, BLOCK), triton.cdiv(N, BLOCK))](x, out, M, N, BLOCK=BLOCK)
    mem.expect(out, x)


@triton.jit
def copy(x, out, m, n, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [m, n], [n, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(out, [m, n], [n, 1], [BLOCK, BLOCK])
    place = [tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK]
    target.store(place, source.load(place))


@triton.jit
def copy_more_rows_read(x, out, m, n, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [m + 1, n], [n, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(out, [m, n], [n, 1], [BLOCK, BLOCK])
    place = [tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK]
    value = source.load(place)  # wrong: descriptor of too many rows, load
    target.store(place, value)


@triton.jit
def copy_more_rows_written(x, out, m, n, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [m, n], [n, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(out, [tl.cdiv(m, BLOCK) * BLOCK, n], [n, 1], [BLOCK, BLOCK])
    place = [tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK]
    target.store(place, source.load(place))  # wrong: descriptor of too many rows, store


def copying_from_the_host(mem, describe):
    x, out = mem.tensor("x", (M, N), torch.float32), mem.output("out", (M, N), torch.float32)
    target = TensorDescriptor.from_tensor(out, [BLOCK, BLOCK])
    copy_described[(triton.cdiv(M, BLOCK), triton.cdiv(N, BLOCK))](describe(x), target, BLOCK=BLOCK)
    mem.expect(out, x)


@triton.jit
def copy_described(source, target, BLOCK: tl.constexpr):
    place = [tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK]
    value = source.load(place)  # wrong: descriptor from the host
    target.store(place, value)


def copying_rows(mem, columns):
    """Rows of a power of two of bytes, or of what is no multiple of 16."""
    x, out = mem.tensor("x", (M, columns), torch.uint8), mem.output("out", (M, 16), torch.uint8)
    copy_first_columns[(1,)](x, out, M, columns, ROWS=BLOCK)
    mem.expect(out, x[:, :16])


@triton.jit
def copy_first_columns(x, out, m, n, ROWS: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [m, n], [n, 1], [ROWS, 16])  # wrong: rows of 20 bytes
    i, j = tl.arange(0, ROWS)[:, None], tl.arange(0, 16)[None, :]
    tl.store(out + i * 16 + j, source.load([0, 0]), mask=i < m)


PAIRS = [
    ("descriptor of too many rows, load", copying, copy_more_rows_read, copy, "oob-read", "x"),
    ("descriptor of too many rows, store", copying, copy_more_rows_written, copy, "oob-write", "out"),
    (
        "descriptor from the host", copying_from_the_host,
        lambda x: TensorDescriptor(x, [M + 2, N], [N, 1], [BLOCK, BLOCK]),
        lambda x: TensorDescriptor.from_tensor(x, [BLOCK, BLOCK]), "oob-read", "x",
    ),
    ("rows of 20 bytes", copying_rows, 20, 32, "assert-failed", "x"),
]  # fmt: skip
