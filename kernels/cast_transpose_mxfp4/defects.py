"""Real bugs of MXFP4 quantization kernels, to plant in this one; and its legitimate tricks, to leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from fp4guard.fuzzing import Control, Defect, Edit

from .configs import CONFIGS

_TE = "Transformer Engine's MXFP4 cast-transpose"

_ROUNDING = (
    Defect(
        id="ties-away",
        edits=(Edit("kernel.py", "(bits + 0x1FFFFF + ((bits >> 22) & 1)) >> 22", "(bits + 0x200000) >> 22"),),
        kinds=("wrong-value",),
        provenance=f"AITER ece07a8b95, {_TE}",
        summary="Half a unit is added before the cut: ties at 1.25, 2.5 and 5 go away from zero. Nothing but ties "
        "shows it, and random numbers have none.",
    ),
    Defect(
        id="ties-away-subnormal",
        edits=(
            Edit(
                "kernel.py",
                "small = bits.to(tl.float32, bitcast=True) + 4194304.0\n"
                "    small = small.to(tl.uint32, bitcast=True) - 0x4A800000",
                "small = (bits.to(tl.float32, bitcast=True) * 2.0 + 0.5).to(tl.uint32)",
            ),
        ),
        kinds=("wrong-value",),
        provenance="microxcaling's default, AITER ece07a8b95",
        summary="Below 1 an element is rounded by adding a half and cutting: 0.25 becomes 0.5, and so does the number "
        "before it, since the sum itself rounds.",
    ),
    Defect(
        id="sticky-lost",
        edits=(Edit("kernel.py", "bits &= 0x7FFFFFFF", "bits &= 0x7FFF0000"),),
        kinds=("wrong-value",),
        provenance="triton_kernels 0616e645",
        summary="The lower half of the bits is dropped before rounding: what is just above a tie becomes a tie. "
        "Triggered by 0.25 * (1 + 2^-23) and its like, which bfloat16 does not have.",
    ),
    Defect(
        id="zero-sign-dropped",
        edits=(
            Edit(
                "kernel.py",
                "sign = (bits >> 31) << 3",
                "sign = tl.where(x < 0, 8, 0).to(tl.uint32)",
            ),
        ),
        kinds=("wrong-value",),
        provenance=f"{_TE}: -0 has no stated rule",
        summary="The sign is taken from a comparison, which says that -0 is not below 0.",
    ),
)

_SCALES = (
    Defect(
        id="negative-to-uint8",
        edits=(
            Edit(
                "kernel.py",
                "byte = tl.maximum(exponent, 2) - 2",
                "byte = ((tl.maximum(exponent, 2).to(tl.float32) - 129.0).to(tl.uint8) + 127).to(tl.uint32) & 0xFF",
            ),
        ),
        kinds=("undefined-value", "wrong-value"),
        provenance=f"{_TE}; AITER",
        summary="A negative exponent, as a float, is converted to uint8 before the bias is added: any result is right "
        "for the compiler. Triggered by amax < 4.",
    ),
    Defect(
        id="scale-254-flush",
        edits=(Edit("kernel.py", "tl.where(scales < 254, (254 - scales) << 23, 0x400000)", "(254 - scales) << 23"),),
        kinds=("wrong-value",),
        provenance="FlashInfer #4023",
        summary="The reciprocal of the largest scale is subnormal, and an exponent field alone makes it zero: the "
        "block's elements are lost. Triggered by amax >= 1.75 * 2^127.",
    ),
    Defect(
        id="e8m0-shift",
        edits=(
            Edit(
                "kernel.py",
                "reciprocal = tl.where(scales < 254, (254 - scales) << 23, 0x400000)",
                "reciprocal = (1.0 / (scales << 23).to(tl.float32, bitcast=True)).to(tl.uint32, bitcast=True)",
            ),
        ),
        kinds=("wrong-value",),
        provenance="several kernels decode E8M0 by a shift",
        summary="Scale byte 0 is decoded as 0.0, and the reciprocal is Inf: the codes of zeros and of the smallest "
        "numbers are those of NaN and Inf.",
    ),
    Defect(
        id="zero-block-127",
        edits=(
            Edit(
                "kernel.py",
                "return tl.where(exponent >= 255, 254, byte)",
                "return tl.where(amax == 0, 127, tl.where(exponent >= 255, 254, byte))",
            ),
        ),
        kinds=("wrong-value",),
        provenance=f"{_TE}: byte 0 in one version, 127 in another",
        summary="A block of zeros gets the scale 1, where the contract says byte 0.",
    ),
    Defect(
        id="scale-rule-floor",
        edits=(Edit("kernel.py", "exponent = (amax + 0x200000) >> 23", "exponent = amax >> 23"),),
        kinds=("wrong-value",),
        provenance=f"{_TE}: the upstream test allows scale bytes to be off by 2",
        summary="The scale's exponent is not rounded: it is one too small from a significand of 1.75 on.",
    ),
    Defect(
        id="scale-inf-clamp",
        edits=(Edit("kernel.py", "return tl.where(exponent >= 255, 254, byte)", "return byte"),),
        kinds=("wrong-value",),
        provenance=f"{_TE}: floor(log2(Inf)), clamped, against integer arithmetic",
        summary="From 1.75 * 2^127 on the byte is 253, where upstream's is 254.",
    ),
    Defect(
        id="nan-lost",
        edits=(
            Edit(
                "kernel.py",
                "amax = tl.max(x.to(tl.uint32, bitcast=True) & 0x7FFFFFFF, axis=2)",
                "amax = tl.max(tl.abs(x), axis=2).to(tl.uint32, bitcast=True)",
            ),
        ),
        kinds=("wrong-value",),
        provenance=f"{_TE}: its scale byte is never 255",
        summary="The maximum of floats passes over a NaN, and the block that holds it comes out as numbers.",
    ),
    Defect(
        id="inf-not-nan",
        edits=(Edit("kernel.py", "amax >= 0x7F800000, 255", "amax > 0x7F800000, 255"),),
        kinds=("wrong-value",),
        provenance=f"{_TE}: Inf has no stated rule",
        summary="A block with an Inf comes out with scale byte 254, and numbers.",
    ),
)

_PADDING = (
    Defect(
        id="shuffle-stride-valid",
        edits=(Edit("kernel.py", "padded_groups = tl.cdiv(GROUPS, 8) * 8", "padded_groups = GROUPS"),),
        kinds=("race", "wrong-value", "padding-content", "unwritten-output"),
        provenance="AITER #2900, d6cefa9783",
        summary="32 rows of shuffled scales are taken to be as long as their valid groups, not their padded ones. "
        "Triggered by more than 32 rows and K / 32 % 8 != 0.",
    ),
    Defect(
        id="shuffle-pad-floor",
        edits=(Edit("kernel.py", "tl.cdiv(GROUPS, 8) * 8", "GROUPS // 8 * 8"),),
        kinds=("race", "wrong-value", "padding-content", "unwritten-output"),
        provenance="vLLM #34632 class",
        summary="The padded number of groups is rounded down. Triggered as shuffle-stride-valid.",
    ),
    Defect(
        id="shuffle-pad-unwritten",
        edits=(
            Edit(
                "kernel.py",
                "tl.store(ptrs, tl.where(mask, scales, PADDING).to(tl.uint8))",
                "tl.store(ptrs, scales, mask=mask)",
            ),
        ),
        kinds=("unwritten-output", "padding-content"),
        provenance=f"AITER e8m0_shuffle, {_TE}",
        summary="The padding of shuffled scales is left as the allocator gave it.",
    ),
    Defect(
        id="pad-beyond-tiles",
        edits=(
            Edit(
                "launch.py",
                "rows, columns = (triton.cdiv(extent, 256) * 256 for extent in (m, n))",
                "rows, columns = m, n",
            ),
        ),
        kinds=("unwritten-output", "padding-content"),
        provenance=_TE,
        summary="Padding holds 127 as far as the tiles of the data reach, and what the allocator left beyond.",
    ),
    Defect(
        id="pad-fill-dead",
        edits=(Edit("kernel.py", "tl.where(mask, scales, PADDING)", "scales"),),
        kinds=("padding-content",),
        provenance="vLLM 086f514d class",
        summary="The fill never takes place: padding gets the scale of the zeros that masked lanes load.",
    ),
    Defect(
        id="pad-fill-linear",
        edits=(
            Edit(
                "kernel.py",
                "        tl.store(ptrs, tl.where(mask, scales, PADDING).to(tl.uint8))",
                "        ptrs = tl.where(mask, ptrs, ptr + row * padded_groups + group)\n"
                "        tl.store(ptrs, tl.where(mask, scales, PADDING).to(tl.uint8))",
            ),
        ),
        kinds=("race", "unwritten-output", "wrong-value", "padding-content"),
        provenance="vLLM 086f514d class",
        summary="Padding is stored as if the buffer were linear: 127 goes over scales, and padding stays as it was.",
    ),
    Defect(
        id="pad-two-contents",
        edits=(
            Edit("kernel.py", "tl.where(mask, scales, PADDING)", "tl.where(offs_row[:, None] < ROWS, scales, PADDING)"),
        ),
        kinds=("padding-content",),
        provenance=_TE,
        summary="Padded rows hold 127, the padded groups of valid rows 0: two contents.",
    ),
    Defect(
        id="scales-allocated-floor",
        edits=(Edit("launch.py", "(triton.cdiv(size, to) * to for", "(size // to * to for"),),
        kinds=("oob-write", "crash"),
        provenance="AITER 810bb82310 class",
        summary="The scale buffers are sized down to whole tiles, and the kernel writes whole tiles beyond.",
    ),
)

_ADDRESSES = (
    Defect(
        id="colwise-odd-m",
        edits=(
            Edit(
                "kernel.py",
                "_store_codes(col_codes_ptr, codes, offs_n, offs_byte, N, M // 2,",
                "_store_codes(col_codes_ptr, codes, offs_n, offs_byte, N, M // 64 * 32,",
            ),
        ),
        kinds=("unwritten-output", "wrong-value", "oob-write"),
        provenance=f"{_TE}, in units of blocks",
        summary="Rows are counted in pairs of blocks, and an odd one is dropped from the columnwise codes.",
    ),
    Defect(
        id="odd-m-accepted",
        edits=(Edit("launch.py", 'for name, extent in (("M", m), ("N", n)):', 'for name, extent in (("N", n),):'),),
        kinds=("crash", "unwritten-output", "oob-write", "wrong-value"),
        provenance=_TE,
        summary="M is not looked at: what is no whole block of the columnwise output is lost in silence.",
    ),
    Defect(
        id="transpose-view",
        edits=(Edit("kernel.py", "tl.trans(x)", "x.reshape(BLOCK_N, BLOCK_M)"),),
        kinds=("wrong-value",),
        provenance="AITER a75a36fdcc",
        summary="The tile is reshaped where it has to be transposed.",
    ),
    Defect(
        id="nibble-swap",
        edits=(Edit("kernel.py", "(low | high << 4)", "(high | low << 4)"),),
        kinds=("wrong-value",),
        provenance="torchao 28612d00e",
        summary="The even index is in the high nibble.",
    ),
    Defect(
        id="low-nibble-sign",
        edits=(Edit("kernel.py", "(low | high << 4)", "(low & 7 | high << 4)"),),
        kinds=("wrong-value",),
        provenance=f"{_TE}: the upstream test allows packed bytes to be off by 20",
        summary="Even elements lose their sign: a difference of 8 between bytes.",
    ),
    Defect(
        id="inferred-stride",
        edits=(Edit("kernel.py", "offs_n[None, :] * stride_xn", "offs_n[None, :]"),),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER 6740fb7911",
        summary="Rows of the input are taken to be contiguous. Triggered by a transposed input.",
    ),
    Defect(
        id="inferred-stride-out",
        edits=(Edit("kernel.py", "row * stride_row + byte * stride_byte", "row * BYTES + byte * stride_byte"),),
        kinds=("oob-write", "race", "wrong-value", "unwritten-output"),
        provenance="AITER 6740fb7911 class",
        summary="Rows of linear codes are taken to follow each other without a gap.",
    ),
    Defect(
        id="scale-offset-from-data",
        edits=(
            Edit(
                "kernel.py",
                "            stride_csn,\n            stride_csm,\n",
                "            stride_ccn,\n            stride_ccm,\n",
            ),
        ),
        kinds=("oob-write", "race", "wrong-value", "unwritten-output"),
        provenance="AITER ab978d999d",
        summary="Columnwise scales are stored with the strides of the codes. Linear scales only.",
    ),
    Defect(
        id="weight-shuffle-units",
        edits=(
            Edit(
                "kernel.py",
                "byte // 16 * 256 + row % 16 * 16 + byte % 16",
                "byte // 8 * 128 + row % 16 * 8 + byte % 8",
            ),
        ),
        kinds=("wrong-value",),
        provenance="AITER's shuffle_weight: P is 16 // itemsize, and FP4 has half a byte",
        summary="The weight shuffle moves 16 elements at a time where the instruction reads 16 bytes.",
    ),
    Defect(
        id="int32-offset",
        edits=(
            Edit("kernel.py", "stride_xm = tl.cast(stride_xm, tl.int64)", "stride_xm = tl.cast(stride_xm, tl.int32)"),
            Edit("kernel.py", "stride_xn = tl.cast(stride_xn, tl.int64)", "stride_xn = tl.cast(stride_xn, tl.int32)"),
        ),
        kinds=("int-overflow", "oob-read", "wrong-value"),
        provenance="AITER 8fd26e3d13 and 9791b8c150, FlashInfer 6c18be5b9",
        summary="Offsets into the input are 32 bits wide. Triggered by rows far apart.",
    ),
    Defect(
        id="int32-offset-out",
        edits=(
            Edit(
                "kernel.py",
                "row, byte = offs_row[:, None].to(tl.int64), offs_byte[None, :].to(tl.int64)",
                "row, byte = offs_row[:, None], offs_byte[None, :]",
            ),
        ),
        kinds=("int-overflow", "oob-write", "race", "unwritten-output"),
        provenance="AITER 8fd26e3d13 class",
        summary="Offsets into the codes are 32 bits wide: where the output is larger, or its rows are far apart.",
    ),
    Defect(
        id="load-n-unmasked",
        edits=(
            Edit("kernel.py", "x_mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)", "x_mask = offs_m[:, None] < M"),
        ),
        kinds=("oob-read",),
        provenance="vLLM #34632 class",
        summary="The last tile of a row of tiles reads beyond N. Blocks beyond N are never stored: no result shows it.",
    ),
    Defect(
        id="codes-unmasked",
        edits=(
            Edit(
                "kernel.py",
                "mask=(offs_row[:, None] < ROWS) & (offs_byte[None, :] < BYTES)",
                "mask=offs_row[:, None] < ROWS",
            ),
        ),
        kinds=("oob-write", "race", "wrong-value"),
        provenance="AITER 810bb82310 class",
        summary="Whole tiles of codes are stored: beyond a row's end, into the next.",
    ),
    Defect(
        id="scales-unmasked",
        edits=(
            Edit(
                "kernel.py",
                "tl.store(ptr + row * stride_row + group * stride_group, scales, mask=mask)",
                "tl.store(ptr + row * stride_row + group * stride_group, scales)",
            ),
        ),
        kinds=("oob-write", "race", "wrong-value"),
        provenance="FlashInfer f4d10d9a6 class",
        summary="Linear scales are stored for whole tiles, as shuffled ones are, into a buffer that is not padded.",
    ),
)

DEFECTS = (*_ROUNDING, *_SCALES, *_PADDING, *_ADDRESSES)


def _matrix(arguments: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """Of M and of N: (extent, block)."""
    config = CONFIGS[arguments["config"]]
    m = prod(arguments.get("leading", ())) * arguments["m"]
    return (m, config.block_m), (arguments["n"], config.block_n)


def _accepted(arguments: Mapping[str, Any]) -> bool:
    """Whether something is launched for certain: the shape is not empty, and allowed with linear codes."""
    return arguments["codes"] == "linear" and all(extent > 0 and extent % 32 == 0 for extent, _ in _matrix(arguments))


def _partial_tiles(arguments: Mapping[str, Any]) -> bool:
    return _accepted(arguments) and any(extent % block != 0 for extent, block in _matrix(arguments))


def _programs_in_padding(arguments: Mapping[str, Any]) -> bool:
    return (
        _accepted(arguments)
        and arguments.get("scales") == "shuffled"
        and any(-(-extent // 256) * 256 - extent >= block for extent, block in _matrix(arguments))
    )


CONTROLS = (
    Control(
        id="programs-in-padding",
        present=(
            ("launch.py", "rows, columns = (triton.cdiv(extent, 256) * 256 for extent in (m, n))"),
            ("kernel.py", "tl.store(ptrs, tl.where(mask, scales, PADDING).to(tl.uint8))"),
        ),
        exercised=_programs_in_padding,
        summary="Programs whose tile holds no element of x load nothing, and store padding without a mask.",
    ),
    Control(
        id="blocks-of-nothing",
        present=(
            ("kernel.py", "x = tl.load(x_ptrs, mask=x_mask, other=0.0).to(tl.float32)"),
            ("kernel.py", "mask=(offs_row[:, None] < ROWS) & (offs_byte[None, :] < BYTES)"),
        ),
        exercised=_partial_tiles,
        summary="Blocks beyond the edge are quantized like any other, from zeros, and never stored.",
    ),
    Control(
        id="unsigned-wrap",
        present=(
            ("kernel.py", "normal = ((bits + 0x1FFFFF + ((bits >> 22) & 1)) >> 22) - (126 << 1)"),
            ("kernel.py", "tl.where(bits < 0x3F800000, small, tl.minimum(normal, 7))"),
        ),
        exercised=_partial_tiles,
        summary="The code of a number below 1 by the rule for the others wraps around below 0, and is not chosen.",
    ),
    Control(
        id="absent-direction",
        present=(
            ("launch.py", "row_codes, row_scales = out.rowwise or (None, None)"),
            ("launch.py", "col_codes, col_scales = out.columnwise or (None, None)"),
        ),
        exercised=lambda arguments: _accepted(arguments) and arguments["direction"] != "both",
        summary="The pointers of a direction that is not asked for are None.",
    ),
)
