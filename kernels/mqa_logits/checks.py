"""Checks of the launcher's arguments: TypeError for a dtype, ValueError for the rest.

Each error names the argument, its value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

HEAD_SIZES = (32, 64, 128, 256)
MAX_HEADS = 256


def check_tensors(
    q: torch.Tensor,
    kv_cache: torch.Tensor,
    weights: torch.Tensor,
    context_lens: torch.Tensor,
    block_tables: torch.Tensor,
) -> None:
    """Dtypes, numbers of axes, shapes and devices of the inputs."""
    given = {
        "q": (q, torch.float8_e4m3fn, 4),
        "kv_cache": (kv_cache, torch.uint8, 4),
        "weights": (weights, torch.float32, 2),
        "context_lens": (context_lens, torch.int32, 1),
        "block_tables": (block_tables, torch.int32, 2),
    }
    for name, (tensor, dtype, axes) in given.items():
        if tensor.dtype != dtype:
            raise TypeError(f"{name} is {tensor.dtype}; allowed: {dtype}")
        if tensor.ndim != axes:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed: {axes} axes")
        if tensor.device != q.device:
            raise ValueError(f"{name} is on {tensor.device}; allowed: {q.device}, the device of q")
    batch, next_n, heads, d = q.shape
    if d not in HEAD_SIZES:
        raise ValueError(f"q has a head size D of {d}; allowed: {HEAD_SIZES}")
    if not 1 <= heads <= MAX_HEADS or next_n < 1:
        raise ValueError(f"q has shape {tuple(q.shape)}; allowed: next_n from 1, H from 1 to {MAX_HEADS}")
    kv_block, one, width = kv_cache.shape[1:]
    if one != 1 or width != d + 4 or kv_block < 1:
        raise ValueError(
            f"kv_cache has shape {tuple(kv_cache.shape)}; allowed: (blocks, KB, 1, {d + 4}), q's D and a scale a token"
        )
    for name, tensor, shape in (
        ("weights", weights, (batch * next_n, heads)),
        ("context_lens", context_lens, (batch,)),
        ("block_tables", block_tables, (batch, block_tables.shape[1])),
    ):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed: {shape} for q of {tuple(q.shape)}")


def check_cache(kv_cache: torch.Tensor, d: int, chunk_k: int, preshuffled: bool) -> None:
    """How blocks lie in memory, and whether their size suits the chunk and the order of the values."""
    kv_block = kv_cache.shape[1]
    if chunk_k % kv_block != 0 and kv_block % chunk_k != 0:
        raise ValueError(
            f"kv_cache has blocks of {kv_block} tokens; allowed: divisors and multiples of chunk_k, {chunk_k}"
        )
    if preshuffled and kv_block % 16 != 0:
        raise ValueError(f"kv_cache has blocks of {kv_block} tokens; allowed with preshuffled: multiples of 16")
    inner = kv_cache.stride()[1:]
    if inner[2] != 1 or (inner[0] != d + 4 and kv_block > 1):
        raise ValueError(
            f"kv_cache has strides {kv_cache.stride()}; allowed: (any, {d + 4}, any, 1), contiguous blocks"
        )
    if (kv_cache.stride(0) < kv_block * (d + 4) and kv_cache.shape[0] > 1) or kv_cache.stride(0) % 4:
        raise ValueError(
            f"kv_cache has a block stride of {kv_cache.stride(0)} bytes; allowed: multiples of 4 from "
            f"{kv_block * (d + 4)} on"
        )
    if kv_cache.data_ptr() % 4 or kv_cache.storage_offset() % 4:
        raise ValueError(f"kv_cache begins at {kv_cache.data_ptr():#x}; allowed: multiples of 4 bytes, for its scales")


def check_strides(
    q: torch.Tensor, weights: torch.Tensor, context_lens: torch.Tensor, block_tables: torch.Tensor
) -> None:
    """The last axis is contiguous, as the kernels take it. torch has no negative strides."""
    named = {"q": q, "weights": weights, "context_lens": context_lens, "block_tables": block_tables}
    for name, tensor in named.items():
        if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            raise ValueError(f"{name} has strides {tensor.stride()}; allowed: 1 along the last axis")


def check_output(out: torch.Tensor, rows: int, max_model_len: int, inputs: Mapping[str, torch.Tensor]) -> None:
    """Dtype, shape and strides of the output, and that it shares no memory with an input."""
    if out.dtype != torch.float32:
        raise TypeError(f"out is {out.dtype}; allowed: torch.float32")
    if out.device != inputs["q"].device:
        raise ValueError(f"out is on {out.device}; allowed: {inputs['q'].device}, the device of q")
    if out.ndim != 2 or out.shape[0] != rows or out.shape[1] < max_model_len:
        raise ValueError(
            f"out has shape {tuple(out.shape)}; allowed: ({rows}, {max_model_len} or more), B * next_n rows of "
            "max_model_len"
        )
    if (out.stride(1) != 1 and out.shape[1] > 1) or (out.stride(0) < out.shape[1] and rows > 1):
        raise ValueError(f"out has strides {out.stride()}; allowed: rows of contiguous elements that do not overlap")
    start, end = _span(out)
    for name, tensor in inputs.items():
        if start < _span(tensor)[1] and _span(tensor)[0] < end:
            raise ValueError(f"out shares memory with {name}; allowed: memory of its own")


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The addresses from the first byte of a tensor to beyond its last."""
    if tensor.numel() == 0:
        return 0, 0
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    start = tensor.data_ptr()
    return start, start + (last + 1) * tensor.element_size()
