"""Indices that are computed or read from memory: moduli, offsets, gathers, tables of blocks, histograms."""

import torch
import triton
import triton.language as tl

N, BLOCK = 37, 16
GRID = (triton.cdiv(N, BLOCK),)


def rolling(mem, kernel):
    x, out = mem.tensor("x", (N,), torch.float32), mem.output("out", (N,), torch.float32)
    kernel[GRID](x, out, N, BLOCK=BLOCK)
    mem.expect(out, x.roll(-5))


@triton.jit
def roll(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i % n, tl.load(x + (i + 5) % n))  # the lanes beyond n wrap and store the same once more


@triton.jit
def roll_wrong_modulus(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + (i + 5) % (n + 1))  # wrong: wrong modulus
    tl.store(out + i, value, mask=i < n)


def differencing(mem, kernel):
    x, out = mem.integers("x", (N,), -99, 99), mem.output("out", (N,), torch.int32)
    kernel[GRID](x, out, N, BLOCK=BLOCK)
    mem.expect(out, x.diff(prepend=x.new_zeros(1)))


@triton.jit
def difference(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    before = tl.load(x + i - 1, mask=(i > 0) & (i < n), other=0)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0) - before, mask=i < n)


@triton.jit
def difference_before_the_start(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    before = tl.load(x + i - 1, mask=i < n, other=0)  # wrong: negative index
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0) - tl.where(i > 0, before, 0), mask=i < n)


# Gathers


def gathering(mem, kernel):
    x = mem.tensor("x", (50,), torch.float32)
    index = mem.integers("index", (N,), 0, 49)
    out = mem.output("out", (N,), torch.float32)
    kernel[GRID](x, index, out, N, BLOCK=BLOCK)
    mem.expect(out, x[index.long()])


@triton.jit
def gather(x, index, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(index + i, mask=i < n)
    tl.store(out + i, tl.load(x + place, mask=i < n), mask=i < n)


@triton.jit
def gather_undefined(x, index, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(index + i, mask=i < n)  # wrong: masked index, then a gather
    tl.store(out + i, tl.load(x + place), mask=i < n)


@triton.jit
def gather_sentinel(x, index, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(index + i, mask=i < n, other=-1)
    value = tl.load(x + place)  # wrong: gather through a sentinel
    tl.store(out + i, value, mask=i < n)


def gathering_twice(mem, kernel):
    """The indices are what an earlier kernel wrote."""
    x, out = mem.tensor("x", (N,), torch.float32), mem.output("out", (N,), torch.float32)
    index = torch.empty(N, dtype=torch.int64)
    kernel[GRID](index, N, BLOCK=BLOCK)
    gather_written[GRID](x, index, out, N, BLOCK=BLOCK)
    mem.expect(out, x.flip(0))


@triton.jit
def count_down(index, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(index + i, n - 1 - i, mask=i < n)


@triton.jit
def count_down_from_n(index, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(index + i, tl.where(i == 0, n, n - 1 - i), mask=i < n)


@triton.jit
def gather_written(x, index, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(index + i, mask=i < n, other=0)
    tl.store(out + i, tl.load(x + place, mask=i < n), mask=i < n)  # wrong: gather through another's output


# Tables of blocks, as paged attention has


LENGTHS, PAGE, PAGES = (5, 11, 1), 4, 6


def paging(mem, kernel):
    table = mem.input("table", torch.tensor([[3, 1, -1], [5, 0, 2], [4, -1, -1]], dtype=torch.int32))
    pages = mem.tensor("pages", (PAGES, PAGE), torch.float32)
    lengths = mem.input("lengths", torch.tensor(LENGTHS, dtype=torch.int32))
    out = mem.output("out", (3, 12), torch.float32, fill=0)
    kernel[(3,)](pages, table, lengths, out, PAGE=PAGE, TABLE=3)
    rows = [pages[table[s].clamp(min=0).long()].reshape(-1)[: LENGTHS[s]] for s in range(3)]
    mem.expect(out, torch.stack([torch.nn.functional.pad(row, (0, 12 - len(row))) for row in rows]))


@triton.jit
def read_pages(pages, table, lengths, out, PAGE: tl.constexpr, TABLE: tl.constexpr):
    sequence, j = tl.program_id(0), tl.arange(0, PAGE)
    length = tl.load(lengths + sequence)
    for block in range(tl.cdiv(length, PAGE)):
        page = tl.load(table + sequence * TABLE + block)
        inside = block * PAGE + j < length
        value = tl.load(pages + page * PAGE + j, mask=inside, other=0)
        tl.store(out + sequence * TABLE * PAGE + block * PAGE + j, value, mask=inside)


@triton.jit
def read_all_pages(pages, table, lengths, out, PAGE: tl.constexpr, TABLE: tl.constexpr):
    sequence, j = tl.program_id(0), tl.arange(0, PAGE)
    length = tl.load(lengths + sequence)
    for block in range(TABLE):
        page = tl.load(table + sequence * TABLE + block)
        value = tl.load(pages + page * PAGE + j)  # wrong: table of blocks beyond the length
        inside = block * PAGE + j < length
        tl.store(out + sequence * TABLE * PAGE + block * PAGE + j, value, mask=inside)


# Atomics


def counting(mem, kernel):
    x = mem.integers("x", (N,), 0, 8)
    counts = mem.output("counts", (8,), torch.int32, fill=0)
    kernel[GRID](x, counts, N, BLOCK=BLOCK)
    mem.expect(counts, torch.bincount(x, minlength=9)[:8])


@triton.jit
def count(x, counts, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=8)
    tl.atomic_add(counts + value, 1, mask=value < 8)


@triton.jit
def count_one_more(x, counts, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=9)
    tl.atomic_add(counts + value, 1, mask=value <= 8)  # wrong: atomic beyond the end


PAIRS = [
    ("wrong modulus", rolling, roll_wrong_modulus, roll, "oob-read", "x", "wrong-value"),
    ("negative index", differencing, difference_before_the_start, difference, "oob-read", "x"),
    ("masked index, then a gather", gathering, gather_undefined, gather, "undefined-lane", "index", "oob-read"),
    ("gather through a sentinel", gathering, gather_sentinel, gather, "oob-read", "x"),
    ("gather through another's output", gathering_twice, count_down_from_n, count_down, "oob-read", "x"),
    ("table of blocks beyond the length", paging, read_all_pages, read_pages, "oob-read", "pages"),
    ("atomic beyond the end", counting, count_one_more, count, "oob-write", "counts"),
]
