"""Real bugs of NVFP4 quantization and its layers, to plant in this one; and its legitimate tricks, to leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fp4guard.fuzzing import Control, Defect, Edit

from .backends import BACKENDS
from .configs import CONFIGS

DEFECTS = (
    Defect(
        id="sf-empty",
        edits=(Edit("scales.py", "padded = torch.zeros(", "padded = torch.empty("),),
        kinds=("uninitialized-read", "poison-dependent", "padding-content", "wrong-value"),
        provenance="vLLM #30260, #42988, #45739",
        summary="The swizzled scales of the weight begin as torch.empty. A block that K was padded with has codes of "
        "zero and a scale of whatever stood there: K = 464 has 29 blocks, padded to 480 it has 30, and the 30th lies "
        "inside the buffer.",
    ),
    Defect(
        id="sf-columns-unwritten",
        edits=(
            Edit(
                "kernel.py",
                "in_buffer = (rows[:, None] < PADDED_M) & (groups[None, :] < PADDED_GROUPS)",
                "in_buffer = (rows[:, None] < PADDED_M) & (groups[None, :] < K // 16)",
            ),
        ),
        kinds=("uninitialized-read", "poison-dependent", "unwritten-output"),
        provenance="vLLM #30260, on the side of the activations",
        summary="The quantization writes no scales behind the last block of K, into a buffer from torch.empty. "
        "Triggered by K / 16 that is no multiple of 4.",
    ),
    Defect(
        id="pad-fill-dead",
        edits=(
            Edit(
                "kernel.py",
                "for start in range((num_pid_m + pid_m) * BLOCK_M, PADDED_M, num_pid_m * BLOCK_M):",
                "for start in range((num_pid_m + pid_m) * BLOCK_M, M, num_pid_m * BLOCK_M):",
            ),
        ),
        kinds=("unwritten-output",),
        provenance="vLLM 086f514d",
        summary="The loop that fills the padding rows ends where it begins. Triggered by M that is further from a "
        "whole tile of rows than a block.",
    ),
    Defect(
        id="pad-fill-linear",
        edits=(
            Edit(
                "kernel.py",
                "fill_offsets = _scale_offsets(fill_rows, groups, tiles_across, stride_sm, stride_sg, ROW_TILE)",
                "fill_offsets = fill_rows.to(tl.int64)[:, None] * PADDED_GROUPS + groups[None, :]",
            ),
        ),
        kinds=("race", "unwritten-output", "wrong-value", "padding-content"),
        provenance="vLLM 086f514d",
        summary="The padding rows are filled as if the buffer were linear: zeros go over scales, and padding stays "
        "as it was.",
    ),
    Defect(
        id="sf-8x4-128-rows",
        edits=(
            Edit(
                "launch.py",
                "        m,\n        k,\n        padded_m,\n",
                "        m,\n        k,\n        128 * triton.cdiv(m, 128) if shape.row_tile else m,\n",
            ),
        ),
        kinds=("oob-write",),
        provenance="FlashInfer b297fc2f0",
        summary="Padding for 128 rows is written into a buffer of rows up to a multiple of 8.",
    ),
    Defect(
        id="sf-linear-round-m",
        edits=(
            Edit(
                "launch.py",
                "        m,\n        k,\n        padded_m,\n",
                "        m,\n        k,\n        max(padded_m, 16 * triton.cdiv(m, 16)),\n",
            ),
        ),
        kinds=("oob-write",),
        provenance="FlashInfer f4d10d9a6",
        summary="Linear scales, of M rows, are written for M up to a multiple of 16.",
    ),
    Defect(
        id="bf16-as-fp32-scale",
        edits=(
            Edit(
                "kernel.py",
                "tl.load(global_scale_ptr).to(tl.float32)",
                "tl.load(global_scale_ptr.to(tl.pointer_type(tl.float32)))",
            ),
        ),
        kinds=("oob-read", "wrong-value"),
        provenance="FlashInfer d8cb7553f",
        summary="A global scale in bf16 is read as fp32: two of the four bytes are its neighbour's.",
    ),
    Defect(
        id="nibble-swap",
        edits=(Edit("kernel.py", "low | high << 4", "high | low << 4"),),
        kinds=("wrong-value",),
        provenance="torchao 28612d00e",
        summary="The even k goes to the high nibble.",
    ),
    Defect(
        id="nibble-swap-gemm",
        edits=(Edit("kernel.py", "return even * scale, odd * scale", "return odd * scale, odd * scale"),),
        kinds=("wrong-value",),
        provenance="torchao 28612d00e, class of",
        summary="The GEMM takes the high nibble for both elements of a byte.",
    ),
    Defect(
        id="ties-away",
        edits=tuple(
            Edit("kernel.py", f"(magnitude > {tie}).to", f"(magnitude >= {tie}).to") for tie in (0.25, 1.25, 2.5, 5.0)
        ),
        kinds=("wrong-value",),
        provenance="AITER ece07a8b95, Transformer Engine",
        summary="Ties at 0.25, 1.25, 2.5 and 5 go away from zero: only a value exactly in the middle shows it.",
    ),
    Defect(
        id="int32-offset",
        edits=(Edit("kernel.py", "    stride_xm = tl.cast(stride_xm, tl.int64)\n", ""),),
        kinds=("int-overflow", "oob-read"),
        provenance="AITER 8fd26e3d13 and 9791b8c150, FlashInfer 6c18be5b9",
        summary="Offsets of the activations' rows are 32-bit. Triggered by rows that are far apart.",
    ),
    Defect(
        id="int32-offset-gemm",
        edits=(Edit("kernel.py", "    stride_bn = tl.cast(stride_bn, tl.int64)\n", ""),),
        kinds=("int-overflow", "oob-read"),
        provenance="AITER 8fd26e3d13 and 9791b8c150, FlashInfer 6c18be5b9",
        summary="Offsets of the weight's rows are 32-bit.",
    ),
    Defect(
        id="absolute-mask",
        edits=(Edit("kernel.py", "groups_left = k_left // 8\n", "groups_left = K // 8\n"),),
        kinds=("oob-read", "uninitialized-read", "poison-dependent", "wrong-value"),
        provenance="AITER 13e5a53229",
        summary="Groups are counted from the start of a step along K, and compared with all of K's: from the second "
        "step on no scale is masked.",
    ),
    Defect(
        id="sticky-lost",
        edits=(
            Edit(
                "kernel.py",
                "_to_e2m1(x * multiplier[:, :, None])",
                "_to_e2m1((x * multiplier[:, :, None]).to(tl.bfloat16).to(tl.float32))",
            ),
        ),
        kinds=("wrong-value",),
        provenance="triton_kernels 0616e645 class",
        summary="The scaled value is rounded to bf16 before it is rounded to E2M1: next to a tie it becomes one.",
    ),
    Defect(
        id="n-unmasked",
        edits=(
            Edit(
                "kernel.py",
                "rows_b = (pid_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N",
                "rows_b = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)",
            ),
        ),
        kinds=("oob-read",),
        provenance="vLLM #34632, class of",
        summary="Columns beyond N are neither wrapped nor masked when the weight and its scales are loaded.",
    ),
    Defect(
        id="bias-unmasked",
        edits=(
            Edit(
                "kernel.py",
                "bias = tl.load(bias_ptr + offs_n * stride_bias, mask=offs_n < N)",
                "bias = tl.load(bias_ptr + offs_n * stride_bias)",
            ),
        ),
        kinds=("oob-read",),
        provenance="vLLM #34632, class of",
        summary="The bias is read for whole blocks of N.",
    ),
    Defect(
        id="scale-k-unmasked",
        edits=(
            Edit(
                "kernel.py",
                "(a_scales_ptr + a_offsets, mask=offs_g[None, :] < groups_left, other=0)",
                "(a_scales_ptr + a_offsets)",
            ),
            Edit(
                "kernel.py",
                "(b_scales_ptr + b_offsets, mask=offs_g[None, :] < groups_left, other=0)",
                "(b_scales_ptr + b_offsets)",
            ),
        ),
        kinds=("oob-read", "uninitialized-read", "poison-dependent", "wrong-value"),
        provenance="AITER gemm_afp4wfp4 #1864 and #2671, on swizzled scales",
        summary="The last step along K loads whole tiles of scales: the buffer's padding, the next tile row, and at "
        "last what is behind the buffer. The codes are masked to zero, but 0 * NaN is NaN.",
    ),
    Defect(
        id="masked-undefined",
        edits=(
            Edit(
                "kernel.py",
                "(b_scales_ptr + b_offsets, mask=offs_g[None, :] < groups_left, other=0)",
                "(b_scales_ptr + b_offsets, mask=offs_g[None, :] < groups_left)",
            ),
        ),
        kinds=("undefined-lane",),
        provenance="AITER c17f867ad5, 44146e6ef2",
        summary="Masked scales have no `other`: zero codes times an undefined scale, and 0 * NaN is NaN.",
    ),
    Defect(
        id="shuffle-stride-valid",
        edits=(Edit("kernel.py", "tiles_across = PADDED_GROUPS // 4", "tiles_across = K // 64"),),
        kinds=("race", "unwritten-output", "wrong-value", "padding-content"),
        provenance="AITER #2900, d6cefa9783",
        summary="The stride between rows of scale tiles counts the groups of K, not those of the padded buffer.",
    ),
    Defect(
        id="shuffle-stride-valid-gemm",
        edits=(
            Edit("launch.py", "        a_scales.shape[1] // 4,\n", "        k // (4 * GROUP_SIZE),\n"),
            Edit("launch.py", "        b_scales.shape[1] // 4,\n", "        k // (4 * GROUP_SIZE),\n"),
        ),
        kinds=("wrong-value", "uninitialized-read", "poison-dependent"),
        provenance="AITER #2900, d6cefa9783",
        summary="The same mistake where the scales are read: wrong ones from row 128 on.",
    ),
    Defect(
        id="scale-group-units",
        edits=(Edit("kernel.py", "groups = k // 8 + offs_g", "groups = k // 16 + offs_g"),),
        kinds=("wrong-value",),
        provenance="AITER c6f82199ea, class of",
        summary="The first group of a step along K is counted in elements, where K counts bytes.",
    ),
    Defect(
        id="e4m3-shift",
        edits=(
            Edit(
                "kernel.py",
                "scale = scales.to(tl.float8e4nv, bitcast=True).to(tl.float16)\n",
                "scale = (scales.to(tl.uint16) << 7).to(tl.float16, bitcast=True) * 256.0\n",
            ),
        ),
        kinds=("wrong-value",),
        provenance="e8m0-shift, on E4M3",
        summary="E4M3 is decoded by a shift. Right for every number, but NaN becomes 480.",
    ),
    Defect(
        id="nan-lost",
        edits=(
            Edit(
                "kernel.py",
                "amax_bits = tl.max(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=2)",
                "amax_bits = tl.max(tl.abs(x), axis=2).to(tl.int32, bitcast=True)",
            ),
        ),
        kinds=("wrong-value",),
        provenance="the rules for NaN and amax differ between libraries",
        summary="A maximum of floats ignores NaN: the block gets the scale of its numbers, and the NaN a code.",
    ),
    Defect(
        id="inferred-stride",
        edits=(
            Edit(
                "launch.py",
                "        x.stride(0),\n        x.stride(1),\n        codes.stride(0),",
                "        k,\n        1,\n        codes.stride(0),",
            ),
        ),
        kinds=("oob-read", "wrong-value", "poison-dependent"),
        provenance="AITER 6740fb7911",
        summary="X is taken to be contiguous.",
    ),
    Defect(
        id="scale-offset-from-data",
        edits=(
            Edit(
                "launch.py",
                "        b_scales.stride(0),\n        b_scales.stride(1),\n",
                "        b.stride(0) // 8,\n        b_scales.stride(1),\n",
            ),
        ),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER ab978d999d",
        summary="The row stride of linear scales is worked out from that of the codes: right until either is padded.",
    ),
    Defect(
        id="m-unmasked-store",
        edits=(
            Edit(
                "kernel.py",
                "c_mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)",
                "c_mask = (offs_m[:, None] >= 0) & (offs_n[None, :] < N)",
            ),
        ),
        kinds=("oob-write", "race"),
        provenance="AITER 810bb82310, class of",
        summary="C is stored for whole blocks of rows.",
    ),
    Defect(
        id="alpha-twice",
        edits=(Edit("kernel.py", "acc *= tl.load(alpha_ptr)", "acc *= tl.load(alpha_ptr) * tl.load(alpha_ptr)"),),
        kinds=("wrong-value",),
        provenance="the hazard of a scale that two layers of code apply",
        summary="alpha multiplies the sum twice: right where it is 1.",
    ),
    Defect(
        id="bias-before-alpha",
        edits=(
            Edit("kernel.py", "    acc *= tl.load(alpha_ptr)\n", ""),
            Edit(
                "kernel.py",
                "    c_ptrs = c_ptr + offs_m",
                "    acc *= tl.load(alpha_ptr)\n    c_ptrs = c_ptr + offs_m",
            ),
        ),
        kinds=("wrong-value",),
        provenance="the hazard of fusing an epilogue",
        summary="The bias is added before alpha multiplies, and so is multiplied too.",
    ),
    Defect(
        id="codes-k-padded",
        edits=(
            Edit(
                "kernel.py",
                "mask=(rows[:, None] < M) & (packed[None, :] < K // 2)",
                "mask=(rows[:, None] < M) & (packed[None, :] < PADDED_GROUPS * 8)",
            ),
        ),
        kinds=("oob-write", "race"),
        provenance="AITER 810bb82310, class of",
        summary="Codes are stored for as many groups as the padded scales have, into a buffer of K / 2 bytes a row.",
    ),
    Defect(
        id="scale-order",
        edits=(
            Edit(
                "kernel.py",
                "else global_scale * (amax * (1.0 / 6.0))",
                "else amax * (global_scale * (1.0 / 6.0))",
            ),
        ),
        kinds=("wrong-value",),
        provenance="vLLM and Transformer Engine disagree",
        summary="The scale's factors are multiplied in another order: an ulp of fp32, which moves only a scale that "
        "lies next to the middle of two E4M3 numbers.",
    ),
    Defect(
        id="scale-least-normal",
        edits=(
            Edit(
                "kernel.py",
                "tl.minimum(scale, LARGEST_E4M3).to",
                "tl.minimum(tl.maximum(scale, 0.015625), LARGEST_E4M3).to",
            ),
        ),
        kinds=("wrong-value", "padding-content"),
        provenance="torchao's rule, where vLLM's is stated",
        summary="Scales are clamped to E4M3's least normal number, 2^-6: small blocks lose their bits, and padding "
        "is no longer 0.",
    ),
    Defect(
        id="input-written",
        edits=(
            Edit(
                "launch.py",
                '    _check_rows(shape, m, "layout")\n    padded_k',
                '    _check_rows(shape, m, "layout")\n    x.nan_to_num_()\n    padded_k',
            ),
        ),
        kinds=("input-modified", "wrong-value"),
        provenance="class",
        summary="NaN and Inf are replaced in the caller's activations before they are quantized.",
    ),
    Defect(
        id="out-not-sliced",
        edits=(Edit("linear.py", "[:, :, : weight.n // weight.parts]", ""),),
        kinds=("crash",),
        provenance="vLLM #30260, its review",
        summary="The output keeps the columns that N was padded with, and has no place in the shape that it must have.",
    ),
    Defect(
        id="act-not-padded",
        edits=(Edit("linear.py", "    codes = pad(codes, (0, padded_bytes - codes.shape[1]))\n", ""),),
        kinds=("crash",),
        provenance="vLLM #30260, its review",
        summary="The weights are padded along K, the activations are not: the GEMM refuses them.",
    ),
    Defect(
        id="sf-pad-swizzled",
        edits=(
            Edit("linear.py", "        padded_k=2 * padded_bytes,\n", ""),
            Edit(
                "linear.py",
                "    codes = pad(codes, (0, padded_bytes - codes.shape[1]))\n",
                "    codes = pad(codes, (0, padded_bytes - codes.shape[1]))\n"
                "    groups = -(-2 * padded_bytes // GROUP_SIZE // 4) * 4\n"
                "    scales = pad(scales, (0, groups - scales.shape[1])).contiguous()\n",
            ),
        ),
        kinds=("wrong-value",),
        provenance="vLLM #30260, as first proposed",
        summary="Swizzled scales are padded as if they were linear: zeros come between scales. Triggered where K is "
        "padded by a tile of 4 groups or more.",
    ),
    Defect(
        id="gate-up-end-pad",
        edits=(
            Edit(
                "linear.py",
                "    split = matrix.reshape(parts, -1, matrix.shape[1])\n    return pad(split, (0, columns, 0, rows))",
                "    return pad(matrix, (0, columns, 0, parts * rows))",
            ),
        ),
        kinds=("wrong-value",),
        provenance="vLLM #48624",
        summary="A gate and an up projection are padded at their common end, and the second half no longer begins "
        "where the second part does.",
    ),
    Defect(
        id="backend-prefix",
        edits=(
            Edit(
                "backends.py",
                "    if name not in BACKENDS:\n",
                '    if not name.startswith(("cutlass", "flashinfer-cutlass")):\n',
            ),
        ),
        kinds=("crash",),
        provenance="vLLM #30260, its review",
        summary="A test for a prefix, made narrower for one backend, turns the others of its family away.",
    ),
)


def _wraps(arguments: Mapping[str, Any]) -> bool:
    if "n_units" not in arguments:
        return False
    config = CONFIGS[arguments["config"]]
    n = arguments["n_units"] * BACKENDS[arguments["backend"]].n_multiple
    return arguments["m"] % config.block_m != 0 or n % config.block_n != 0


def _scales_are_padded(arguments: Mapping[str, Any]) -> bool:
    if "n_units" not in arguments:
        return False
    groups = arguments["k_units"] * BACKENDS[arguments["backend"]].k_multiple // 16
    return groups % 4 != 0 and "128x4" in (arguments["a_layout"], arguments["b_layout"])


def _bias_ends_in_a_block(arguments: Mapping[str, Any]) -> bool:
    if "n_units" not in arguments or arguments["bias"] is None:
        return False
    n = arguments["n_units"] * BACKENDS[arguments["backend"]].n_multiple
    return n % CONFIGS[arguments["config"]].block_n != 0


def _quantizes_under_zero_scales(arguments: Mapping[str, Any]) -> bool:
    return "scale_dtype" in arguments and arguments["arithmetic"] == "exact"


CONTROLS = (
    Control(
        id="wrapped-loads",
        present=(
            ("kernel.py", "rows_a = (pid_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M"),
            ("kernel.py", "rows_b = (pid_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N"),
            ("kernel.py", "c_mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)"),
        ),
        exercised=_wraps,
        summary="Rows and columns beyond the edge are loaded, scales included, at % M and % N and never stored.",
    ),
    Control(
        id="scale-padding-undefined",
        present=(
            ("kernel.py", "tl.load(a_scales_ptr + a_offsets, mask=offs_g[None, :] < groups_left, other=0)"),
            ("kernel.py", "tl.load(b_scales_ptr + b_offsets, mask=offs_g[None, :] < groups_left, other=0)"),
            ("target.py", "undefined=LAYOUTS[layout].padding(scales.shape)"),
        ),
        exercised=_scales_are_padded,
        summary="The GEMM is given scales whose padding nobody wrote, inside a tile that it reads: it masks it.",
    ),
    Control(
        id="bias-without-other",
        present=(("kernel.py", "bias = tl.load(bias_ptr + offs_n * stride_bias, mask=offs_n < N)\n"),),
        exercised=_bias_ends_in_a_block,
        summary="The masked lanes of the bias are undefined, are added, and are not stored.",
    ),
    Control(
        id="zero-scale-codes",
        present=(("kernel.py", "tl.minimum(reciprocal, LARGEST_FP32) if EXACT"),),
        exercised=_quantizes_under_zero_scales,
        summary="Under a scale of 0 the codes are whatever FLT_MAX makes of the values: any code times 0 is 0.",
    ),
)
