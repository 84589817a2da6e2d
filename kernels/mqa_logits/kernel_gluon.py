"""The FP8 paged MQA logits in Gluon for CDNA4 (gfx950): kernel.py's programs, chunks, stages and bounds, with buffer
instructions and the layouts in which the matrix cores take and give their operands.

Offsets of buffer instructions are 32-bit. Rows are therefore reached by a 64-bit base, and the launcher refuses a cache
of 2 GiB or more.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd import AMDMFMALayout, cdna4


@gluon.constexpr_function
def _matrix(num_warps):
    """Scores, (heads, positions): warps side by side along the positions."""
    return AMDMFMALayout(version=4, instr_shape=[16, 16, 32], transposed=False, warps_per_cta=[1, num_warps])


@gluon.jit
def _load_query(
    q_ptr, weights_ptr, batch, n, row, heads, stride_qb, stride_qn, stride_qh, stride_w,
    D: gl.constexpr, HEADS: gl.constexpr,
):  # fmt: skip
    """The queries of a row, (HEADS, D), and their weights (HEADS,): zeros from `heads` on."""
    MATRIX: gl.constexpr = _matrix(gl.num_warps())
    QUERIES: gl.constexpr = gl.DotOperandLayout(0, MATRIX, 16)
    head = gl.arange(0, HEADS, layout=gl.SliceLayout(1, QUERIES))
    d = gl.arange(0, D, layout=gl.SliceLayout(0, QUERIES))
    # The stride of a head may be anything: 64-bit pointers, once a row.
    q_ptrs = q_ptr + batch * stride_qb + n * stride_qn + head.to(gl.int64)[:, None] * stride_qh + d[None, :]
    q = gl.load(q_ptrs, mask=head[:, None] < heads, other=0.0)
    head = gl.arange(0, HEADS, layout=gl.SliceLayout(1, MATRIX))
    weights = cdna4.buffer_load(weights_ptr + row * stride_w, head, mask=head < heads, other=0.0)
    return q, weights


@gluon.jit
def _load_blocks(table_ptr, first, KV_BLOCK: gl.constexpr, STAGE: gl.constexpr):
    """The cache block of each position of the stage that begins at `first`, int32 (STAGE,), as columns of the keys.

    Before the context that is block 0: its keys are loaded, and the logits are never stored.
    """
    KEYS: gl.constexpr = gl.DotOperandLayout(1, _matrix(gl.num_warps()), 16)
    position = first + gl.arange(0, STAGE, layout=gl.SliceLayout(0, KEYS))
    return cdna4.buffer_load(table_ptr, position // KV_BLOCK, mask=position >= 0, other=0)


@gluon.jit
def _token(first, KV_BLOCK: gl.constexpr, STAGE: gl.constexpr, LAYOUT: gl.constexpr):
    """The place of each position in its block, (STAGE,)."""
    token = gl.arange(0, STAGE, layout=LAYOUT)
    if KV_BLOCK >= STAGE:
        token += first % KV_BLOCK
    else:
        token %= KV_BLOCK
    return token


@gluon.jit
def _stage_logits(
    q, weights, keys_ptr, scales_ptr, blocks, first, stride_block, stride_scale_block,
    D: gl.constexpr, HEADS: gl.constexpr, KV_BLOCK: gl.constexpr, STAGE: gl.constexpr, PRESHUFFLED: gl.constexpr,
):  # fmt: skip
    """The logits of a stage, fp32 (STAGE,)."""
    MATRIX: gl.constexpr = _matrix(gl.num_warps())
    KEYS: gl.constexpr = gl.DotOperandLayout(1, MATRIX, 16)
    COLUMNS: gl.constexpr = gl.SliceLayout(0, MATRIX)
    token = _token(first, KV_BLOCK, STAGE, gl.SliceLayout(0, KEYS))
    d = gl.arange(0, D, layout=gl.SliceLayout(1, KEYS))
    if PRESHUFFLED:
        # Tiles of 16 tokens x 16 values: what a lane takes in at once is 16 bytes in a row, and a tile 256.
        within = (token // 16 * (16 * D) + token % 16 * 16)[None, :] + (d // 16 * 256 + d % 16)[:, None]
    else:
        within = token[None, :] * D + d[:, None]
    # No masks: positions behind the context lie in its last block, and what stands there is not stored.
    keys = cdna4.buffer_load(keys_ptr, (blocks * stride_block)[None, :] + within)
    block_columns = gl.convert_layout(blocks, COLUMNS)
    token = _token(first, KV_BLOCK, STAGE, COLUMNS)
    scales = cdna4.buffer_load(scales_ptr, block_columns * stride_scale_block + token)
    scores = cdna4.mfma(q, keys, gl.zeros([HEADS, STAGE], gl.float32, MATRIX)) * scales[None, :]
    return gl.sum(gl.maximum(scores, 0.0) * weights[:, None], axis=0)


# Not one compilation more where a count is 1.
@gluon.jit(do_not_specialize=["next_n", "heads", "split_kv", "max_model_len"])
def mqa_logits_fixed_kernel(
    q_ptr, keys_ptr, scales_ptr, weights_ptr, context_lens_ptr, block_tables_ptr, out_ptr,
    next_n, heads, split_kv, max_model_len,
    stride_qb, stride_qn, stride_qh, stride_block, stride_scale_block, stride_w, stride_tb, stride_out,
    D: gl.constexpr, HEADS: gl.constexpr, KV_BLOCK: gl.constexpr, CHUNK_K: gl.constexpr, PRESHUFFLED: gl.constexpr,
):  # fmt: skip
    """One split of one row. The grid is batch * next_n * split_kv; q is (batch, next_n, H, D), out a row a query."""
    STAGE: gl.constexpr = CHUNK_K // 2
    lanes = gl.arange(0, STAGE, layout=gl.SliceLayout(0, _matrix(gl.num_warps())))
    # Splits begin where both a chunk and a block do.
    UNIT: gl.constexpr = max(CHUNK_K, KV_BLOCK)
    # Products with a stride: 64 bits, since a large operand overflows 32.
    row = gl.program_id(0).to(gl.int64) // split_kv
    pid_split = gl.program_id(0) % split_kv
    batch, n = row // next_n, row % next_n

    context_length = gl.load(context_lens_ptr + batch)
    # Equal shares, and one more for each of the first splits as long as any are left.
    units = gl.cdiv(context_length, UNIT)
    share, left = units // split_kv, units % split_kv
    split_start = (pid_split * share + gl.minimum(pid_split, left)) * UNIT
    split_length = (share + (pid_split < left).to(gl.int32)) * UNIT
    split_length = gl.minimum(split_length, context_length - split_start)
    if split_length <= 0:
        return
    # Whole blocks, as their numbers are loaded. The last one may reach past max_model_len.
    split_end = split_start + gl.cdiv(split_length, KV_BLOCK) * KV_BLOCK
    residual = (split_end - split_start) % CHUNK_K
    start = split_start - (CHUNK_K - residual) % CHUNK_K
    last_visible = context_length - next_n + n.to(gl.int32)

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
            D, HEADS, KV_BLOCK, STAGE, PRESHUFFLED,
        )  # fmt: skip
        blocks_0 = _load_blocks(table_ptr, first + CHUNK_K, KV_BLOCK, STAGE)
        column_0 = first + lanes
        logits = gl.where(column_0 <= last_visible, logits, float("-inf"))
        cdna4.buffer_store(logits, out_row_ptr, column_0, mask=(column_0 >= split_start) & (column_0 < max_model_len))

        logits = _stage_logits(
            q, weights, keys_ptr, scales_ptr, blocks_1, first + STAGE, stride_block, stride_scale_block,
            D, HEADS, KV_BLOCK, STAGE, PRESHUFFLED,
        )  # fmt: skip
        blocks_1 = _load_blocks(table_ptr, first + CHUNK_K + STAGE, KV_BLOCK, STAGE)
        column_1 = first + STAGE + lanes
        logits = gl.where(column_1 <= last_visible, logits, float("-inf"))
        cdna4.buffer_store(logits, out_row_ptr, column_1, mask=(column_1 >= split_start) & (column_1 < max_model_len))

    first = split_end - CHUNK_K
    logits = _stage_logits(
        q, weights, keys_ptr, scales_ptr, blocks_0, first, stride_block, stride_scale_block,
        D, HEADS, KV_BLOCK, STAGE, PRESHUFFLED,
    )  # fmt: skip
    tail_0 = first + lanes
    logits = gl.where(tail_0 <= last_visible, logits, float("-inf"))
    cdna4.buffer_store(logits, out_row_ptr, tail_0, mask=(tail_0 >= split_start) & (tail_0 < max_model_len))

    logits = _stage_logits(
        q, weights, keys_ptr, scales_ptr, blocks_1, first + STAGE, stride_block, stride_scale_block,
        D, HEADS, KV_BLOCK, STAGE, PRESHUFFLED,
    )  # fmt: skip
    tail_1 = first + STAGE + lanes
    logits = gl.where(tail_1 <= last_visible, logits, float("-inf"))
    cdna4.buffer_store(logits, out_row_ptr, tail_1, mask=(tail_1 >= split_start) & (tail_1 < max_model_len))


@gluon.jit(do_not_specialize=["batch_size", "next_n", "heads", "max_model_len"])
def mqa_logits_variable_kernel(
    q_ptr, keys_ptr, scales_ptr, weights_ptr, context_lens_ptr, block_tables_ptr, out_ptr,
    batch_size, next_n, heads, max_model_len,
    stride_qb, stride_qn, stride_qh, stride_block, stride_scale_block, stride_w, stride_tb, stride_out,
    D: gl.constexpr, HEADS: gl.constexpr, KV_BLOCK: gl.constexpr, CHUNK_K: gl.constexpr, PRESHUFFLED: gl.constexpr,
    BLOCK_BATCH: gl.constexpr,
):  # fmt: skip
    """An equal share of the chunks of all rows, in their order; the grid is any number of programs."""
    STAGE: gl.constexpr = CHUNK_K // 2
    lanes = gl.arange(0, STAGE, layout=gl.SliceLayout(0, _matrix(gl.num_warps())))
    LINE: gl.constexpr = gl.BlockedLayout([1], [64], [gl.num_warps()], [0])
    total = 0
    for first_batch in range(0, batch_size, BLOCK_BATCH):
        batches = first_batch + gl.arange(0, BLOCK_BATCH, layout=LINE)
        lengths = cdna4.buffer_load(context_lens_ptr, batches, mask=batches < batch_size, other=0)
        total += gl.sum(gl.cdiv(gl.cdiv(lengths, KV_BLOCK) * KV_BLOCK, CHUNK_K)) * next_n
    share, left = total // gl.num_programs(0), total % gl.num_programs(0)
    pid = gl.program_id(0)
    next_chunk = pid * share + gl.minimum(pid, left)
    chunk_end = next_chunk + share + (pid < left).to(gl.int32)

    row = gl.cast(0, gl.int64)
    row_chunk = 0  # the number of the row's first chunk
    while next_chunk < chunk_end:
        batch, n = row // next_n, row % next_n
        context_length = gl.load(context_lens_ptr + batch)
        row_end = gl.cdiv(context_length, KV_BLOCK) * KV_BLOCK
        chunks = gl.cdiv(row_end, CHUNK_K)
        if next_chunk < row_chunk + chunks:
            row_start = row_end - chunks * CHUNK_K
            stop = row_start + gl.minimum(chunk_end - row_chunk, chunks) * CHUNK_K
            start = row_start + (next_chunk - row_chunk) * CHUNK_K
            last_visible = context_length - next_n + n.to(gl.int32)
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
                    D, HEADS, KV_BLOCK, STAGE, PRESHUFFLED,
                )  # fmt: skip
                blocks_0 = _load_blocks(table_ptr, first + CHUNK_K, KV_BLOCK, STAGE)
                column_0 = first + lanes
                logits = gl.where(column_0 <= last_visible, logits, float("-inf"))
                cdna4.buffer_store(logits, out_row_ptr, column_0, mask=(column_0 >= 0) & (column_0 < max_model_len))

                logits = _stage_logits(
                    q, weights, keys_ptr, scales_ptr, blocks_1, first + STAGE, stride_block, stride_scale_block,
                    D, HEADS, KV_BLOCK, STAGE, PRESHUFFLED,
                )  # fmt: skip
                blocks_1 = _load_blocks(table_ptr, first + CHUNK_K + STAGE, KV_BLOCK, STAGE)
                column_1 = first + STAGE + lanes
                logits = gl.where(column_1 <= last_visible, logits, float("-inf"))
                cdna4.buffer_store(logits, out_row_ptr, column_1, mask=(column_1 >= 0) & (column_1 < max_model_len))

            first = stop - CHUNK_K
            logits = _stage_logits(
                q, weights, keys_ptr, scales_ptr, blocks_0, first, stride_block, stride_scale_block,
                D, HEADS, KV_BLOCK, STAGE, PRESHUFFLED,
            )  # fmt: skip
            tail_0 = first + lanes
            logits = gl.where(tail_0 <= last_visible, logits, float("-inf"))
            cdna4.buffer_store(logits, out_row_ptr, tail_0, mask=(tail_0 >= 0) & (tail_0 < max_model_len))

            logits = _stage_logits(
                q, weights, keys_ptr, scales_ptr, blocks_1, first + STAGE, stride_block, stride_scale_block,
                D, HEADS, KV_BLOCK, STAGE, PRESHUFFLED,
            )  # fmt: skip
            tail_1 = first + STAGE + lanes
            logits = gl.where(tail_1 <= last_visible, logits, float("-inf"))
            cdna4.buffer_store(logits, out_row_ptr, tail_1, mask=(tail_1 >= 0) & (tail_1 < max_model_len))
            next_chunk = row_chunk + gl.minimum(chunk_end - row_chunk, chunks)
        row_chunk += chunks
        row += 1
