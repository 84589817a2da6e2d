"""The MXFP4 mixture of experts as a layer: the stages of `launch`, one after the other.

`fused_moe_mxfp4` takes tokens and their experts; `permuted_experts_mxfp4`, for those who route themselves, rows that
are grouped by expert already. Both run GEMM, activation and GEMM; the first then sums over the experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .align import ID_DTYPES, align_permuted, moe_align_block_size
from .checks import check_factors, check_tensor
from .configs import Config, default_config
from .launch import DTYPES, check_activation, gated_activation, moe_gemm_mxfp4, moe_sum
from .weights import ExpertWeights


@dataclass(frozen=True)
class Workspace:
    """What the stages leave, for R rows, one for each slot. Contents before a call do not matter."""

    gate_up: torch.Tensor
    """bf16 (R, 2 D): of the first GEMM."""
    activated: torch.Tensor
    """bf16 (R, D)."""
    down: torch.Tensor | None = None
    """bf16 (R, N): of the second GEMM. None where that writes the output itself, the rows not summed."""


def fused_moe_mxfp4(
    hidden_states: torch.Tensor,
    w1: ExpertWeights,
    w2: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    out: torch.Tensor | None = None,
    *,
    activation: str = "silu",
    expert_map: torch.Tensor | None = None,
    apply_router_weight_on_input: bool = False,
    config: Config | None = None,
    workspace: Workspace | None = None,
) -> torch.Tensor:
    """The whole layer: bf16 (M, N), each token's sum over its top_k experts.

    `hidden_states` is bf16 (M, K); `w1` (E, 2 D, K) has gate and up as `gated_activation` wants them, `w2` is
    (E, N, D). `topk_weights`, fp32 contiguous, and `topk_ids`, int32 or int64, are (M, top_k). Ids are experts of
    `expert_map`, or of `w1` without one; ids of no expert here add nothing (see `moe_align_block_size`). The weights
    multiply in the second GEMM, or in the first with `apply_router_weight_on_input`. Intermediate results are bf16, in
    `workspace` where that is given.

    Raises TypeError and ValueError that name the argument.
    """
    check_activation(activation)
    check_tensor("topk_ids", topk_ids, ID_DTYPES, ("M", "top_k"), hidden_states.device)
    m, top_k = topk_ids.shape
    if top_k == 0:
        raise ValueError(f"topk_ids has shape {tuple(topk_ids.shape)}; allowed: one expert a token or more")
    check_tensor("hidden_states", hidden_states, DTYPES, (m, w1.k), hidden_states.device)
    check_factors("topk_weights", topk_weights, (m, top_k), hidden_states.device)
    _check_pair(w1, w2)
    rows = m * top_k
    workspace = workspace or _workspace(hidden_states, rows, w1, w2)
    _check_workspace(workspace, rows, w1, w2, hidden_states.device)
    if workspace.down is None:
        raise ValueError("workspace.down is None; allowed: bf16 (M * top_k, N), which the sum over the experts reads")
    if out is None:
        out = hidden_states.new_empty((m, w2.n))
    check_tensor("out", out, DTYPES, (m, w2.n), hidden_states.device)
    config = config or default_config(m, w1.experts)

    alignment = moe_align_block_size(topk_ids, config.block_m, w1.experts, expert_map)
    first, second = (topk_weights, None) if apply_router_weight_on_input else (None, topk_weights.view(rows, 1))
    gate_up = workspace.gate_up.unflatten(0, (m, top_k))
    moe_gemm_mxfp4(hidden_states, w1, alignment, gate_up, topk_weights=first, config=config)
    gated_activation(workspace.gate_up, workspace.activated, activation)
    # A row for each slot now, so a slot is a token of its own.
    down = workspace.down.unsqueeze(1)
    moe_gemm_mxfp4(workspace.activated, w2, alignment, down, topk_weights=second, config=config)
    return moe_sum(workspace.down.unflatten(0, (m, top_k)), out)


def permuted_experts_mxfp4(
    hidden_states: torch.Tensor,
    expert_num_tokens: torch.Tensor,
    w1: ExpertWeights,
    w2: ExpertWeights,
    out: torch.Tensor | None = None,
    *,
    row_weights: torch.Tensor | None = None,
    activation: str = "silu",
    config: Config | None = None,
    workspace: Workspace | None = None,
) -> torch.Tensor:
    """The experts alone, for rows grouped by expert: bf16 (R, N), a row for each of `hidden_states`, bf16 (R, K).

    `expert_num_tokens`, int32 or int64 (E,), says how many rows each expert has. Rows behind the last expert's are not
    read, and those of the result and the workspace hold nothing of meaning. `row_weights`, fp32 (R, 1) contiguous,
    multiplies the result's rows. The other arguments are those of `fused_moe_mxfp4`; who calls permutes, and sums.

    Raises TypeError and ValueError that name the argument.
    """
    check_activation(activation)
    check_tensor("hidden_states", hidden_states, DTYPES, ("R", w1.k), hidden_states.device)
    rows = hidden_states.shape[0]
    check_tensor("expert_num_tokens", expert_num_tokens, ID_DTYPES, (w1.experts,), hidden_states.device)
    if row_weights is not None:
        check_factors("row_weights", row_weights, (rows, 1), hidden_states.device)
    _check_pair(w1, w2)
    workspace = workspace or _workspace(hidden_states, rows, w1, w2, down=False)
    _check_workspace(workspace, rows, w1, w2, hidden_states.device)
    if out is None:
        out = hidden_states.new_empty((rows, w2.n))
    check_tensor("out", out, DTYPES, (rows, w2.n), hidden_states.device)
    config = config or default_config(rows, w1.experts)

    alignment = align_permuted(expert_num_tokens, rows, config.block_m)
    moe_gemm_mxfp4(hidden_states, w1, alignment, workspace.gate_up.unsqueeze(1), config=config)
    # How many rows have an expert is known to the device alone: those that have none go along, and lead nowhere.
    gated_activation(workspace.gate_up, workspace.activated, activation)
    moe_gemm_mxfp4(workspace.activated, w2, alignment, out.unsqueeze(1), topk_weights=row_weights, config=config)
    return out


def _workspace(
    hidden_states: torch.Tensor, rows: int, w1: ExpertWeights, w2: ExpertWeights, *, down: bool = True
) -> Workspace:
    return Workspace(
        hidden_states.new_empty((rows, w1.n)),
        hidden_states.new_empty((rows, w2.k)),
        hidden_states.new_empty((rows, w2.n)) if down else None,
    )


def _check_workspace(
    workspace: Workspace, rows: int, w1: ExpertWeights, w2: ExpertWeights, device: torch.device
) -> None:
    widths = {"gate_up": w1.n, "activated": w2.k, "down": w2.n}
    for name, width in widths.items():
        tensor = getattr(workspace, name)
        if tensor is not None:
            check_tensor(f"workspace.{name}", tensor, DTYPES, (rows, width), device)


def _check_pair(w1: ExpertWeights, w2: ExpertWeights) -> None:
    if w1.experts != w2.experts:
        raise ValueError(f"w2 has {w2.experts} experts; allowed: {w1.experts}, as w1")
    if w1.n != 2 * w2.k:
        raise ValueError(f"w2 has K {w2.k}; allowed: {w1.n / 2:g}, half of w1's N, which is gate and up")
