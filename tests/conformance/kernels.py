"""Kernels of more than one expression; they know nothing of the comparison."""

import triton
import triton.language as tl


@triton.jit
def dot(a, b, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, P: tl.constexpr, ACC: tl.constexpr):
    i, j, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + i[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + j[None, :])
    tl.store(out + i[:, None] * N + j[None, :], tl.dot(x, y, input_precision=P, out_dtype=ACC))


@triton.jit
def dot_accumulate(a, b, c, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i, j, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + i[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + j[None, :])
    at = i[:, None] * N + j[None, :]
    tl.store(out + at, tl.dot(x, y, tl.load(c + at)))


@triton.jit
def dot_scaled(
    a, sa, b, sb, out, M: tl.constexpr, N: tl.constexpr, KA: tl.constexpr, KB: tl.constexpr, G: tl.constexpr,
    FA: tl.constexpr, FB: tl.constexpr,
):  # fmt: skip
    i, j, g = tl.arange(0, M), tl.arange(0, N), tl.arange(0, G)
    x = tl.load(a + i[:, None] * KA + tl.arange(0, KA)[None, :])
    y = tl.load(b + tl.arange(0, KB)[:, None] * N + j[None, :])
    p = tl.load(sa + i[:, None] * G + g[None, :])
    q = tl.load(sb + j[:, None] * G + g[None, :])
    tl.store(out + i[:, None] * N + j[None, :], tl.dot_scaled(x, p, FA, y, q, FB))


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b).to(a.dtype)


@triton.jit
def _affine(a, b, c, d):
    return a * c, b * c + d


@triton.jit
def _pair(a, i, b, j):
    first = (a > b) | ((a == b) & (i < j))
    return tl.where(first, a, b), tl.where(first, i, j)


@triton.jit
def reduce(x, out, OP: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, M), tl.arange(0, N)
    v = tl.load(x + i[:, None] * N + j[None, :])
    if OP == "sum":
        r = tl.sum(v, axis=1)
    elif OP == "max":
        r = tl.max(v, axis=1)
    elif OP == "min":
        r = tl.min(v, axis=1)
    elif OP == "xor":
        r = tl.xor_sum(v, axis=1)
    elif OP == "argmax":
        r = tl.argmax(v, axis=1)
    elif OP == "argmin":
        r = tl.argmin(v, axis=1)
    elif OP == "own":
        r = tl.reduce(v, 1, _larger)
    elif OP == "pair":
        _, r = tl.reduce((v, tl.broadcast_to(j[None, :], (M, N))), 1, _pair)
    tl.store(out + i, r)


@triton.jit
def scan(x, out, OP: tl.constexpr, REVERSE: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    v = tl.load(x + at)
    if OP == "cumsum":
        r = tl.cumsum(v, axis=1, reverse=REVERSE)
    elif OP == "cumprod":
        r = tl.cumprod(v, axis=1, reverse=REVERSE)
    elif OP == "max":
        r = tl.associative_scan(v, 1, _larger, reverse=REVERSE)
    elif OP == "affine":
        _, r = tl.associative_scan((v, v + 1), 1, _affine, reverse=REVERSE)
    tl.store(out + at, r)


@triton.jit
def shape(x, out, OP: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, M), tl.arange(0, N)
    v = tl.load(x + i[:, None] * N + j[None, :])
    if OP == "trans":
        r = tl.trans(v)
    elif OP == "permute":
        r = tl.permute(tl.reshape(v, (M, N // 4, 4)), (2, 0, 1))
    elif OP == "reshape":
        r = tl.reshape(v, (N, M))
    elif OP == "split":
        low, high = tl.split(tl.reshape(v, (M, N // 2, 2)))
        r = low * 3 + high
    elif OP == "join":
        r = tl.join(v, v + 1)
    elif OP == "interleave":
        r = tl.interleave(v, -v)
    elif OP == "flip":
        r = tl.flip(v, 1)
    elif OP == "sort":
        r = tl.sort(v, 1)
    elif OP == "sort descending":
        r = tl.sort(v, 1, descending=True)
    elif OP == "topk":
        r = tl.topk(v, 8)
    elif OP == "cat":
        r = tl.sort(tl.cat(tl.ravel(v), tl.ravel(v) + 1, can_reorder=True))
    elif OP == "broadcast":
        r = v + tl.expand_dims(tl.max(v, axis=0), 0)
    r = tl.ravel(r)
    tl.store(out + tl.arange(0, r.numel), r)


@triton.jit
def gather(x, index, out, AXIS: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.gather(tl.load(x + at), tl.load(index + at), AXIS))


@triton.jit
def histogram(x, out, MASKED: tl.constexpr, N: tl.constexpr, BINS: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    r = tl.histogram(v, BINS, mask=v % 3 != 0 if MASKED else None)
    tl.store(out + tl.arange(0, BINS), r)


@triton.jit
def atomic(cells, values, out, OP: tl.constexpr, OLD: tl.constexpr, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    v = tl.load(values + i)
    if OP == "add":
        old = tl.atomic_add(cells + i, v)
    elif OP == "max":
        old = tl.atomic_max(cells + i, v)
    elif OP == "min":
        old = tl.atomic_min(cells + i, v)
    elif OP == "and":
        old = tl.atomic_and(cells + i, v)
    elif OP == "or":
        old = tl.atomic_or(cells + i, v)
    elif OP == "xor":
        old = tl.atomic_xor(cells + i, v)
    elif OP == "xchg":
        old = tl.atomic_xchg(cells + i, v)
    elif OP == "cas":
        old = tl.atomic_cas(cells + i, (v & 7).to(v.dtype), v)
    if OLD:
        tl.store(out + i, old)
    else:
        tl.debug_barrier()
        tl.store(out + i, tl.load(cells + i))


@triton.jit
def contended(values, out, N: tl.constexpr, CELLS: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    tl.atomic_add(out + i % CELLS, tl.load(values + i), mask=i % 5 != 0)


@triton.jit
def masked(x, out, n, HOW: tl.constexpr, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    if HOW == "load":
        v = tl.load(x + i, mask=i < n, other=7)
    elif HOW == "load of blocks":
        v = tl.load(x + i, mask=(i // 3) % 2 == 0, other=-1)
    else:
        v = tl.load(x + i)
    if HOW == "store":
        tl.store(out + i, v, mask=i % 7 < 3)
    elif HOW == "as 32 bits":
        wide = tl.program_id(0) * (N // 4) + tl.arange(0, N // 4)
        w = tl.load(x.to(tl.pointer_type(tl.int32)) + wide)
        tl.store(out.to(tl.pointer_type(tl.int32)) + wide, w * 3)
    else:
        tl.store(out + i, v)


@triton.jit
def flow(x, out, HOW: tl.constexpr, N: tl.constexpr):
    p = tl.program_id(0)
    v = tl.load(x + p)
    if HOW == "for":
        s = v
        for i in range(p % 13):
            s = s * 3 + i
    elif HOW == "while":
        s = v & 0xFFFF
        steps = 0
        while s > 3:
            s = tl.where(s % 2 == 0, s // 2, s // 3)
            steps += 1
        s = s + 10 * steps
    elif HOW == "if":
        s = v
        if v > 0:
            s = v // 3
            if p % 2 == 0:
                s = -s
        else:
            s = v - tl.num_programs(0)
    else:
        s = v
        if v % 3 == 0:
            return
    tl.store(out + p, s)


@triton.jit
def descriptor(x, out, HOW: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """[M, N] in blocks of [BM, BN]; what is beyond the edge is 0, or is not written."""
    source = tl.make_tensor_descriptor(x, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    target = tl.make_tensor_descriptor(out, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    row, column = tl.program_id(0) * BM, tl.program_id(1) * BN
    if HOW == "copy":
        target.store([row, column], source.load([row, column]))
    elif HOW == "beyond":
        v = source.load([row + BM // 2, column])
        target.store([row, column], v + 1)
    elif HOW == "add":
        target.atomic_add([row, column], source.load([row, column]))
        target.atomic_add([row, column], source.load([row, column]))
    elif HOW == "max":
        target.atomic_max([row, column], source.load([row, column]))


@triton.jit
def host_descriptor(source, target, BM: tl.constexpr, BN: tl.constexpr):
    row, column = tl.program_id(0) * BM, tl.program_id(1) * BN
    target.store([row, column], source.load([row, column]))
