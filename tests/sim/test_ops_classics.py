"""The classic kernels, newly written, equal torch; right ones stay silent."""

from __future__ import annotations

import math

import pytest
import torch
import triton
import triton.language as tl

from fp4guard.memory import Role


@triton.jit
def softmax(x, y, stride, n, B: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, B)
    v = tl.load(x + row * stride + i, mask=i < n, other=-float("inf"))
    e = tl.exp(v - tl.max(v, axis=0))
    tl.store(y + row * stride + i, e / tl.sum(e, axis=0), mask=i < n)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (33, 65), (257, 78)])
def test_softmax(new_run, m, n):
    x = torch.randn(m, n, generator=torch.Generator().manual_seed(n))
    run = new_run()
    out = run.empty((m, n))
    run.launch(softmax, (m,), run.place(x), out, n, n, B=triton.next_power_of_2(n))
    torch.testing.assert_close(out, torch.softmax(x, 1))
    assert not run.incidents()


@triton.jit
def layer_norm_forward(x, w, b, y, mean, rstd, n, eps, B: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, B)
    total = tl.zeros((B,), tl.float32)
    for start in range(0, n, B):
        total += tl.load(x + row * n + start + i, mask=start + i < n, other=0.0)
    mu = tl.sum(total, axis=0) / n
    total = tl.zeros((B,), tl.float32)
    for start in range(0, n, B):
        v = tl.load(x + row * n + start + i, mask=start + i < n, other=0.0)
        v = tl.where(start + i < n, v - mu, 0.0)
        total += v * v
    r = 1 / tl.sqrt(tl.sum(total, axis=0) / n + eps)
    tl.store(mean + row, mu)
    tl.store(rstd + row, r)
    for start in range(0, n, B):
        mask = start + i < n
        v = tl.load(x + row * n + start + i, mask=mask, other=0.0)
        scale, shift = tl.load(w + start + i, mask=mask, other=0.0), tl.load(b + start + i, mask=mask, other=0.0)
        tl.store(y + row * n + start + i, (v - mu) * r * scale + shift, mask=mask)


@triton.jit
def layer_norm_backward(x, w, dy, mean, rstd, dx, dw, db, lock, n, GROUP: tl.constexpr, B: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, B)
    mask = i < n
    v = tl.load(x + row * n + i, mask=mask, other=0.0)
    g, scale = tl.load(dy + row * n + i, mask=mask, other=0.0), tl.load(w + i, mask=mask, other=0.0)
    r = tl.load(rstd + row)
    hat = tl.where(mask, (v - tl.load(mean + row)) * r, 0.0)
    wg = scale * g
    c1, c2 = tl.sum(hat * wg, axis=0) / n, tl.sum(wg, axis=0) / n
    tl.store(dx + row * n + i, (wg - (hat * c1 + c2)) * r, mask=mask)
    tl.atomic_add(dw + (row % GROUP) * n + i, g * hat, mask=mask)
    tl.atomic_add(db + (row % GROUP) * n + i, g, mask=mask)


@pytest.mark.parametrize(("m", "n"), [(5, 31), (13, 115)])
def test_layer_norm(new_run, m, n):
    generator = torch.Generator().manual_seed(1)
    x, w, b, dy = (torch.randn(s, generator=generator) for s in ((m, n), (n,), (n,), (m, n)))
    run = new_run()
    tensors = [run.place(t, name=name) for t, name in ((x, "x"), (w, "w"), (b, "b"))]
    y, mean, rstd = run.empty((m, n)), run.empty((m,), name="mean"), run.empty((m,), name="rstd")
    run.launch(layer_norm_forward, (m,), *tensors, y, mean, rstd, n, 1e-5, B=32)
    x.requires_grad_(), w.requires_grad_(), b.requires_grad_()
    expected = torch.nn.functional.layer_norm(x, (n,), w, b, 1e-5)
    torch.testing.assert_close(y, expected.detach())
    dx = run.empty((m, n), name="dx")
    dw, db = (run.place(torch.zeros(4, n), name=name, role=Role.OUTPUT) for name in ("dw", "db"))
    grad = run.place(dy, name="dy")
    run.launch(layer_norm_backward, (m,), tensors[0], tensors[1], grad, mean, rstd, dx, dw, db, None, n, 4, B=128)
    expected.backward(dy)
    for found, exact in ((dx, x.grad), (dw.sum(0), w.grad), (db.sum(0), b.grad)):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
    assert not run.incidents()


@triton.jit
def grouped_matmul(a_table, b_table, c_table, sizes, count, tiles: tl.constexpr, T: tl.constexpr):
    """Persistent: each program takes every `tiles`-th tile of all products together."""
    tile, first = tl.program_id(0), 0
    for g in range(count):
        m, n, k = tl.load(sizes + 3 * g), tl.load(sizes + 3 * g + 1), tl.load(sizes + 3 * g + 2)
        across = tl.cdiv(n, T)
        here = tl.cdiv(m, T) * across
        a = tl.load(a_table + g).to(tl.pointer_type(tl.float16))
        b = tl.load(b_table + g).to(tl.pointer_type(tl.float16))
        c = tl.load(c_table + g).to(tl.pointer_type(tl.float32))
        while tile < first + here:
            i = (tile - first) // across * T + tl.arange(0, T)
            j = (tile - first) % across * T + tl.arange(0, T)
            acc = tl.zeros((T, T), tl.float32)
            for start in range(0, k, T):
                p = start + tl.arange(0, T)
                x = tl.load(a + i[:, None] * k + p[None, :], mask=(i[:, None] < m) & (p[None, :] < k), other=0.0)
                y = tl.load(b + p[:, None] * n + j[None, :], mask=(p[:, None] < k) & (j[None, :] < n), other=0.0)
                acc = tl.dot(x, y, acc)
            tl.store(c + i[:, None] * n + j[None, :], acc, mask=(i[:, None] < m) & (j[None, :] < n))
            tile += tiles
        first += here


def test_grouped_matmul(new_run):
    sizes = [(33, 17, 40), (16, 16, 16), (5, 50, 7)]
    generator = torch.Generator().manual_seed(2)
    run = new_run()
    pairs = [
        (torch.randn(m, k, generator=generator).half(), torch.randn(k, n, generator=generator).half())
        for m, n, k in sizes
    ]
    a = [run.place(p[0], name=f"a{i}") for i, p in enumerate(pairs)]
    b = [run.place(p[1], name=f"b{i}") for i, p in enumerate(pairs)]
    c = [run.empty((m, n), name=f"c{i}") for i, (m, n, _) in enumerate(sizes)]
    tables = [
        run.place(torch.tensor([t.data_ptr() for t in ts]), name=name) for ts, name in ((a, "ta"), (b, "tb"), (c, "tc"))
    ]
    given = run.place(torch.tensor(sizes, dtype=torch.int32), name="sizes")
    run.launch(grouped_matmul, (4,), *tables, given, 3, 4, T=16)
    for found, (x, y) in zip(c, pairs):
        torch.testing.assert_close(found, x.float() @ y.float(), rtol=1e-4, atol=1e-4)
    assert not run.incidents()


@triton.jit
def flash_attention(q, k, v, out, n, scale, CAUSAL: tl.constexpr, T: tl.constexpr, D: tl.constexpr):
    head = tl.program_id(1) * n * D
    i, d = tl.program_id(0) * T + tl.arange(0, T), tl.arange(0, D)
    query = tl.load(q + head + i[:, None] * D + d[None, :], mask=i[:, None] < n, other=0.0)
    most, total = tl.full((T,), -float("inf"), tl.float32), tl.zeros((T,), tl.float32)
    acc = tl.zeros((T, D), tl.float32)
    last = tl.minimum((tl.program_id(0) + 1) * T, n) if CAUSAL else n
    for start in range(0, last, T):
        j = start + tl.arange(0, T)
        key = tl.load(k + head + j[None, :] * D + d[:, None], mask=j[None, :] < n, other=0.0)
        score = tl.dot(query, key) * scale
        score = tl.where((j[None, :] < n) & ((i[:, None] >= j[None, :]) | (not CAUSAL)), score, -1.0e30)
        new = tl.maximum(most, tl.max(score, 1))
        p, alpha = tl.math.exp2(score - new[:, None]), tl.math.exp2(most - new)
        value = tl.load(v + head + j[:, None] * D + d[None, :], mask=j[:, None] < n, other=0.0)
        acc = tl.dot(p.to(value.dtype), value, acc * alpha[:, None])
        total, most = total * alpha + tl.sum(p, 1), new
    tl.store(out + head + i[:, None] * D + d[None, :], acc / total[:, None], mask=i[:, None] < n)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [16, 45])
def test_flash_attention(new_run, n, causal):
    generator = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(3, n, 32, generator=generator).bfloat16() for _ in range(3))
    run = new_run()
    out = run.empty((3, n, 32))
    given = [run.place(t, name=name) for t, name in ((q, "q"), (k, "k"), (v, "v"))]
    scale = math.log2(math.e) / math.sqrt(32)
    run.launch(flash_attention, (triton.cdiv(n, 16), 3), *given, out, n, scale, causal, T=16, D=32)
    expected = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=causal)
    torch.testing.assert_close(out, expected, rtol=2e-2, atol=2e-2)
    assert not run.incidents()


@triton.jit
def route(logits, weights, experts, n, K: tl.constexpr, E: tl.constexpr):
    """The K largest of each row, softmaxed, with their places packed into the low bits of the key."""
    row, e = tl.program_id(0), tl.arange(0, E)
    v = tl.load(logits + row * n + e, mask=e < n, other=-float("inf"))
    bits = v.to(tl.int32, bitcast=True)
    key = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
    top = tl.topk((key << 32) | (E - 1 - e), K)
    place = E - 1 - (top & 0xFFFFFFFF).to(tl.int32)
    high = (top >> 32).to(tl.int32)
    value = tl.where(high < 0, high ^ 0x7FFFFFFF, high).to(tl.float32, bitcast=True)
    p = tl.exp(value - tl.max(value, 0))
    k = tl.arange(0, K)
    tl.store(weights + row * K + k, p / tl.sum(p, 0))
    tl.store(experts + row * K + k, place)


def test_top_k_routing(new_run):
    logits = torch.randn(9, 60, generator=torch.Generator().manual_seed(3))
    run = new_run()
    weights, experts = run.empty((9, 4)), run.empty((9, 4), torch.int32, name="experts")
    run.launch(route, (9,), run.place(logits), weights, experts, 60, K=4, E=64)
    top = logits.topk(4, dim=1)
    assert torch.equal(experts.long(), top.indices)
    torch.testing.assert_close(weights, torch.softmax(top.values, 1))
    assert not run.incidents()


@triton.jit
def split_k(a, b, c, ticket, parts, m, n, k, SPLIT: tl.constexpr, T: tl.constexpr):
    """Partial products into `parts`; the last of a tile's programs to arrive adds them up."""
    tile, part = tl.program_id(0), tl.program_id(1)
    across = tl.cdiv(n, T)
    i, j = tile // across * T + tl.arange(0, T), tile % across * T + tl.arange(0, T)
    acc = tl.zeros((T, T), tl.float32)
    for start in range(part * T, k, SPLIT * T):
        p = start + tl.arange(0, T)
        x = tl.load(a + i[:, None] * k + p[None, :], mask=(i[:, None] < m) & (p[None, :] < k), other=0.0)
        y = tl.load(b + p[:, None] * n + j[None, :], mask=(p[:, None] < k) & (j[None, :] < n), other=0.0)
        acc = tl.dot(x, y, acc)
    inside = tl.arange(0, T)[:, None] * T + tl.arange(0, T)[None, :]
    tl.store(parts + (tile * SPLIT + part) * T * T + inside, acc)
    if tl.atomic_add(ticket + tile, 1, sem="acq_rel") == SPLIT - 1:
        total = tl.zeros((T, T), tl.float32)
        for s in range(SPLIT):
            total += tl.load(parts + (tile * SPLIT + s) * T * T + inside)
        tl.store(c + i[:, None] * n + j[None, :], total, mask=(i[:, None] < m) & (j[None, :] < n))


@triton.jit
def split_k_atomic(a, b, c, m, n, k, SPLIT: tl.constexpr, T: tl.constexpr):
    tile, part = tl.program_id(0), tl.program_id(1)
    across = tl.cdiv(n, T)
    i, j = tile // across * T + tl.arange(0, T), tile % across * T + tl.arange(0, T)
    acc = tl.zeros((T, T), tl.float32)
    for start in range(part * T, k, SPLIT * T):
        p = start + tl.arange(0, T)
        x = tl.load(a + i[:, None] * k + p[None, :], mask=(i[:, None] < m) & (p[None, :] < k), other=0.0)
        y = tl.load(b + p[:, None] * n + j[None, :], mask=(p[:, None] < k) & (j[None, :] < n), other=0.0)
        acc = tl.dot(x, y, acc)
    tl.atomic_add(c + i[:, None] * n + j[None, :], acc, mask=(i[:, None] < m) & (j[None, :] < n), sem="relaxed")


@pytest.mark.parametrize("kernel", [split_k, split_k_atomic], ids=lambda kernel: kernel.fn.__name__)
def test_split_k(new_run, kernel):
    generator = torch.Generator().manual_seed(4)
    a, b = torch.randn(20, 70, generator=generator).half(), torch.randn(70, 35, generator=generator).half()
    run = new_run()
    tiles = 2 * 3
    given = [run.place(a, name="a"), run.place(b, name="b"), run.place(torch.zeros(20, 35), name="c", role=Role.OUTPUT)]
    extra = []
    if kernel is split_k:
        ticket = run.place(torch.zeros(tiles, dtype=torch.int32), name="ticket", role=Role.SCRATCH)
        extra = [ticket, run.empty((tiles, 4, 16, 16), name="parts")]
    run.launch(kernel, (tiles, 4), *given, *extra, 20, 35, 70, SPLIT=4, T=16)
    torch.testing.assert_close(given[2], a.float() @ b.float(), rtol=1e-4, atol=1e-4)
    assert not run.incidents()


@triton.jit
def persistent(a, b, c, m, n, k, PROGRAMS: tl.constexpr, T: tl.constexpr):
    left = tl.make_tensor_descriptor(a, [m, k], [k, 1], [T, T])
    right = tl.make_tensor_descriptor(b, [n, k], [k, 1], [T, T])
    out = tl.make_tensor_descriptor(c, [m, n], [n, 1], [T, T])
    across = tl.cdiv(n, T)
    for tile in range(tl.program_id(0), tl.cdiv(m, T) * across, PROGRAMS):
        i, j = tile // across * T, tile % across * T
        acc = tl.zeros((T, T), tl.float32)
        for start in range(0, k, T):
            acc = tl.dot(left.load([i, start]), right.load([j, start]).T, acc)
        out.store([i, j], acc.to(tl.float16))


def test_persistent_matmul_with_descriptors(new_run):
    generator = torch.Generator().manual_seed(5)
    a, b = torch.randn(40, 56, generator=generator).half(), torch.randn(72, 56, generator=generator).half()
    run = new_run(arch="sm_100")
    out = run.empty((40, 72), torch.float16)
    run.launch(persistent, (5,), run.place(a), run.place(b, name="b"), out, 40, 72, 56, 5, T=16)
    torch.testing.assert_close(out.float(), (a.double() @ b.double().T).half().float(), rtol=1e-3, atol=1e-3)
    assert not run.incidents()


@triton.jit
def histogram(x, counts, n, B: tl.constexpr, BINS: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, mask=i < n, other=0)
    h = tl.histogram(v, BINS, mask=i < n)
    tl.atomic_add(counts + tl.arange(0, BINS), h)


def test_histogram(new_run):
    x = torch.randint(0, 32, (1000,), dtype=torch.int32, generator=torch.Generator().manual_seed(6))
    run = new_run()
    counts = run.place(torch.zeros(32, dtype=torch.int32), name="counts", role=Role.OUTPUT)
    run.launch(histogram, (8,), run.place(x), counts, 1000, B=128, BINS=32)
    assert torch.equal(counts.long(), torch.bincount(x, minlength=32))
    assert not run.incidents()
