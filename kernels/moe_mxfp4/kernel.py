"""The grouped GEMM of a mixture of experts over packed MXFP4 weights; its activation; the sum over the experts.

Units, since they differ: K, BLOCK_SIZE_K and every offset along K of A count elements. Along K, B holds bytes of two
E2M1 codes each (the low nibble has the even k), so its offsets there are halves of A's. One E8M0 scale covers 32
elements, 16 bytes; the last group of a row may be short.

A slot is one of the TOP_K experts of a token: slot s belongs to token s // TOP_K. The programs along M work on slots
in the order of `sorted_token_ids`, in which every block of BLOCK_SIZE_M has one expert (see align.py).
"""

import triton
import triton.language as tl


@triton.jit
def _decode_e2m1(codes):
    """bf16 of the E2M1 codes in the low nibbles of bytes."""
    magnitude = (codes & 0x7).to(tl.uint16)
    # From 1.0 on, exponent and mantissa bit are those of bf16, biased differently. 0.5 is E2M1's one subnormal number.
    normal = (magnitude << 6) + 0x3F00
    bits = tl.where(magnitude < 2, magnitude * 0x3F00, normal)
    sign = (codes & 0x8).to(tl.uint16) << 12
    return (bits | sign).to(tl.uint16).to(tl.bfloat16, bitcast=True)


@triton.jit
def _decode_e8m0(scales):
    """bf16 of E8M0 bytes, read as an exponent: byte 0 is 0.0 (not 2^-127) and 255 is Inf (not NaN)."""
    return (scales.to(tl.uint16) << 7).to(tl.bfloat16, bitcast=True)


# What differs from call to call must not be compiled in.
@triton.jit(do_not_specialize=["EM", "num_valid_tokens"])
def fused_moe_mxfp4_kernel(
    a_ptr,
    b_ptr,
    c_ptr,
    b_scale_ptr,
    b_bias_ptr,
    topk_weights_ptr,
    sorted_token_ids_ptr,
    expert_ids_ptr,
    num_tokens_post_padded_ptr,
    N,
    K,
    EM,
    num_valid_tokens,
    stride_am,
    stride_ak,
    stride_be,
    stride_bn,
    stride_bk,
    stride_cm,
    stride_cn,
    stride_bse,
    stride_bsn,
    stride_bsk,
    stride_bbe,
    stride_bbn,
    BLOCK_SIZE_M: tl.constexpr,
    BLOCK_SIZE_N: tl.constexpr,
    BLOCK_SIZE_K: tl.constexpr,
    GROUP_SIZE_M: tl.constexpr,
    TOP_K: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    MUL_ROUTED_WEIGHT: tl.constexpr,
):
    """One tile of C[slot] = (A[slot // TOP_K] @ B[expert].T + bias[expert]) * weight[slot].

    A is (num_valid_tokens / TOP_K, K), B (E, N, K / 2), C (num_valid_tokens, N), the scales (E, N, cdiv(K, 32)), the
    bias (E, N), K even. EM bounds num_tokens_post_padded: the grid is cdiv(EM, BLOCK_SIZE_M) * cdiv(N, BLOCK_SIZE_N).
    Slots of the expert -1 get zeros. Slots that `sorted_token_ids` does not hold are not written.
    """
    # Offsets are products with a stride: 64 bits, since the weights of all experts overflow 32.
    stride_am = tl.cast(stride_am, tl.int64)
    stride_ak = tl.cast(stride_ak, tl.int64)
    stride_be = tl.cast(stride_be, tl.int64)
    stride_bn = tl.cast(stride_bn, tl.int64)
    stride_bk = tl.cast(stride_bk, tl.int64)
    stride_cm = tl.cast(stride_cm, tl.int64)
    stride_cn = tl.cast(stride_cn, tl.int64)
    stride_bse = tl.cast(stride_bse, tl.int64)
    stride_bsn = tl.cast(stride_bsn, tl.int64)
    stride_bsk = tl.cast(stride_bsk, tl.int64)
    stride_bbe = tl.cast(stride_bbe, tl.int64)
    stride_bbn = tl.cast(stride_bbn, tl.int64)

    # Programs that follow each other share tiles of B: better reuse of the L2.
    pid = tl.program_id(axis=0)
    num_pid_m = tl.cdiv(EM, BLOCK_SIZE_M)
    num_pid_n = tl.cdiv(N, BLOCK_SIZE_N)
    num_pid_in_group = GROUP_SIZE_M * num_pid_n
    first_pid_m = pid // num_pid_in_group * GROUP_SIZE_M
    group_size_m = tl.minimum(num_pid_m - first_pid_m, GROUP_SIZE_M)
    pid_m = first_pid_m + pid % num_pid_in_group % group_size_m
    pid_n = pid % num_pid_in_group // group_size_m

    # How many blocks there are is known to the device alone, so the grid is for the most there can be.
    num_tokens_post_padded = tl.load(num_tokens_post_padded_ptr)
    if pid_m * BLOCK_SIZE_M >= num_tokens_post_padded:
        return

    # No mask: num_tokens_post_padded is a whole number of blocks. An expert's last block is filled up with ids of
    # num_valid_tokens, which are no slots.
    offs_sorted = pid_m * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)
    offs_slot = tl.load(sorted_token_ids_ptr + offs_sorted).to(tl.int64)
    slot_mask = offs_slot < num_valid_tokens

    offs_cn = pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)
    c_ptrs = c_ptr + offs_slot[:, None] * stride_cm + offs_cn[None, :] * stride_cn
    c_mask = slot_mask[:, None] & (offs_cn[None, :] < N)

    expert = tl.load(expert_ids_ptr + pid_m).to(tl.int64)
    if expert == -1:
        # Not on this device. The sum over the experts reads these slots all the same.
        zeros = tl.zeros((BLOCK_SIZE_M, BLOCK_SIZE_N), dtype=c_ptr.type.element_ty)
        tl.store(c_ptrs, zeros, mask=c_mask)
        return

    # Columns beyond the edge wrap around: what they load is valid and is never stored.
    offs_bn = offs_cn % N
    offs_token = offs_slot // TOP_K
    offs_byte = tl.arange(0, BLOCK_SIZE_K // 2)
    a_ptrs = a_ptr + offs_token[:, None] * stride_am + (2 * offs_byte)[None, :] * stride_ak
    b_ptrs = b_ptr + expert * stride_be + offs_bn[None, :] * stride_bn + offs_byte[:, None] * stride_bk
    # One scale for each byte and column: 16 bytes share theirs, and find it in the cache.
    offs_group = offs_byte // 16
    b_scale_ptrs = b_scale_ptr + expert * stride_bse + offs_bn[None, :] * stride_bsn + offs_group[:, None] * stride_bsk

    acc = tl.zeros((BLOCK_SIZE_M, BLOCK_SIZE_N), dtype=tl.float32)
    for k_start in range(0, K, BLOCK_SIZE_K):
        k_left = K - k_start
        a_mask = slot_mask[:, None] & (2 * offs_byte[None, :] < k_left)
        b_mask = offs_byte[:, None] < k_left // 2
        a_even = tl.load(a_ptrs, mask=a_mask, other=0.0)
        a_odd = tl.load(a_ptrs + stride_ak, mask=a_mask, other=0.0)
        packed = tl.load(b_ptrs, mask=b_mask, other=0)
        # Byte by byte, not group by group: beyond K, in the last group too, 0 times a scale of Inf would be NaN.
        # 127 is 1.0.
        scales = _decode_e8m0(tl.load(b_scale_ptrs, mask=b_mask, other=127))
        # Interleaving the nibbles into one tile costs a shuffle. Even and odd columns of A, each with its half, do not.
        b_even = _decode_e2m1(packed) * scales
        b_odd = _decode_e2m1(packed >> 4) * scales
        acc = tl.dot(a_even, b_even, acc)
        acc = tl.dot(a_odd, b_odd, acc)
        a_ptrs += BLOCK_SIZE_K * stride_ak
        b_ptrs += BLOCK_SIZE_K // 2 * stride_bk
        b_scale_ptrs += BLOCK_SIZE_K // 32 * stride_bsk

    if HAS_BIAS:
        bias = tl.load(b_bias_ptr + expert * stride_bbe + offs_bn * stride_bbn)
        acc += bias[None, :].to(tl.float32)
    if MUL_ROUTED_WEIGHT:
        weight = tl.load(topk_weights_ptr + offs_slot, mask=slot_mask, other=0.0)
        acc *= weight[:, None]
    tl.store(c_ptrs, acc.to(c_ptr.type.element_ty), mask=c_mask)


@triton.jit(do_not_specialize=["M"])
def gated_activation_kernel(
    x_ptr,
    y_ptr,
    M,
    D,
    stride_xm,
    stride_xn,
    stride_ym,
    stride_yn,
    ALPHA,
    LIMIT,
    ACTIVATION: tl.constexpr,
    BLOCK_SIZE_M: tl.constexpr,
    BLOCK_SIZE_N: tl.constexpr,
):
    """Y (M, D) = act(gate) * up, of X (M, 2 D): its halves, or its even and odd columns for SwiGLU as in gpt-oss.

    In fp32 up to the store. The grid is (cdiv(M, BLOCK_SIZE_M), cdiv(D, BLOCK_SIZE_N)).
    """
    offs_m = (tl.program_id(axis=0) * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)).to(tl.int64)
    offs_n = (tl.program_id(axis=1) * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)).to(tl.int64)
    mask = (offs_m[:, None] < M) & (offs_n[None, :] < D)
    if ACTIVATION == "swiglu_oai":
        offs_gate, offs_up = 2 * offs_n, 2 * offs_n + 1
    else:
        offs_gate, offs_up = offs_n, offs_n + D
    rows = x_ptr + offs_m[:, None] * stride_xm
    gate = tl.load(rows + offs_gate[None, :] * stride_xn, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(rows + offs_up[None, :] * stride_xn, mask=mask, other=0.0).to(tl.float32)
    if ACTIVATION == "silu":
        y = gate * tl.sigmoid(gate) * up
    elif ACTIVATION == "gelu":
        y = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476)) * up
    else:
        tl.static_assert(ACTIVATION == "swiglu_oai")
        gate = tl.minimum(gate, LIMIT)
        up = tl.minimum(tl.maximum(up, -LIMIT), LIMIT)
        y = (up + 1.0) * (gate * tl.sigmoid(gate * ALPHA))
    y_ptrs = y_ptr + offs_m[:, None] * stride_ym + offs_n[None, :] * stride_yn
    tl.store(y_ptrs, y.to(y_ptr.type.element_ty), mask=mask)


@triton.jit(do_not_specialize=["M"])
def moe_sum_kernel(
    x_ptr,
    y_ptr,
    M,
    N,
    stride_xm,
    stride_xt,
    stride_xn,
    stride_ym,
    stride_yn,
    TOP_K: tl.constexpr,
    BLOCK_SIZE_M: tl.constexpr,
    BLOCK_SIZE_N: tl.constexpr,
):
    """Y (M, N) = the sum of X (M, TOP_K, N) over its slots, in fp32.

    The grid is (cdiv(M, BLOCK_SIZE_M), cdiv(N, BLOCK_SIZE_N)).
    """
    offs_m = (tl.program_id(axis=0) * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)).to(tl.int64)
    offs_n = (tl.program_id(axis=1) * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)).to(tl.int64)
    mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)
    x_ptrs = x_ptr + offs_m[:, None] * stride_xm + offs_n[None, :] * stride_xn
    acc = tl.zeros((BLOCK_SIZE_M, BLOCK_SIZE_N), dtype=tl.float32)
    for slot in tl.static_range(TOP_K):
        acc += tl.load(x_ptrs + slot * stride_xt, mask=mask, other=0.0).to(tl.float32)
    tl.store(
        y_ptr + offs_m[:, None] * stride_ym + offs_n[None, :] * stride_yn, acc.to(y_ptr.type.element_ty), mask=mask
    )
