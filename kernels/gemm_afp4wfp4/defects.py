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
