"""The contract of the FP8 paged MQA logits, as targets: what they are given, and what they have to answer.

What the contract leaves open is poison: cache blocks and tokens of the last block that no context has reached, and the
entries of the block table behind a context. Logits behind the context's last block are not written, nor is what an
output has beyond max_model_len: the caller's values stay.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

import fp4guard as fg
from fp4guard import dims, oracle
from fp4guard.formats import E4M3, KV_16X16, LINEAR, codec
from fp4guard.memory.layouts import CONTIGUOUS, HUGE_ROWS, OFFSET, PADDED_ROWS
from fp4guard.oracle import generate

from .configs import CONFIGS
from .launch import SCHEDULES, gluon_is_there
from .launch import fp8_paged_mqa_logits as launch

#: Heads and their size: as small as the kernels take them, odd ones, and DeepSeek V3.2's.
SHAPES = {"H4_D32": (4, 32), "H16_D64": (16, 64), "H11_D128": (11, 128), "H64_D128": (64, 128)}
#: Tokens of a cache block, and the order of its values.
CACHES = {
    "1": (1, LINEAR),
    "16": (16, LINEAR),
    "64": (64, LINEAR),
    "256": (256, LINEAR),
    "16 preshuffled": (16, KV_16X16),
    "64 preshuffled": (64, KV_16X16),
    "128 preshuffled": (128, KV_16X16),
}
#: How long contexts are: each at an edge of its own, or all as long as can be.
LENGTHS = ("edges", "full")
#: Columns of the output behind max_model_len, as callers add them.
EXTRA = (0, 3, 256)
#: What the caller had in the output: -inf in practice, which would hide a store that is missing.
BEFORE = -12345.0
#: The coarsest adder of FP8 products that the kernel may run on. In data for it, sums are exact on all others too.
ADDER = oracle.FP8_HOPPER
#: Any strides but along the last axis.
FAR = tuple(layout for layout in fg.WIDE if not layout.transposed)
#: The scales of a block are fp32, so its bytes are as aligned as they are. Offsets into a cache are 32-bit in Gluon.
BLOCKS = {"triton": (CONTIGUOUS, OFFSET, PADDED_ROWS, HUGE_ROWS), "gluon": (CONTIGUOUS, OFFSET, PADDED_ROWS)}


def _unit(config, cache):
    """Positions that are given to a split at once: a chunk, or a whole block."""
    return max(CONFIGS[config].chunk_k, CACHES[cache][0])


_RECIPES = {
    "batch": [1, 2, 3, 5, 17],
    "next_n": [1, 2, 4],
    "max_model_len": dims(tile=_unit, max=lambda config, cache: 3 * _unit(config, cache)),
    "shape": list(SHAPES),
    "cache": list(CACHES),
    "lengths": LENGTHS,
    "extra": EXTRA,
    "schedule": SCHEDULES,
    "config": list(CONFIGS),
}


@fg.fuzz(**_RECIPES)
def mqa_logits(mem, batch, next_n, max_model_len, shape, cache, lengths, extra, schedule, config):
    """The Triton kernels."""
    score(mem, batch, next_n, max_model_len, shape, cache, lengths, extra, schedule, config, "triton")


if gluon_is_there():

    @fg.fuzz(arch="gfx950", **_RECIPES)
    def mqa_logits_gluon(mem, batch, next_n, max_model_len, shape, cache, lengths, extra, schedule, config):
        """The Gluon kernels for CDNA4."""
        score(mem, batch, next_n, max_model_len, shape, cache, lengths, extra, schedule, config, "gluon")


def score(mem, batch, next_n, max_model_len, shape, cache, lengths, extra, schedule, config, backend):
    """One launch on a cache of random pages, and what it has to answer. Returns the output."""
    heads, d = SHAPES[shape]
    kv_block, order = CACHES[cache]
    rows = batch * next_n
    contexts = context_lengths(mem, batch, max_model_len, kv_block, _unit(config, cache), lengths)
    tables, used_entries, blocks = block_tables(mem, contexts, max_model_len, kv_block)
    queries = generate.dense(mem.case.regime, (batch, next_n, heads, d), "e4m3", _rng(mem, "q"), ADDER)
    q = mem.input("q", torch.from_numpy(queries).to(torch.float8_e4m3fn), FAR)
    weights = mem.input("weights", factors(mem, "weights", (rows, heads)), FAR)
    keys, stored = paged_keys(mem, blocks, kv_block, d, order)
    reached = np.zeros((blocks, kv_block), bool)
    for table, length in zip(tables, contexts, strict=True):
        for place in range(-(-length // kv_block)):
            reached[table[place], : length - place * kv_block] = True
    flat = mem.input("kv_cache", stored, BLOCKS[backend], undefined=~in_cache(reached, d, order))
    out = mem.output("out", (rows, max_model_len + extra), torch.float32, FAR, fill=BEFORE)
    launch(
        q,
        flat.view(blocks, kv_block, 1, d + 4),
        weights,
        mem.input("context_lens", contexts.astype(np.int32)),
        mem.input("block_tables", tables.astype(np.int32), FAR, undefined=~used_entries),
        max_model_len,
        out,
        schedule=schedule,
        preshuffled=order is KV_16X16,
        backend=backend,
        config=CONFIGS[config],
    )
    # Whole blocks are written: that is the oracle's chunk.
    logits = oracle.mqa_logits(q, keys, weights, contexts, tables, max_model_len, chunk=kv_block, accumulator=ADDER)
    mem.expect(out[:, :max_model_len], logits.over(BEFORE))
    if extra:
        mem.expect(out[:, max_model_len:], torch.full((rows, extra), BEFORE))
    return out, logits


def context_lengths(mem, batch, max_model_len, kv_block, unit, lengths):
    """Lengths int64 (batch,)."""
    rng = _rng(mem, "lengths")
    if lengths == "full":
        return np.full(batch, max_model_len)
    edges = [0, 1, kv_block - 1, kv_block, kv_block + 1, unit, unit + 1, max_model_len - 1, max_model_len]
    chosen = np.where(rng.random(batch) < 0.7, rng.choice(edges, batch), rng.integers(0, max_model_len + 1, batch))
    return np.clip(chosen, 0, max_model_len)


def block_tables(mem, contexts, max_model_len, kv_block):
    """Block numbers int64 (batch, columns) in random order, which of them are used, and how many blocks there are."""
    rng = _rng(mem, "tables")
    columns = -(-max_model_len // kv_block) + int(rng.integers(0, 2))
    used = np.arange(columns) < -(-contexts // kv_block)[:, None]
    blocks = int(used.sum()) + int(rng.integers(1, 3))
    tables = np.zeros((len(contexts), columns), np.int64)
    tables[used] = rng.permutation(blocks)[: used.sum()]
    return tables, used, blocks


def factors(mem, name, shape):
    """float32 that leave sums of their products certified: small integers, or in the wild regime any."""
    rng = _rng(mem, name)
    if mem.case.regime == "wild":
        return generate.dense("wild", shape, "float32", rng).astype(np.float32)
    return rng.integers(-4, 5, shape).astype(np.float32) * np.float32(2.0 ** rng.integers(-3, 4))


def paged_keys(mem, blocks, kv_block, d, order):
    """Keys of the case's regime, for the oracle, and the cache's bytes, uint8 (blocks, kv_block * (d + 4))."""
    rng = _rng(mem, "keys")
    values = generate.dense(mem.case.regime, (blocks, kv_block, d), "e4m3", rng, ADDER)
    if mem.case.regime == "wild":
        scales = np.abs(generate.dense("wild", (blocks, kv_block), "float32", rng)).astype(np.float32)
    else:
        scales = np.exp2(rng.integers(-3, 4, (blocks, kv_block))).astype(np.float32)
    stored = order.pack(codec.encode(E4M3, values)).reshape(blocks, -1)
    keys = oracle.PagedKeys(values, scales.astype(np.float64))
    return keys, np.concatenate([stored, scales.view(np.uint8).reshape(blocks, -1)], axis=1)


def in_cache(tokens, d, order):
    """Which bytes of a cache belong to tokens, bool (blocks, kv_block), of it."""
    values = order.pack(np.repeat(tokens[..., None], d, axis=2)).reshape(len(tokens), -1)
    return np.concatenate([values, np.repeat(tokens, 4, axis=1)], axis=1)


def _rng(mem, name):
    return np.random.default_rng([mem.case.seed, zlib.crc32(name.encode())])
