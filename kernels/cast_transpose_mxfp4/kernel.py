"""MXFP4 quantization of a matrix and of its transpose, each element loaded once.

A row of codes is 4 bits an element, the even index in the low nibble; a block is 32 elements of a row with one E8M0
scale byte. Columnwise is the same of the transposed matrix: its blocks run along M.

Every rule is integer arithmetic on fp32's bits, or exact in fp32, so that no compiler's choice moves a result.
"""

import triton
import triton.language as tl


@triton.jit
def _scale_bytes(amax):
    """The scale byte of blocks with these largest magnitudes, given as the bits of fp32 numbers (uint32).

    The scale is the power of two two below amax's, and one more where amax >= 1.75 * 2^e, which rounds to 8 at two
    significant bits: 2^22 / 2 added to the bits carries into the exponent there. A block of zeros gets byte 0.
    """
    exponent = (amax + 0x200000) >> 23
    byte = tl.maximum(exponent, 2) - 2
    # From 1.75 * 2^127 on the sum is Inf: upstream clamps log2(Inf) to the largest scale.
    return tl.where(exponent >= 255, 254, byte)


@triton.jit
def _e2m1(x):
    """E2M1 codes, sign included, of fp32 numbers: ties to even.

    A block's own scale leaves magnitudes below 7, which round to 6 at most. Only a NaN or an Inf is above: its code
    is kept within its four bits.
    """
    bits = x.to(tl.uint32, bitcast=True)
    sign = (bits >> 31) << 3
    bits &= 0x7FFFFFFF
    # One mantissa bit is kept, 22 are rounded away; a carry moves on into the exponent, as it should.
    normal = ((bits + 0x1FFFFF + ((bits >> 22) & 1)) >> 22) - (126 << 1)
    # Below 1 the codes are multiples of 0.5, and so is what fp32 holds between 2^22 and 2^23: let the sum round.
    small = bits.to(tl.float32, bitcast=True) + 4194304.0
    small = small.to(tl.uint32, bitcast=True) - 0x4A800000
    return sign | tl.where(bits < 0x3F800000, small, tl.minimum(normal, 7))


@triton.jit
def _quantize(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """A tile fp32 (ROWS, COLUMNS) as packed codes (ROWS, COLUMNS / 2) and scale bytes (ROWS, COLUMNS / 32), uint8."""
    x = x.reshape(ROWS, COLUMNS // 32, 32)
    # As integers, magnitudes are in the order of the numbers, Inf above them and NaN above Inf: no NaN is lost.
    amax = tl.max(x.to(tl.uint32, bitcast=True) & 0x7FFFFFFF, axis=2)
    scales = _scale_bytes(amax)
    # The reciprocal of 2^(byte - 127). That of byte 254 is subnormal: an exponent field of 0 would make it zero.
    reciprocal = tl.where(scales < 254, (254 - scales) << 23, 0x400000)
    codes = _e2m1(x * reciprocal.to(tl.float32, bitcast=True)[:, :, None])
    low, high = tl.split(codes.reshape(ROWS, COLUMNS // 2, 2))
    # A block with a NaN or an Inf is NaN as a whole; its codes then mean nothing.
    scales = tl.where(amax >= 0x7F800000, 255, scales)
    return (low | high << 4).to(tl.uint8), scales.to(tl.uint8)


@triton.jit
def _store_codes(ptr, codes, offs_row, offs_byte, ROWS, BYTES, stride_row, stride_byte, SHUFFLED: tl.constexpr):
    """Codes at rows and bytes of an output (ROWS, BYTES).

    Shuffled, 16 rows x 16 bytes are 256 consecutive bytes: what a 16x16 matrix instruction reads in one go. ROWS is
    then a multiple of 16, BYTES of 32, and the strides are not used.
    """
    row, byte = offs_row[:, None].to(tl.int64), offs_byte[None, :].to(tl.int64)
    if SHUFFLED:
        ptrs = ptr + row // 16 * 16 * BYTES + byte // 16 * 256 + row % 16 * 16 + byte % 16
    else:
        ptrs = ptr + row * stride_row + byte * stride_byte
    tl.store(ptrs, codes, mask=(offs_row[:, None] < ROWS) & (offs_byte[None, :] < BYTES))


@triton.jit
def _store_scales(
    ptr,
    scales,
    offs_row,
    offs_group,
    ROWS,
    GROUPS,
    stride_row,
    stride_group,
    SHUFFLED: tl.constexpr,
    PADDING: tl.constexpr,
):
    """Scale bytes at rows and groups of an output (ROWS, GROUPS).

    Shuffled, the output is padded to whole 256 rows x 8 groups, the programs cover all of it, and PADDING is stored
    where there is no block. 32 rows x 8 groups are 256 consecutive bytes in the order (group % 4, row % 16,
    group % 8 // 4, row % 32 // 16). The strides are not used.
    """
    row, group = offs_row[:, None].to(tl.int64), offs_group[None, :].to(tl.int64)
    mask = (offs_row[:, None] < ROWS) & (offs_group[None, :] < GROUPS)
    if SHUFFLED:
        padded_groups = tl.cdiv(GROUPS, 8) * 8
        ptrs = ptr + row // 32 * 32 * padded_groups + group // 8 * 256
        ptrs += group % 4 * 64 + row % 16 * 4 + group % 8 // 4 * 2 + row % 32 // 16
        tl.store(ptrs, tl.where(mask, scales, PADDING).to(tl.uint8))
    else:
        tl.store(ptr + row * stride_row + group * stride_group, scales, mask=mask)


@triton.jit
def cast_transpose_mxfp4_kernel(
    x_ptr,
    row_codes_ptr,
    row_scales_ptr,
    col_codes_ptr,
    col_scales_ptr,
    M,
    N,
    num_pid_n,
    stride_xm,
    stride_xn,
    stride_rcm,
    stride_rcn,
    stride_rsm,
    stride_rsn,
    stride_ccn,
    stride_ccm,
    stride_csn,
    stride_csm,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ROWWISE: tl.constexpr,
    COLUMNWISE: tl.constexpr,
    CODES_SHUFFLED: tl.constexpr,
    SCALES_SHUFFLED: tl.constexpr,
    SCALES_PADDING: tl.constexpr,
):
    """One (BLOCK_M, BLOCK_N) tile of x (M, N), M and N multiples of 32: in blocks along N (rowwise), M (columnwise).

    Rowwise codes are (M, N / 2) and scales (M, N / 32), columnwise (N, M / 2) and (N, M / 32), before any shuffle. The
    grid is (M tiles * num_pid_n,). With shuffled scales the tiles cover M and N rounded up to 256, which is as far
    as the padding of either direction goes: 256 rows of scales, or 8 groups of 32 elements.
    """
    # Offsets are products with a stride: 64 bits, since a large operand overflows 32.
    stride_xm = tl.cast(stride_xm, tl.int64)
    stride_xn = tl.cast(stride_xn, tl.int64)

    pid = tl.program_id(axis=0)
    start_m = pid // num_pid_n * BLOCK_M
    start_n = pid % num_pid_n * BLOCK_N
    offs_m = start_m + tl.arange(0, BLOCK_M)
    offs_n = start_n + tl.arange(0, BLOCK_N)
    x_ptrs = x_ptr + offs_m[:, None] * stride_xm + offs_n[None, :] * stride_xn
    x_mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)
    x = tl.load(x_ptrs, mask=x_mask, other=0.0).to(tl.float32)

    if ROWWISE:
        codes, scales = _quantize(x, BLOCK_M, BLOCK_N)
        offs_byte = start_n // 2 + tl.arange(0, BLOCK_N // 2)
        offs_group = start_n // 32 + tl.arange(0, BLOCK_N // 32)
        _store_codes(row_codes_ptr, codes, offs_m, offs_byte, M, N // 2, stride_rcm, stride_rcn, CODES_SHUFFLED)
        _store_scales(
            row_scales_ptr,
            scales,
            offs_m,
            offs_group,
            M,
            N // 32,
            stride_rsm,
            stride_rsn,
            SCALES_SHUFFLED,
            SCALES_PADDING,
        )
    if COLUMNWISE:
        codes, scales = _quantize(tl.trans(x), BLOCK_N, BLOCK_M)
        offs_byte = start_m // 2 + tl.arange(0, BLOCK_M // 2)
        offs_group = start_m // 32 + tl.arange(0, BLOCK_M // 32)
        _store_codes(col_codes_ptr, codes, offs_n, offs_byte, N, M // 2, stride_ccn, stride_ccm, CODES_SHUFFLED)
        _store_scales(
            col_scales_ptr,
            scales,
            offs_n,
            offs_group,
            N,
            M // 32,
            stride_csn,
            stride_csm,
            SCALES_SHUFFLED,
            SCALES_PADDING,
        )
