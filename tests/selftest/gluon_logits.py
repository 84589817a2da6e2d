"""Logits of a paged FP8 cache in Gluon for CDNA4, as sparse attention computes them: a program of one row and one split
of its context stores chunk after chunk, in two stages; a whole last chunk is longer than what is left of the row.
"""

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd import AMDMFMALayout, cdna4

from fp4guard.memory.layouts import PADDED_ROWS

ARCH = "gfx950"

HEADS, WIDTH, BLOCK, CHUNK = 32, 64, 32, 128

MATRIX = gl.constexpr(AMDMFMALayout(version=4, instr_shape=[32, 32, 16], transposed=True, warps_per_cta=[1, 4]))
QUERIES = gl.constexpr(gl.BlockedLayout([1, 8], [8, 8], [4, 1], [1, 0]))
LINE = gl.constexpr(gl.BlockedLayout([16], [64], [4], [0]))


def shuffled(keys):
    """Blocks (n, BLOCK, WIDTH) in the order in which the matrix core takes them in."""
    return keys.view(-1, BLOCK // 16, 16, WIDTH // 16, 16).permute(0, 1, 3, 2, 4).contiguous()


def scoring(mem, kernel, lengths=(0, 1, 31, 150, 200), most=200, splits=2):
    """Keys are small integers, scales and weights powers of two: every sum is exact."""
    batch, pages = len(lengths), -(-most // BLOCK)
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randint(-2, 3, shape, generator=generator).float()  # noqa: E731
    q, keys, weights = draw(batch, HEADS, WIDTH), draw(batch * pages, BLOCK, WIDTH), draw(batch, HEADS)
    scales = 2.0 ** torch.randint(-1, 2, (batch * pages, BLOCK), generator=generator)
    codes = shuffled(keys.to(torch.float8_e4m3fn)).view(torch.uint8).reshape(batch * pages, -1)
    cache = mem.input("cache", torch.cat([codes, scales.view(torch.uint8)], 1))
    queries = mem.input("q", q.to(torch.float8_e4m3fn).view(torch.uint8)).view(torch.float8_e4m3fn)
    table = torch.randperm(batch * pages, generator=generator).reshape(batch, pages).int()
    used = torch.arange(pages) * BLOCK < torch.tensor(lengths)[:, None]
    table = mem.input("table", torch.where(used, table, 1 << 24))
    weights, lengths = mem.input("weights", weights), mem.input("lengths", torch.tensor(lengths, dtype=torch.int32))
    out = mem.output("out", (batch, most), torch.float32, (PADDED_ROWS,), fill=float("-inf"))
    as_codes, as_scales = cache.view(torch.float8_e4m3fn), cache.view(torch.float32)
    kernel[(batch, splits)](
        queries, as_codes, as_scales, table, weights, lengths, out, most, pages, out.stride(0),
        HEADS=HEADS, WIDTH=WIDTH, BLOCK=BLOCK, CHUNK=CHUNK, SPLITS=splits,
    )  # fmt: skip
    found = torch.full((batch, most), float("-inf"))
    for row in range(batch):
        blocks = table[row, : -(-int(lengths[row]) // BLOCK)].long()
        k, scale = keys[blocks].reshape(-1, WIDTH), scales[blocks].reshape(-1)
        logits = ((q[row] @ k.T * scale).clamp(min=0) * weights[row][:, None]).sum(0)
        found[row, : lengths[row]] = logits[: lengths[row]]
    mem.expect(out, found)


@gluon.jit
def load_keys(codes, numbers, WIDTH: gl.constexpr, BLOCK: gl.constexpr, STAGE: gl.constexpr):
    """Blocks of keys as the second operand of a product, [WIDTH, STAGE]."""
    operand: gl.constexpr = gl.DotOperandLayout(1, MATRIX, 8)
    i = gl.arange(0, STAGE * WIDTH, layout=LINE)
    block = gl.gather(numbers, i // (BLOCK * WIDTH), 0)
    x = cdna4.buffer_load(codes, block * (BLOCK * (WIDTH + 4)) + i % (BLOCK * WIDTH))
    x = gl.permute(gl.reshape(x, [STAGE // 16, WIDTH // 16, 16, 16]), [1, 3, 0, 2])
    return gl.convert_layout(gl.reshape(x, [WIDTH, STAGE]), operand)


@gluon.jit
def logits_of_stage(
    q, codes, scales, table, weights, row, length, first, pages, WIDTH: gl.constexpr, BLOCK: gl.constexpr,
    STAGE: gl.constexpr, HEADS: gl.constexpr,
):  # fmt: skip
    """The logits of STAGE tokens from `first` on; -inf behind the context."""
    page = first // BLOCK + gl.arange(0, STAGE // BLOCK, layout=LINE)
    number = cdna4.buffer_load(table, row * pages + page, mask=page * BLOCK < length, other=0)
    keys = load_keys(codes, number, WIDTH, BLOCK, STAGE)
    head = gl.arange(0, HEADS, layout=gl.SliceLayout(1, MATRIX))
    product = cdna4.mfma(q, keys, gl.zeros([HEADS, STAGE], gl.float32, MATRIX))
    column = gl.arange(0, STAGE, layout=gl.SliceLayout(0, MATRIX))
    block = gl.gather(gl.convert_layout(number, gl.SliceLayout(0, MATRIX)), column // BLOCK, 0)
    where = block * (BLOCK * (WIDTH + 4) // 4) + BLOCK * WIDTH // 4 + column % BLOCK
    scale = cdna4.buffer_load(scales, where)
    weight = cdna4.buffer_load(weights, row * HEADS + head)
    logits = gl.sum(gl.maximum(product * scale[None, :], 0.0) * weight[:, None], axis=0)
    return gl.where(first + column < length, logits, -float("inf")), first + column


@gluon.jit
def score(
    q, codes, scales, table, weights, lengths, out, most, pages, stride, HEADS: gl.constexpr, WIDTH: gl.constexpr,
    BLOCK: gl.constexpr, CHUNK: gl.constexpr, SPLITS: gl.constexpr,
):  # fmt: skip
    STAGE: gl.constexpr = CHUNK // 2
    row, length = gl.program_id(0), gl.load(lengths + gl.program_id(0))
    head = gl.arange(0, HEADS, layout=gl.SliceLayout(1, QUERIES))[:, None]
    width = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, QUERIES))[None, :]
    operand: gl.constexpr = gl.DotOperandLayout(0, MATRIX, 8)
    queries = gl.convert_layout(cdna4.buffer_load(q, (row * HEADS + head) * WIDTH + width), operand)
    chunks = (length + CHUNK - 1) // CHUNK
    each = (chunks + SPLITS - 1) // SPLITS
    for first in range(
        gl.program_id(1) * each * CHUNK, gl.minimum(gl.program_id(1) * each + each, chunks) * CHUNK, CHUNK
    ):
        value, column = logits_of_stage(
            queries, codes, scales, table, weights, row, length, first, pages, WIDTH, BLOCK, STAGE, HEADS
        )
        cdna4.buffer_store(value, ptr=out, offsets=row * stride + column, mask=column < most)
        value, column = logits_of_stage(
            queries, codes, scales, table, weights, row, length, first + STAGE, pages, WIDTH, BLOCK, STAGE, HEADS
        )
        cdna4.buffer_store(value, ptr=out, offsets=row * stride + column, mask=column < most)


@gluon.jit
def score_past_the_row(
    q, codes, scales, table, weights, lengths, out, most, pages, stride, HEADS: gl.constexpr, WIDTH: gl.constexpr,
    BLOCK: gl.constexpr, CHUNK: gl.constexpr, SPLITS: gl.constexpr,
):  # fmt: skip
    STAGE: gl.constexpr = CHUNK // 2
    row, length = gl.program_id(0), gl.load(lengths + gl.program_id(0))
    head = gl.arange(0, HEADS, layout=gl.SliceLayout(1, QUERIES))[:, None]
    width = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, QUERIES))[None, :]
    operand: gl.constexpr = gl.DotOperandLayout(0, MATRIX, 8)
    queries = gl.convert_layout(cdna4.buffer_load(q, (row * HEADS + head) * WIDTH + width), operand)
    chunks = (length + CHUNK - 1) // CHUNK
    each = (chunks + SPLITS - 1) // SPLITS
    for first in range(
        gl.program_id(1) * each * CHUNK, gl.minimum(gl.program_id(1) * each + each, chunks) * CHUNK, CHUNK
    ):
        value, column = logits_of_stage(
            queries, codes, scales, table, weights, row, length, first, pages, WIDTH, BLOCK, STAGE, HEADS
        )
        cdna4.buffer_store(value, ptr=out, offsets=row * stride + column, mask=column < most)
        value, column = logits_of_stage(
            queries, codes, scales, table, weights, row, length, first + STAGE, pages, WIDTH, BLOCK, STAGE, HEADS
        )
        cdna4.buffer_store(value, ptr=out, offsets=row * stride + column)  # wrong: logits past the row


PAIRS = [("logits past the row", scoring, score_past_the_row, score, "oob-write", "out", "race", "wrong-value")]
