"""Token alignment, on the host: slots sorted by expert, every expert's rounded up to whole blocks.

Nothing here waits for the device: shapes depend on shapes alone, and how many blocks there are stays on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

ID_DTYPES = (torch.int32, torch.int64)


@dataclass(frozen=True)
class Alignment:
    """Which slots each block of the grouped GEMM works on, and with which expert."""

    sorted_token_ids: torch.Tensor
    """int32 (capacity,): slots, grouped by expert; `slots` itself, which is no slot, fills up blocks."""
    expert_ids: torch.Tensor
    """int32 (cdiv(capacity, block_size),): the local expert of each block, -1 for slots of none."""
    num_tokens_post_padded: torch.Tensor
    """int32 (1,): how many of `sorted_token_ids` count, whole blocks."""
    block_size: int
    slots: int
    experts: int
    """Local experts, for which `expert_ids` are indices."""


def moe_align_block_size(
    topk_ids: torch.Tensor, block_size: int, num_experts: int, expert_map: torch.Tensor | None = None
) -> Alignment:
    """Align the slots of `topk_ids`, int32 or int64 (M, top_k), for `num_experts` local experts.

    `expert_map`, an integer tensor (global experts,), has the local expert of every global one, -1 where that lives on
    another device; without one, global experts are the local ones. An id that is no expert (-1, for a token that is
    padding) belongs to none, as one of another device does.

    Raises TypeError and ValueError for another type, shape, device, or size.
    """
    _check_ids("topk_ids", topk_ids, 2)
    _check_sizes(block_size, num_experts)
    if expert_map is not None:
        _check_ids("expert_map", expert_map, 1)
        if expert_map.device != topk_ids.device:
            raise ValueError(f"expert_map is on {expert_map.device}; allowed: {topk_ids.device}, where topk_ids is")
        if len(expert_map) == 0:
            raise ValueError("expert_map has shape (0,); allowed: one entry or more")
    ids = topk_ids.reshape(-1).to(torch.int64)
    none = num_experts  # slots of no expert here are sorted behind those of the last one
    if expert_map is not None:
        known = (ids >= 0) & (ids < len(expert_map))
        mapped = expert_map.to(torch.int64)[ids.clamp(0, len(expert_map) - 1)]
        ids = torch.where(known, mapped, none)
    experts = torch.where((ids >= 0) & (ids < num_experts), ids, none)

    counts = experts.new_zeros(num_experts + 1).scatter_add_(0, experts, torch.ones_like(experts))
    return _aligned(torch.argsort(experts, stable=True), counts, block_size)


def align_permuted(expert_num_tokens: torch.Tensor, rows: int, block_size: int) -> Alignment:
    """Align rows that are grouped by expert already: `expert_num_tokens`, int32 or int64 (E,), rows for each of them.

    Of the `rows` there are, those behind the last expert's belong to none, and no block holds them. Counts that come to
    more rows than there are count no further than those, negative ones as 0. Raises as `moe_align_block_size`.
    """
    _check_ids("expert_num_tokens", expert_num_tokens, 1)
    _check_sizes(block_size, len(expert_num_tokens))
    if rows < 0:
        raise ValueError(f"rows is {rows}; allowed: 0 or more")
    ends = expert_num_tokens.to(torch.int64).clamp(min=0).cumsum(0).clamp(max=rows)
    none = ends.new_zeros(1)
    counts = torch.cat([torch.diff(ends, prepend=none), none])
    return _aligned(torch.arange(rows, device=ends.device), counts, block_size)


def _aligned(order: torch.Tensor, counts: torch.Tensor, block_size: int) -> Alignment:
    """The alignment of slots that are sorted by expert: `counts` (E + 1,) of them for each, those of none last."""
    slots, num_experts = len(order), len(counts) - 1
    # Every expert, and what is of none, may leave its last block one slot short of empty.
    capacity = slots + (num_experts + 1) * (block_size - 1)
    padded = (counts + block_size - 1) // block_size * block_size
    ends = padded.cumsum(0)
    place = torch.arange(capacity, device=order.device)
    expert = torch.searchsorted(ends, place, right=True).clamp(max=num_experts)
    rank = place - (ends - padded)[expert]
    taken = torch.where(rank < counts[expert], (counts.cumsum(0) - counts)[expert] + rank, slots)
    padding = order.new_full((1,), slots)
    sorted_token_ids = torch.cat([order, padding])[taken]
    # Blocks behind the last that counts are of no expert, too.
    block_expert = torch.searchsorted(ends, place[::block_size].contiguous(), right=True)
    expert_ids = torch.where(block_expert < num_experts, block_expert, -1)
    return Alignment(
        sorted_token_ids.to(torch.int32),
        expert_ids.to(torch.int32),
        ends[-1:].to(torch.int32),
        block_size,
        slots,
        num_experts,
    )


def _check_ids(name: str, ids: torch.Tensor, ndim: int) -> None:
    if ids.dtype not in ID_DTYPES:
        raise TypeError(f"{name} is {ids.dtype}; allowed: {', '.join(map(str, ID_DTYPES))}")
    if ids.ndim != ndim:
        raise ValueError(f"{name} has shape {tuple(ids.shape)}; allowed: {ndim} dimension{'s' * (ndim > 1)}")


def _check_sizes(block_size: int, num_experts: int) -> None:
    if block_size < 1 or block_size & (block_size - 1):
        raise ValueError(f"block_size is {block_size}; allowed: powers of two")
    if num_experts < 1:
        raise ValueError(f"num_experts is {num_experts}; allowed: 1 or more")
