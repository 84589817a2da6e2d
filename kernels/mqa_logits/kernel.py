"""FP8 paged MQA logits: sum over heads of w[h] * max(0, scale[t] * dot(q[h], k[t])), for every position t of a context.

A row is one query token of a sequence. Its positions are processed in chunks of CHUNK_K, a chunk in two stages of
CHUNK_K / 2, up to the end of the context's last cache block. Chunks end there, so that the first one, the residual,
begins up to CHUNK_K - 1 positions before what the program is to do: each store has a lower and an upper bound.

A cache block holds KV_BLOCK tokens: KV_BLOCK * D bytes of E4M3 values, then KV_BLOCK fp32 scales. Either KV_BLOCK
divides CHUNK_K or CHUNK_K divides KV_BLOCK, so a stage is whole blocks or lies within one.
"""

import triton
import triton.language as tl


@triton.jit
def _load_query(
    q_ptr, weights_ptr, batch, n, row, heads, stride_qb, stride_qn, stride_qh, stride_w,
    D: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """The queries of a row, (HEADS, D), and their weights (HEADS,): zeros from `heads` on."""
    head = tl.arange(0, HEADS).to(tl.int64)
    q_ptrs = q_ptr + batch * stride_qb + n * stride_qn + head[:, None] * stride_qh + tl.arange(0, D)[None, :]
    q = tl.load(q_ptrs, mask=head[:, None] < heads, other=0.0)
    weights = tl.load(weights_ptr + row * stride_w + head, mask=head < heads, other=0.0)
    return q, weights


@triton.jit
def _load_blocks(table_ptr, first, KV_BLOCK: tl.constexpr, STAGE: tl.constexpr):
    """The cache block of each position of the stage that begins at `first`, int64 (STAGE,).

    Before the context that is block 0: its keys are loaded, and the logits are never stored.
    """
    if KV_BLOCK >= STAGE:
        block = tl.load(table_ptr + first // KV_BLOCK, mask=first >= 0, other=0)
        blocks = tl.zeros((STAGE,), tl.int32) + block
    else:
        places = first // KV_BLOCK + tl.arange(0, STAGE // KV_BLOCK)
        blocks = tl.load(table_ptr + places, mask=places >= 0, other=0)
        blocks = tl.broadcast_to(blocks[:, None], (STAGE // KV_BLOCK, KV_BLOCK)).reshape(STAGE)
    return blocks.to(tl.int64)


@triton.jit
def _stage_logits(
    q, weights, keys_ptr, scales_ptr, blocks, first, stride_block, stride_scale_block,
    D: tl.constexpr, KV_BLOCK: tl.constexpr, STAGE: tl.constexpr, PRESHUFFLED: tl.constexpr,
):  # fmt: skip
    """The logits of a stage, fp32 (STAGE,)."""
    token = tl.arange(0, STAGE)
    if KV_BLOCK >= STAGE:
        token += first % KV_BLOCK
    else:
        token %= KV_BLOCK
    d = tl.arange(0, D)
    if PRESHUFFLED:
        # Tiles of 16 tokens x 16 values, the tiles of 16 tokens one after the other.
        within = (token // 16 * (16 * D) + token % 16 * 16)[None, :] + (d // 16 * 256 + d % 16)[:, None]
    else:
        within = token[None, :] * D + d[:, None]
    # No masks: positions behind the context lie in its last block, and what stands there is not stored.
    keys = tl.load(keys_ptr + (blocks * stride_block)[None, :] + within)
    scales = tl.load(scales_ptr + blocks * stride_scale_block + token)
    scores = tl.dot(q, keys) * scales[None, :]
    return tl.sum(tl.maximum(scores, 0.0) * weights[:, None], axis=0)


# Not one compilation more where a count is 1.
@triton.jit(do_not_specialize=["next_n", "heads", "split_kv", "max_model_len"])
def mqa_logits_fixed_kernel(
    q_ptr, keys_ptr, scales_ptr, weights_ptr, context_lens_ptr, block_tables_ptr, out_ptr,
    next_n, heads, split_kv, max_model_len,
    stride_qb, stride_qn, stride_qh, stride_block, stride_scale_block, stride_w, stride_tb, stride_out,
    D: tl.constexpr, HEADS: tl.constexpr, KV_BLOCK: tl.constexpr, CHUNK_K: tl.constexpr, PRESHUFFLED: tl.constexpr,
):  # fmt: skip
    """One split of one row. The grid is batch * next_n * split_kv; q is (batch, next_n, H, D), out a row a query."""
    STAGE: tl.constexpr = CHUNK_K // 2
    # Splits begin where both a chunk and a block do.
    UNIT: tl.constexpr = max(CHUNK_K, KV_BLOCK)
    # Products with a stride: 64 bits, since a large operand overflows 32.
    row = tl.program_id(0).to(tl.int64) // split_kv
    pid_split = tl.program_id(0) % split_kv
    batch, n = row // next_n, row % next_n

    context_length = tl.load(context_lens_ptr + batch)
    # Equal shares, and one more for each of the first splits as long as any are left.
    units = tl.cdiv(context_length, UNIT)
    share, left = units // split_kv, units % split_kv
    split_start = (pid_split * share + tl.minimum(pid_split, left)) * UNIT
    split_length = (share + (pid_split < left).to(tl.int32)) * UNIT
    split_length = tl.minimum(split_length, context_length - split_start)
    if split_length <= 0:
        return
    # Whole blocks, as their numbers are loaded. The last one may reach past max_model_len.
    split_end = split_start + tl.cdiv(split_length, KV_BLOCK) * KV_BLOCK
    residual = (split_end - split_start) % CHUNK_K
    start = split_start - (CHUNK_K - residual) % CHUNK_K
    last_visible = context_length - next_n + n.to(tl.int32)

    q, weights = _load_query(
        q_ptr, weights_ptr, batch, n, row, heads, stride_qb, stride_qn, stride_qh, stride_w, D, HEADS
    )
    table_ptr = block_tables_ptr + batch * stride_tb
    out_row_ptr = out_ptr + row * stride_out
    blocks_0 = _load_blocks(table_ptr, start, KV_BLOCK, STAGE)
    blocks_1 = _load_blocks(table_ptr, start + STAGE, KV_BLOCK, STAGE)
    for first in range(start, split_end - CHUNK_K, CHUNK_K):
        logits = _stage_logits(
            q, weights, keys_ptr, scales_ptr, blocks_0, first, stride_block, stride_scale_block,
            D, KV_BLOCK, STAGE, PRESHUFFLED,
        )  # fmt: skip
        blocks_0 = _load_blocks(table_ptr, first + CHUNK_K, KV_BLOCK, STAGE)
        column_0 = first + tl.arange(0, STAGE)
        logits = tl.where(column_0 <= last_visible, logits, float("-inf"))
        tl.store(out_row_ptr + column_0, logits, mask=(column_0 >= split_start) & (column_0 < max_model_len))

        logits = _stage_logits(
            q, weights, keys_ptr, scales_ptr, blocks_1, first + STAGE, stride_block, stride_scale_block,
            D, KV_BLOCK, STAGE, PRESHUFFLED,
        )  # fmt: skip
        blocks_1 = _load_blocks(table_ptr, first + CHUNK_K + STAGE, KV_BLOCK, STAGE)
        column_1 = first + STAGE + tl.arange(0, STAGE)
        logits = tl.where(column_1 <= last_visible, logits, float("-inf"))
        tl.store(out_row_ptr + column_1, logits, mask=(column_1 >= split_start) & (column_1 < max_model_len))

    first = split_end - CHUNK_K
    logits = _stage_logits(
        q, weights, keys_ptr, scales_ptr, blocks_0, first, stride_block, stride_scale_block,
        D, KV_BLOCK, STAGE, PRESHUFFLED,
    )  # fmt: skip
    tail_0 = first + tl.arange(0, STAGE)
    logits = tl.where(tail_0 <= last_visible, logits, float("-inf"))
    tl.store(out_row_ptr + tail_0, logits, mask=(tail_0 >= split_start) & (tail_0 < max_model_len))

    logits = _stage_logits(
        q, weights, keys_ptr, scales_ptr, blocks_1, first + STAGE, stride_block, stride_scale_block,
        D, KV_BLOCK, STAGE, PRESHUFFLED,
    )  # fmt: skip
    tail_1 = first + STAGE + tl.arange(0, STAGE)
    logits = tl.where(tail_1 <= last_visible, logits, float("-inf"))
    tl.store(out_row_ptr + tail_1, logits, mask=(tail_1 >= split_start) & (tail_1 < max_model_len))


@triton.jit(do_not_specialize=["batch_size", "next_n", "heads", "max_model_len"])
def mqa_logits_variable_kernel(
    q_ptr, keys_ptr, scales_ptr, weights_ptr, context_lens_ptr, block_tables_ptr, out_ptr,
    batch_size, next_n, heads, max_model_len,
    stride_qb, stride_qn, stride_qh, stride_block, stride_scale_block, stride_w, stride_tb, stride_out,
    D: tl.constexpr, HEADS: tl.constexpr, KV_BLOCK: tl.constexpr, CHUNK_K: tl.constexpr, PRESHUFFLED: tl.constexpr,
    BLOCK_BATCH: tl.constexpr,
):  # fmt: skip
    """An equal share of the chunks of all rows, in their order; the grid is any number of programs."""
    STAGE: tl.constexpr = CHUNK_K // 2
    total = 0
    for first_batch in range(0, batch_size, BLOCK_BATCH):
        batches = first_batch + tl.arange(0, BLOCK_BATCH).to(tl.int64)
        lengths = tl.load(context_lens_ptr + batches, mask=batches < batch_size, other=0)
        total += tl.sum(tl.cdiv(tl.cdiv(lengths, KV_BLOCK) * KV_BLOCK, CHUNK_K)) * next_n
    share, left = total // tl.num_programs(0), total % tl.num_programs(0)
    pid = tl.program_id(0)
    next_chunk = pid * share + tl.minimum(pid, left)
    chunk_end = next_chunk + share + (pid < left).to(tl.int32)

    row = tl.cast(0, tl.int64)
    row_chunk = 0  # the number of the row's first chunk
    while next_chunk < chunk_end:
        batch, n = row // next_n, row % next_n
        context_length = tl.load(context_lens_ptr + batch)
        row_end = tl.cdiv(context_length, KV_BLOCK) * KV_BLOCK
        chunks = tl.cdiv(row_end, CHUNK_K)
        if next_chunk < row_chunk + chunks:
            row_start = row_end - chunks * CHUNK_K
            stop = row_start + tl.minimum(chunk_end - row_chunk, chunks) * CHUNK_K
            start = row_start + (next_chunk - row_chunk) * CHUNK_K
            last_visible = context_length - next_n + n.to(tl.int32)
            q, weights = _load_query(
                q_ptr, weights_ptr, batch, n, row, heads, stride_qb, stride_qn, stride_qh, stride_w, D, HEADS
            )
            table_ptr = block_tables_ptr + batch * stride_tb
            out_row_ptr = out_ptr + row * stride_out
            blocks_0 = _load_blocks(table_ptr, start, KV_BLOCK, STAGE)
            blocks_1 = _load_blocks(table_ptr, start + STAGE, KV_BLOCK, STAGE)
            for first in range(start, stop - CHUNK_K, CHUNK_K):
                logits = _stage_logits(
                    q, weights, keys_ptr, scales_ptr, blocks_0, first, stride_block, stride_scale_block,
                    D, KV_BLOCK, STAGE, PRESHUFFLED,
                )  # fmt: skip
                blocks_0 = _load_blocks(table_ptr, first + CHUNK_K, KV_BLOCK, STAGE)
                column_0 = first + tl.arange(0, STAGE)
                logits = tl.where(column_0 <= last_visible, logits, float("-inf"))
                tl.store(out_row_ptr + column_0, logits, mask=(column_0 >= 0) & (column_0 < max_model_len))

                logits = _stage_logits(
                    q, weights, keys_ptr, scales_ptr, blocks_1, first + STAGE, stride_block, stride_scale_block,
                    D, KV_BLOCK, STAGE, PRESHUFFLED,
                )  # fmt: skip
                blocks_1 = _load_blocks(table_ptr, first + CHUNK_K + STAGE, KV_BLOCK, STAGE)
                column_1 = first + STAGE + tl.arange(0, STAGE)
                logits = tl.where(column_1 <= last_visible, logits, float("-inf"))
                tl.store(out_row_ptr + column_1, logits, mask=(column_1 >= 0) & (column_1 < max_model_len))

            first = stop - CHUNK_K
            logits = _stage_logits(
                q, weights, keys_ptr, scales_ptr, blocks_0, first, stride_block, stride_scale_block,
                D, KV_BLOCK, STAGE, PRESHUFFLED,
            )  # fmt: skip
            tail_0 = first + tl.arange(0, STAGE)
            logits = tl.where(tail_0 <= last_visible, logits, float("-inf"))
            tl.store(out_row_ptr + tail_0, logits, mask=(tail_0 >= 0) & (tail_0 < max_model_len))

            logits = _stage_logits(
                q, weights, keys_ptr, scales_ptr, blocks_1, first + STAGE, stride_block, stride_scale_block,
                D, KV_BLOCK, STAGE, PRESHUFFLED,
            )  # fmt: skip
            tail_1 = first + STAGE + tl.arange(0, STAGE)
            logits = tl.where(tail_1 <= last_visible, logits, float("-inf"))
            tl.store(out_row_ptr + tail_1, logits, mask=(tail_1 >= 0) & (tail_1 < max_model_len))
            next_chunk = row_chunk + tl.minimum(chunk_end - row_chunk, chunks)
        row_chunk += chunks
        row += 1
