"""NVFP4 quantization with swizzled scales, and the GEMM that reads them.

Units, since they differ: K and BLOCK_K of the GEMM count bytes (two E2M1 codes each, the low nibble has the even k), K
of the quantization counts elements. A group is the 16 elements, 8 bytes, that share an E4M3 scale.

ROW_TILE is the layout of scales: 128 or 8 rows by 4 groups are stored together (see `_scale_offsets`), and 0 stands
for scales with strides, row by row.
"""

import triton
import triton.language as tl

LARGEST_E4M3 = tl.constexpr(448.0)
NAN_E4M3 = tl.constexpr(0x7F)
LARGEST_FP32 = tl.constexpr(3.4028234663852886e38)
INFINITY_BITS = tl.constexpr(0x7F800000)


@triton.jit
def _scale_offsets(rows, groups, tiles_across, stride_row, stride_group, ROW_TILE: tl.constexpr):
    """Offsets (rows, groups) of scales. A tile of ROW_TILE rows by 4 groups is contiguous, tiles lie row by row.

    A tile of 8 rows is stored as it is. In one of 128 rows, row r stands at r % 32, and the four rows that share a
    place lie beside each other, their 4 groups each.
    """
    rows = rows.to(tl.int64)[:, None]
    groups = groups[None, :]
    if ROW_TILE == 128:
        offsets = (rows // 128 * tiles_across + groups // 4) * 512
        offsets += rows % 32 * 16 + rows % 128 // 32 * 4 + groups % 4
    elif ROW_TILE == 8:
        offsets = (rows // 8 * tiles_across + groups // 4) * 32 + rows % 8 * 4 + groups % 4
    else:
        offsets = rows * stride_row + groups * stride_group
    return offsets


@triton.jit
def _to_e2m1(x):
    """E2M1 codes, one a byte, of fp32 numbers: to nearest, ties to even, saturating; the sign of zero is kept.

    A threshold is the middle of two neighbours. It goes to the code that is even: down at > and up at >=.
    """
    bits = x.to(tl.int32, bitcast=True)
    magnitude = tl.abs(x)
    code = (magnitude > 0.25).to(tl.uint8)
    code += (magnitude >= 0.75).to(tl.uint8)
    code += (magnitude > 1.25).to(tl.uint8)
    code += (magnitude >= 1.75).to(tl.uint8)
    code += (magnitude > 2.5).to(tl.uint8)
    code += (magnitude >= 3.5).to(tl.uint8)
    code += (magnitude > 5.0).to(tl.uint8)
    return code | (bits >> 28 & 8).to(tl.uint8)


@triton.jit
def quantize_nvfp4_kernel(
    x_ptr,
    codes_ptr,
    scales_ptr,
    global_scale_ptr,
    M,
    K,
    PADDED_M,
    PADDED_GROUPS,
    stride_xm,
    stride_xk,
    stride_cm,
    stride_ck,
    stride_sm,
    stride_sg,
    BLOCK_M: tl.constexpr,
    BLOCK_GROUPS: tl.constexpr,
    ROW_TILE: tl.constexpr,
    EXACT: tl.constexpr,
):
    """One (BLOCK_M, BLOCK_GROUPS * 16) tile of X (M, K) as E2M1 codes (M, K / 2) and E4M3 scales.

    Scales are written for PADDED_M rows and PADDED_GROUPS groups, 0 where X has none: a GEMM multiplies what stands
    there. The grid is (cdiv(M, BLOCK_M), cdiv(PADDED_GROUPS, BLOCK_GROUPS)).
    """
    # Offsets are products with a stride: 64 bits, since a large or a transposed operand overflows 32.
    stride_xm = tl.cast(stride_xm, tl.int64)
    stride_xk = tl.cast(stride_xk, tl.int64)
    stride_cm = tl.cast(stride_cm, tl.int64)
    stride_ck = tl.cast(stride_ck, tl.int64)
    stride_sm = tl.cast(stride_sm, tl.int64)
    stride_sg = tl.cast(stride_sg, tl.int64)

    pid_m = tl.program_id(axis=0)
    first_group = tl.program_id(axis=1) * BLOCK_GROUPS
    rows = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    groups = first_group + tl.arange(0, BLOCK_GROUPS)
    columns = first_group * 16 + tl.arange(0, BLOCK_GROUPS * 16)
    x_ptrs = x_ptr + rows[:, None] * stride_xm + columns[None, :] * stride_xk
    x = tl.load(x_ptrs, mask=(rows[:, None] < M) & (columns[None, :] < K), other=0.0)
    x = x.to(tl.float32).reshape(BLOCK_M, BLOCK_GROUPS, 16)

    # As integers magnitudes keep their order, and a NaN is the largest: a maximum of floats would lose it.
    amax_bits = tl.max(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=2)
    finite = amax_bits < INFINITY_BITS
    amax = tl.where(finite, amax_bits, 0).to(tl.float32, bitcast=True)

    # Divisions are correctly rounded: a reciprocal one ulp off moves values over a threshold.
    global_scale = tl.load(global_scale_ptr).to(tl.float32)
    scale = amax * (global_scale * (1.0 / 6.0)) if EXACT else global_scale * (amax * (1.0 / 6.0))
    scale = tl.minimum(scale, LARGEST_E4M3).to(tl.float8e4nv)
    decoded = scale.to(tl.float32)
    reciprocal = tl.div_rn(tl.full(decoded.shape, 1.0, tl.float32), decoded * tl.div_rn(1.0, global_scale))
    multiplier = tl.minimum(reciprocal, LARGEST_FP32) if EXACT else tl.where(decoded == 0, 0.0, reciprocal)

    codes = _to_e2m1(x * multiplier[:, :, None]).reshape(BLOCK_M, BLOCK_GROUPS * 8, 2)
    low, high = tl.split(codes)
    packed = first_group * 8 + tl.arange(0, BLOCK_GROUPS * 8)
    codes_ptrs = codes_ptr + rows[:, None] * stride_cm + packed[None, :] * stride_ck
    tl.store(codes_ptrs, low | high << 4, mask=(rows[:, None] < M) & (packed[None, :] < K // 2))

    # A block with a NaN or an Inf is NaN as a whole. Rows and columns beyond X were loaded as zeros: scale 0.
    scale_bytes = tl.where(finite, scale.to(tl.uint8, bitcast=True), NAN_E4M3)
    tiles_across = PADDED_GROUPS // 4
    offsets = _scale_offsets(rows, groups, tiles_across, stride_sm, stride_sg, ROW_TILE)
    in_buffer = (rows[:, None] < PADDED_M) & (groups[None, :] < PADDED_GROUPS)
    tl.store(scales_ptr + offsets, scale_bytes, mask=in_buffer)

    # The rows that no tile of X reaches.
    num_pid_m = tl.num_programs(axis=0)
    for start in range((num_pid_m + pid_m) * BLOCK_M, PADDED_M, num_pid_m * BLOCK_M):
        fill_rows = start + tl.arange(0, BLOCK_M)
        fill_offsets = _scale_offsets(fill_rows, groups, tiles_across, stride_sm, stride_sg, ROW_TILE)
        fill_mask = (fill_rows[:, None] < PADDED_M) & (groups[None, :] < PADDED_GROUPS)
        tl.store(scales_ptr + fill_offsets, tl.zeros((BLOCK_M, BLOCK_GROUPS), tl.uint8), mask=fill_mask)


@triton.jit
def _dequantize(codes, scales, ROWS: tl.constexpr, BYTES: tl.constexpr):
    """Codes (ROWS, BYTES) and E4M3 scale bytes (ROWS, BYTES / 8) as two fp16 (ROWS, BYTES): the even k, the odd k.

    Exact: a product has 2 + 4 significant bits and lies in 2^-10 .. 2688, which fp16 holds.
    """
    scale = scales.to(tl.float8e4nv, bitcast=True).to(tl.float16)
    scale = tl.broadcast_to(scale[:, :, None], (ROWS, BYTES // 8, 8)).reshape(ROWS, BYTES)
    # A code's exponent and fraction, moved to where fp16's meet: the number is right but for the bias, 15 against 1.
    codes = codes.to(tl.uint16)
    even = ((codes & 0x7) << 9 | (codes & 0x8) << 12).to(tl.float16, bitcast=True) * 16384.0
    odd = ((codes & 0x70) << 5 | (codes & 0x80) << 8).to(tl.float16, bitcast=True) * 16384.0
    return even * scale, odd * scale


@triton.jit
def gemm_nvfp4_kernel(
    a_ptr,
    b_ptr,
    c_ptr,
    a_scales_ptr,
    b_scales_ptr,
    alpha_ptr,
    bias_ptr,
    M,
    N,
    K,
    a_tiles_across,
    b_tiles_across,
    stride_am,
    stride_ak,
    stride_bn,
    stride_bk,
    stride_cm,
    stride_cn,
    stride_asm,
    stride_asg,
    stride_bsn,
    stride_bsg,
    stride_bias,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    A_ROW_TILE: tl.constexpr,
    B_ROW_TILE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """One (BLOCK_M, BLOCK_N) tile of C = alpha * (A * A_scales) @ (B * B_scales)^T + bias.

    A is (M, K), B is (N, K), C is (M, N), bias is (N,), alpha one fp32. The grid is cdiv(M, BLOCK_M) *
    cdiv(N, BLOCK_N).
    """
    stride_am = tl.cast(stride_am, tl.int64)
    stride_ak = tl.cast(stride_ak, tl.int64)
    stride_bn = tl.cast(stride_bn, tl.int64)
    stride_bk = tl.cast(stride_bk, tl.int64)
    stride_cm = tl.cast(stride_cm, tl.int64)
    stride_cn = tl.cast(stride_cn, tl.int64)
    stride_asm = tl.cast(stride_asm, tl.int64)
    stride_asg = tl.cast(stride_asg, tl.int64)
    stride_bsn = tl.cast(stride_bsn, tl.int64)
    stride_bsg = tl.cast(stride_bsg, tl.int64)
    stride_bias = tl.cast(stride_bias, tl.int64)

    # Programs that follow each other share tiles of B: better reuse of the L2.
    pid = tl.program_id(axis=0)
    num_pid_m = tl.cdiv(M, BLOCK_M)
    num_pid_n = tl.cdiv(N, BLOCK_N)
    num_pid_in_group = GROUP_M * num_pid_n
    first_pid_m = pid // num_pid_in_group * GROUP_M
    group_size_m = tl.minimum(num_pid_m - first_pid_m, GROUP_M)
    pid_m = first_pid_m + pid % num_pid_in_group % group_size_m
    pid_n = pid % num_pid_in_group // group_size_m

    # Rows and columns beyond the edge wrap around: what they load is valid and is never stored.
    rows_a = (pid_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    rows_b = (pid_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    offs_k = tl.arange(0, BLOCK_K)
    offs_g = tl.arange(0, BLOCK_K // 8)
    a_ptrs = a_ptr + rows_a[:, None] * stride_am + offs_k[None, :] * stride_ak
    b_ptrs = b_ptr + rows_b[:, None] * stride_bn + offs_k[None, :] * stride_bk

    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        k_left = K - k
        groups_left = k_left // 8
        groups = k // 8 + offs_g
        a_offsets = _scale_offsets(rows_a, groups, a_tiles_across, stride_asm, stride_asg, A_ROW_TILE)
        b_offsets = _scale_offsets(rows_b, groups, b_tiles_across, stride_bsn, stride_bsg, B_ROW_TILE)
        a = tl.load(a_ptrs, mask=offs_k[None, :] < k_left, other=0)
        b = tl.load(b_ptrs, mask=offs_k[None, :] < k_left, other=0)
        # Beyond K the codes are zero, but 0 * NaN is NaN: the scales have to be zero too.
        a_scales = tl.load(a_scales_ptr + a_offsets, mask=offs_g[None, :] < groups_left, other=0)
        b_scales = tl.load(b_scales_ptr + b_offsets, mask=offs_g[None, :] < groups_left, other=0)
        # One dot for the even k and one for the odd: the two halves of a byte never need to be interleaved.
        a_even, a_odd = _dequantize(a, a_scales, BLOCK_M, BLOCK_K)
        b_even, b_odd = _dequantize(b, b_scales, BLOCK_N, BLOCK_K)
        acc = tl.dot(a_even, tl.trans(b_even), acc)
        acc = tl.dot(a_odd, tl.trans(b_odd), acc)
        a_ptrs += BLOCK_K * stride_ak
        b_ptrs += BLOCK_K * stride_bk

    acc *= tl.load(alpha_ptr)
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    if HAS_BIAS:
        # What stands in the lanes beyond N is undefined, and not stored.
        bias = tl.load(bias_ptr + offs_n * stride_bias, mask=offs_n < N)
        acc += bias.to(tl.float32)[None, :]
    c_ptrs = c_ptr + offs_m[:, None] * stride_cm + offs_n[None, :] * stride_cn
    c_mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)
    tl.store(c_ptrs, acc.to(c_ptr.type.element_ty), mask=c_mask)
