"""Real bugs of AITER's MXFP4 GEMM, to plant in this one; and its legitimate tricks, to leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fp4guard.fuzzing import Control, Defect, Edit

from .configs import CONFIGS, Config, default_config
from .launch import REDUCE_BLOCK_SIZE_M, SplitK, reduce_block_size_n, split_k

DEFECTS = (
    Defect(
        id="scale-k-unmasked",
        edits=(
            Edit(
                "kernel.py",
                "(a_scale_ptrs, mask=a_groups[None, :] < groups_left, other=127)",
                "(a_scale_ptrs)",
            ),
            Edit(
                "kernel.py",
                "(b_scale_ptrs, mask=b_groups[None, :] < groups_left, other=127)",
                "(b_scale_ptrs)",
            ),
        ),
        kinds=("oob-read", "uninitialized-read", "poison-dependent", "wrong-value"),
        provenance="AITER gemm_afp4wfp4, #1864 and #2671",
        summary="The last K step loads whole scale groups beyond K/32. The data there are masked to zero, so "
        "only a stray 0xFF shows in the result. Triggered by K % BLOCK_SIZE_K != 0.",
    ),
    Defect(
        id="even-k-units",
        edits=(
            Edit(
                "launch.py",
                "splitk_block_size % block_size_k == 0",
                "splitk_block_size % (block_size_k // 2) == 0",
            ),
        ),
        kinds=("oob-read", "poison-dependent", "wrong-value"),
        provenance="AITER c6f82199ea",
        summary="EVEN_K compares K in elements with the K block in bytes: a last half block goes unmasked. "
        "Triggered by K an odd multiple of BLOCK_SIZE_K / 2.",
    ),
    Defect(
        id="split-k-stale",
        edits=(
            Edit(
                "launch.py",
                "    num_ksplit = triton.cdiv(k, splitk_block_size)\n",
                "    num_ksplit = max(num_ksplit, 1)\n",
            ),
        ),
        kinds=("uninitialized-read", "poison-dependent", "wrong-value", "unwritten-output"),
        provenance="AITER 2d7e9fe852",
        summary="NUM_KSPLIT is not counted anew when splits are rounded up to whole K blocks: the partial of "
        "a split that starts beyond K is summed, and nobody wrote it. Triggered by K of 1 or 3 K blocks in 4 "
        "splits, and the like.",
    ),
    Defect(
        id="reduce-mask-axis",
        edits=(
            Edit(
                "kernel.py",
                "mask=offs_k[:, None, None] < NUM_KSPLIT, other=0.0",
                "mask=(offs_m < M)[None, :, None], other=0.0",
            ),
        ),
        kinds=("oob-read", "poison-dependent", "wrong-value"),
        provenance="AITER d7caa3d20b",
        summary="The mask of the reduction leaves out the split axis: partials beyond NUM_KSPLIT are summed. "
        "Triggered by a number of splits that is no power of two.",
    ),
    Defect(
        id="a-mask-units",
        edits=(
            Edit(
                "kernel.py",
                "mask=offs_k[None, :] < k_left, other=0",
                "mask=offs_k[None, :] < k_left // 2, other=0",
            ),
        ),
        kinds=("wrong-value",),
        provenance="AITER fdfb73c56e",
        summary="The mask of A halves K once more, as if it still counted elements, and the last K blocks "
        "lose data. Triggered by K % BLOCK_SIZE_K != 0.",
    ),
    Defect(
        id="a-mask-units-over",
        edits=(
            Edit(
                "kernel.py",
                "mask=offs_k[None, :] < k_left, other=0",
                "mask=offs_k[None, :] < k_left * 2, other=0",
            ),
        ),
        kinds=("oob-read",),
        provenance="AITER fdfb73c56e, in the other direction",
        summary="The mask of A counts elements, and its rows are read beyond their end. B is masked to zero "
        "there and E2M1 has no NaN: no result shows it. Triggered by K % BLOCK_SIZE_K != 0.",
    ),
    Defect(
        id="missing-barrier",
        edits=(
            Edit(
                "kernel.py",
                "    tl.store(c_ptrs, acc.to(c_ptr.type.element_ty), mask=c_mask)\n",
                "    tl.store(c_ptrs, acc.to(c_ptr.type.element_ty), mask=c_mask)\n"
                "    if NUM_KSPLIT > 1 and c_ptr.type.element_ty == tl.float32:\n"
                "        if pid_k == 0:\n"
                "            for split in range(1, NUM_KSPLIT):\n"
                "                acc += tl.load(c_ptrs + split * stride_ck, mask=c_mask, other=0)\n"
                "            tl.store(c_ptrs, acc, mask=c_mask)\n",
            ),
            Edit("launch.py", "        _reduce(partials, result)\n", "        result.copy_(partials[0])\n"),
        ),
        kinds=("race",),
        provenance="AITER ca87417e6e",
        summary="The first split sums what the others store, in the launch in which they store it, and waits for none. "
        "Triggered by more than one split.",
    ),
    Defect(
        id="n-unmasked",
        edits=(
            Edit(
                "kernel.py",
                "offs_bn = (pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)) % N",
                "offs_bn = pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)",
            ),
        ),
        kinds=("oob-read",),
        provenance="vLLM #34632 class",
        summary="Columns of B no longer wrap around at N, and no mask takes their place. No result shows it: "
        "they are never stored. Triggered by N % BLOCK_SIZE_N != 0.",
    ),
    Defect(
        id="out-n-padded",
        edits=(
            Edit(
                "kernel.py",
                "c_mask = (offs_cm[:, None] < M) & (offs_cn[None, :] < N)",
                "c_mask = (offs_cm[:, None] < M) & (offs_cn[None, :] < tl.cdiv(N, BLOCK_SIZE_N) * BLOCK_SIZE_N)",
            ),
        ),
        kinds=("oob-write", "race", "wrong-value"),
        provenance="AITER 810bb82310 class",
        summary="C has N columns and is stored for whole tiles. Triggered by N % BLOCK_SIZE_N != 0.",
    ),
    Defect(
        id="absolute-mask",
        edits=(Edit("kernel.py", "k_left = split_end - k\n", "k_left = split_end\n"),),
        kinds=("oob-read", "uninitialized-read", "poison-dependent", "wrong-value"),
        provenance="AITER 13e5a53229",
        summary="Offsets from the start of a K block are compared with the end of the split: only its first block is "
        "masked. Triggered by K > BLOCK_SIZE_K that is no multiple of it.",
    ),
    Defect(
        id="masked-undefined",
        edits=(
            Edit(
                "kernel.py", "mask=a_groups[None, :] < groups_left, other=127)", "mask=a_groups[None, :] < groups_left)"
            ),
        ),
        kinds=("undefined-lane", "poison-dependent", "wrong-value"),
        provenance="AITER c17f867ad5 and 44146e6ef2",
        summary="Masked scales of A have no `other`: the codes there are zero, and 0 * NaN is NaN. Triggered by "
        "K % BLOCK_SIZE_K != 0.",
    ),
    Defect(
        id="nibble-swap",
        edits=(
            Edit(
                "kernel.py",
                'acc = tl.dot_scaled(a, a_scales, "e2m1"',
                'acc = tl.dot_scaled(a >> 4 | a << 4, a_scales, "e2m1"',
            ),
        ),
        kinds=("wrong-value",),
        provenance="torchao 28612d00e",
        summary="A's high nibble is taken for the even k, B's is not.",
    ),
    Defect(
        id="shuffle-stride-valid",
        edits=(
            Edit("launch.py", "        w_scales.stride(0),\n", "        w_scales.stride(0) if not shuffled else k,\n"),
        ),
        kinds=("oob-read", "uninitialized-read", "poison-dependent", "wrong-value"),
        provenance="AITER #2900, d6cefa9783",
        summary="A row of preshuffled scales is taken to be as long as the valid groups, not as the padded ones: wrong "
        "from row 32 on. Triggered by K % 256 != 0.",
    ),
    Defect(
        id="inferred-stride",
        edits=(Edit("launch.py", "        x.stride(0),\n        x.stride(1),\n", "        k // 2,\n        1,\n"),),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER 6740fb7911",
        summary="X is taken to be contiguous.",
    ),
    Defect(
        id="scale-offset-from-data",
        edits=(Edit("launch.py", "        x_scales.stride(0),\n", "        x.stride(0) // 16,\n"),),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER ab978d999d",
        summary="The row stride of X's scales is worked out from that of its codes: right until either is padded.",
    ),
    Defect(
        id="int32-offset",
        edits=(Edit("kernel.py", "    stride_am = tl.cast(stride_am, tl.int64)\n", ""),),
        kinds=("int-overflow", "oob-read"),
        provenance="AITER 8fd26e3d13 and 9791b8c150, FlashInfer 6c18be5b9",
        summary="Offsets of A's rows are 32-bit. Triggered by rows that are far apart.",
    ),
    Defect(
        id="int32-offset-out",
        edits=(
            Edit(
                "kernel.py",
                "    stride_ck = tl.cast(stride_ck, tl.int64)\n    stride_cm = tl.cast(stride_cm, tl.int64)\n",
                "    stride_ck = tl.cast(stride_ck, tl.int64)\n",
            ),
        ),
        kinds=("int-overflow", "oob-write"),
        provenance="AITER 8fd26e3d13 class",
        summary="Offsets of C's rows are 32-bit, those of the reduction are not.",
    ),
)


def _config(arguments: Mapping[str, Any]) -> Config:
    name = arguments.get("config")
    if name is None:
        return default_config(arguments["m"], arguments["n"], arguments["k"])
    return CONFIGS[name]


def _split(arguments: Mapping[str, Any]) -> SplitK:
    config = _config(arguments)
    least = 256 if arguments.get("scales") == "preshuffled" else 128
    return split_k(arguments["k"], config.block_k, config.num_ksplit, min_block_size_k=least)


def _wraps(arguments: Mapping[str, Any]) -> bool:
    config = _config(arguments)
    m, n, k = (arguments[name] for name in "mnk")
    return m * n * k > 0 and (m % config.block_m != 0 or n % config.block_n != 0)


def _stores_twice(arguments: Mapping[str, Any]) -> bool:
    """Whether programs of the reduction store to elements that others store to as well."""
    m, n, num_ksplit = arguments["m"], arguments["n"], _split(arguments).num_ksplit
    if num_ksplit == 1 or arguments.get("keep_partials"):
        return False
    # Within one tile an element is also stored twice, but by one program.
    tiles = ((m, REDUCE_BLOCK_SIZE_M), (n, reduce_block_size_n(num_ksplit)))
    return m * n > 0 and any(extent > block and extent % block != 0 for extent, block in tiles)


CONTROLS = (
    Control(
        id="wrapped-loads",
        present=(
            ("kernel.py", "offs_am = (pid_m * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)) % M"),
            ("kernel.py", "offs_bn = (pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)) % N"),
            ("kernel.py", "offs_row = (pid * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)) % ROWS"),
            ("kernel.py", "c_mask = (offs_cm[:, None] < M) & (offs_cn[None, :] < N)"),
        ),
        exercised=_wraps,
        summary="Rows and columns beyond the edge are loaded at % M and % N and never stored.",
    ),
    Control(
        id="duplicate-equal-stores",
        present=(
            ("kernel.py", "offs_m = (tl.program_id(axis=0) * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)) % M"),
            ("kernel.py", "offs_n = (tl.program_id(axis=1) * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)) % N"),
            ("kernel.py", "tl.store(c_ptrs, c.to(c_ptr.type.element_ty))"),
        ),
        exercised=_stores_twice,
        summary="The reduction stores unmasked at % M and % N: programs store one element twice, alike.",
    ),
)
