"""MXFP4 x MXFP4 GEMM: C = (A * A_scales) @ (B * B_scales), and the reduction of its split-K partials.

Units, since they differ: the argument K and every offset along K of A and B count bytes (two E2M1 codes each,
the low nibble has the even k). BLOCK_SIZE_K and SPLITK_BLOCK_SIZE count elements. One E8M0 scale covers
32 elements, 16 bytes.
"""

import triton
import triton.language as tl


@triton.jit
def _scale_tile(
    scale_ptr,
    pid,
    ROWS,
    split_start,
    stride_row,
    stride_k,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_SIZE_K: tl.constexpr,
    SHUFFLED: tl.constexpr,
):
    """Pointers to the first scale tile of a split, the scale group of each of its columns, and the step.

    Shuffled scales are stored (ROWS / 32, 32 * groups), a row of it as long as K. 32 rows x 8 groups are
    256 consecutive bytes in the order (group % 4, row % 16, group % 8 // 4, row % 32 // 16).
    """
    if SHUFFLED:
        offs_row = (pid * (BLOCK_ROWS // 32) + tl.arange(0, BLOCK_ROWS // 32)) % tl.cdiv(ROWS, 32)
        offs_k = tl.arange(0, BLOCK_SIZE_K)
        groups = offs_k // 256 * 8 + offs_k // 2 % 2 * 4 + offs_k // 64 % 4
        offs_k += split_start * 2
        step = BLOCK_SIZE_K * stride_k
    else:
        offs_row = (pid * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)) % ROWS
        groups = tl.arange(0, BLOCK_SIZE_K // 32)
        offs_k = groups + split_start // 16
        step = BLOCK_SIZE_K // 32 * stride_k
    return scale_ptr + offs_row[:, None] * stride_row + offs_k[None, :] * stride_k, groups, step


@triton.jit
def _unshuffle(scales, BLOCK_ROWS: tl.constexpr, BLOCK_SIZE_K: tl.constexpr):
    """A tile of shuffled scales, (BLOCK_ROWS / 32, BLOCK_SIZE_K), as (BLOCK_ROWS, BLOCK_SIZE_K / 32)."""
    scales = scales.reshape(BLOCK_ROWS // 32, BLOCK_SIZE_K // 256, 4, 16, 2, 2)
    return scales.permute(0, 5, 3, 1, 4, 2).reshape(BLOCK_ROWS, BLOCK_SIZE_K // 32)


@triton.jit
def gemm_afp4wfp4_kernel(
    a_ptr,
    b_ptr,
    c_ptr,
    a_scales_ptr,
    b_scales_ptr,
    M,
    N,
    K,
    SPLITK_BLOCK_SIZE,
    stride_am,
    stride_ak,
    stride_bk,
    stride_bn,
    stride_ck,
    stride_cm,
    stride_cn,
    stride_asm,
    stride_ask,
    stride_bsn,
    stride_bsk,
    BLOCK_SIZE_M: tl.constexpr,
    BLOCK_SIZE_N: tl.constexpr,
    BLOCK_SIZE_K: tl.constexpr,
    GROUP_SIZE_M: tl.constexpr,
    NUM_KSPLIT: tl.constexpr,
    EVEN_K: tl.constexpr,
    A_SCALES_SHUFFLED: tl.constexpr,
    B_SCALES_SHUFFLED: tl.constexpr,
):
    """One (BLOCK_SIZE_M, BLOCK_SIZE_N) tile of C for one split of K.

    A is (M, K), B is (K, N), C is (NUM_KSPLIT, M, N), the scales are (M, K / 16) and (N, K / 16) or their
    shuffled forms. The grid is NUM_KSPLIT * cdiv(M, BLOCK_SIZE_M) * cdiv(N, BLOCK_SIZE_N).
    EVEN_K promises that every split is a whole number of BLOCK_SIZE_K.
    """
    # Offsets are products with a stride: 64 bits, since a large or a transposed operand overflows 32.
    stride_am = tl.cast(stride_am, tl.int64)
    stride_ak = tl.cast(stride_ak, tl.int64)
    stride_bk = tl.cast(stride_bk, tl.int64)
    stride_bn = tl.cast(stride_bn, tl.int64)
    stride_ck = tl.cast(stride_ck, tl.int64)
    stride_cm = tl.cast(stride_cm, tl.int64)
    stride_cn = tl.cast(stride_cn, tl.int64)
    stride_asm = tl.cast(stride_asm, tl.int64)
    stride_ask = tl.cast(stride_ask, tl.int64)
    stride_bsn = tl.cast(stride_bsn, tl.int64)
    stride_bsk = tl.cast(stride_bsk, tl.int64)

    pid = tl.program_id(axis=0)
    pid_k = pid % NUM_KSPLIT
    pid = pid // NUM_KSPLIT
    num_pid_m = tl.cdiv(M, BLOCK_SIZE_M)
    num_pid_n = tl.cdiv(N, BLOCK_SIZE_N)
    if NUM_KSPLIT == 1:
        # Programs that follow each other share tiles of B: better reuse of the L2.
        num_pid_in_group = GROUP_SIZE_M * num_pid_n
        first_pid_m = pid // num_pid_in_group * GROUP_SIZE_M
        group_size_m = tl.minimum(num_pid_m - first_pid_m, GROUP_SIZE_M)
        pid_m = first_pid_m + pid % num_pid_in_group % group_size_m
        pid_n = pid % num_pid_in_group // group_size_m
    else:
        pid_m = pid // num_pid_n
        pid_n = pid % num_pid_n

    split_start = pid_k * (SPLITK_BLOCK_SIZE // 2)
    if split_start >= K:
        # Nothing to add. Its partial stays unwritten, so the launcher must not ask for such a split.
        return
    split_end = tl.minimum(split_start + SPLITK_BLOCK_SIZE // 2, K)

    # Rows and columns beyond the edge wrap around: what they load is valid and is never stored, and the loads
    # need no mask on M or N.
    offs_am = (pid_m * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)) % M
    offs_bn = (pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)) % N
    offs_k = tl.arange(0, BLOCK_SIZE_K // 2)
    offs_k_split = split_start + offs_k
    a_ptrs = a_ptr + offs_am[:, None] * stride_am + offs_k_split[None, :] * stride_ak
    b_ptrs = b_ptr + offs_k_split[:, None] * stride_bk + offs_bn[None, :] * stride_bn
    a_scale_ptrs, a_groups, a_scale_step = _scale_tile(
        a_scales_ptr,
        pid_m,
        M,
        split_start,
        stride_asm,
        stride_ask,
        BLOCK_SIZE_M,
        BLOCK_SIZE_K,
        A_SCALES_SHUFFLED,
    )
    b_scale_ptrs, b_groups, b_scale_step = _scale_tile(
        b_scales_ptr,
        pid_n,
        N,
        split_start,
        stride_bsn,
        stride_bsk,
        BLOCK_SIZE_N,
        BLOCK_SIZE_K,
        B_SCALES_SHUFFLED,
    )

    acc = tl.zeros((BLOCK_SIZE_M, BLOCK_SIZE_N), dtype=tl.float32)
    for k in range(split_start, split_end, BLOCK_SIZE_K // 2):
        if EVEN_K:
            a = tl.load(a_ptrs)
            b = tl.load(b_ptrs)
            a_scales = tl.load(a_scale_ptrs)
            b_scales = tl.load(b_scale_ptrs)
        else:
            # Against the end of the split, not of K: a ragged split must not count what the next one counts.
            k_left = split_end - k
            groups_left = k_left // 16
            a = tl.load(a_ptrs, mask=offs_k[None, :] < k_left, other=0)
            b = tl.load(b_ptrs, mask=offs_k[:, None] < k_left, other=0)
            # Beyond the end the data are zero, but 0 * NaN is NaN, and a stray scale of 0xFF is NaN.
            # 127 is 1.0 by every decoding of E8M0; 0 is 2^-127 by some and 0.0 by others.
            a_scales = tl.load(a_scale_ptrs, mask=a_groups[None, :] < groups_left, other=127)
            b_scales = tl.load(b_scale_ptrs, mask=b_groups[None, :] < groups_left, other=127)
        if A_SCALES_SHUFFLED:
            a_scales = _unshuffle(a_scales, BLOCK_SIZE_M, BLOCK_SIZE_K)
        if B_SCALES_SHUFFLED:
            b_scales = _unshuffle(b_scales, BLOCK_SIZE_N, BLOCK_SIZE_K)
        acc = tl.dot_scaled(a, a_scales, "e2m1", b, b_scales, "e2m1", acc)
        a_ptrs += BLOCK_SIZE_K // 2 * stride_ak
        b_ptrs += BLOCK_SIZE_K // 2 * stride_bk
        a_scale_ptrs += a_scale_step
        b_scale_ptrs += b_scale_step

    offs_cm = pid_m * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)
    offs_cn = pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)
    c_ptrs = c_ptr + pid_k * stride_ck + offs_cm[:, None] * stride_cm + offs_cn[None, :] * stride_cn
    c_mask = (offs_cm[:, None] < M) & (offs_cn[None, :] < N)
    tl.store(c_ptrs, acc.to(c_ptr.type.element_ty), mask=c_mask)


@triton.jit
def gemm_afp4wfp4_reduce_kernel(
    partials_ptr,
    c_ptr,
    M,
    N,
    stride_pk,
    stride_pm,
    stride_pn,
    stride_cm,
    stride_cn,
    BLOCK_SIZE_M: tl.constexpr,
    BLOCK_SIZE_N: tl.constexpr,
    NUM_KSPLIT: tl.constexpr,
    MAX_KSPLIT: tl.constexpr,
):
    """C = the sum of the NUM_KSPLIT partials. MAX_KSPLIT is NUM_KSPLIT rounded up to a power of two.

    The grid is (cdiv(M, BLOCK_SIZE_M), cdiv(N, BLOCK_SIZE_N)).
    """
    stride_pk = tl.cast(stride_pk, tl.int64)
    stride_pm = tl.cast(stride_pm, tl.int64)
    stride_pn = tl.cast(stride_pn, tl.int64)
    stride_cm = tl.cast(stride_cm, tl.int64)
    stride_cn = tl.cast(stride_cn, tl.int64)

    offs_m = (tl.program_id(axis=0) * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)) % M
    offs_n = (tl.program_id(axis=1) * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)) % N
    offs_k = tl.arange(0, MAX_KSPLIT)
    offs_p = offs_m[:, None] * stride_pm + offs_n[None, :] * stride_pn
    partial_ptrs = partials_ptr + offs_k[:, None, None] * stride_pk + offs_p[None, :, :]
    partials = tl.load(partial_ptrs, mask=offs_k[:, None, None] < NUM_KSPLIT, other=0.0)
    c = tl.sum(partials, axis=0)

    # No mask: beyond the edge the offsets wrap around, and an element that is stored twice is stored equal.
    c_ptrs = c_ptr + offs_m[:, None] * stride_cm + offs_n[None, :] * stride_cn
    tl.store(c_ptrs, c.to(c_ptr.type.element_ty))
