"""The launchers of the stages of an MXFP4 mixture of experts: the grouped GEMM, the activation, the sum."""

from __future__ import annotations

import torch
import triton

from . import kernel
from .align import Alignment
from .checks import MAX_EXTENT, check_factors, check_output, check_tensor
from .configs import Config
from .weights import ExpertWeights

OUT_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
DTYPES = (torch.bfloat16,)
ACTIVATIONS = ("silu", "gelu", "swiglu_oai")
SWIGLU_ALPHA, SWIGLU_LIMIT = 1.702, 7.0
ACTIVATION_BLOCK_M, ACTIVATION_BLOCK_N = 8, 64
SUM_BLOCK_M, SUM_BLOCK_N = 8, 64


def moe_gemm_mxfp4(
    a: torch.Tensor,
    weights: ExpertWeights,
    alignment: Alignment,
    c: torch.Tensor,
    *,
    topk_weights: torch.Tensor | None = None,
    config: Config,
) -> torch.Tensor:
    """C[token, slot] = (a[token] @ dequant(weights[expert]).T + bias[expert]) * topk_weights[token, slot]; c itself.

    `a` is bf16 (M, K), `c` bf16, fp16 or fp32 (M, top_k, N), both of any positive strides, but that the rows of c
    follow each other regularly: stride(0) == top_k * stride(1). `topk_weights` is fp32 (M, top_k), contiguous.
    `alignment` is that of the M * top_k slots. Slots of no expert get zeros; slots that the alignment does not hold are
    left as they are.

    Raises TypeError and ValueError that name the argument.
    """
    check_tensor("a", a, DTYPES, ("M", weights.k), a.device)
    check_tensor("c", c, OUT_DTYPES, (a.shape[0], "top_k", weights.n), a.device)
    m, top_k, n = c.shape
    if weights.codes.device != a.device:
        raise ValueError(f"weights is on {weights.codes.device}; allowed: {a.device}, where a is")
    if m > 1 and top_k > 1 and c.stride(0) != top_k * c.stride(1):
        raise ValueError(f"c has strides {c.stride()}; allowed: stride(0) = {top_k * c.stride(1)}, top_k * stride(1)")
    _check_alignment(alignment, a.device, m * top_k, weights.experts, config)
    if topk_weights is not None:
        check_factors("topk_weights", topk_weights, (m, top_k), a.device)
    inputs = {"a": a, "weights.codes": weights.codes, "weights.scales": weights.scales}
    optional = {"weights.bias": weights.bias, "topk_weights": topk_weights}
    check_output("c", c, inputs | {name: tensor for name, tensor in optional.items() if tensor is not None})
    if c.numel() == 0:
        return c

    # With few slots, there are no more blocks than slots.
    em = min(len(alignment.sorted_token_ids), m * top_k * config.block_m)
    grid = (triton.cdiv(em, config.block_m) * triton.cdiv(n, config.block_n),)
    if em > MAX_EXTENT or grid[0] > MAX_EXTENT:
        raise ValueError(f"config {config.name} needs {grid[0]} programs for {m * top_k} slots; allowed: {MAX_EXTENT}")
    bias_strides = (0, 0) if weights.bias is None else weights.bias.stride()
    kernel.fused_moe_mxfp4_kernel[grid](
        a,
        weights.codes,
        c,
        weights.scales,
        weights.bias,
        topk_weights,
        alignment.sorted_token_ids,
        alignment.expert_ids,
        alignment.num_tokens_post_padded,
        n,
        weights.k,
        em,
        m * top_k,
        a.stride(0),
        a.stride(1),
        *weights.codes.stride(),
        # With one slot a token, what is between rows is what is between tokens.
        c.stride(1) if top_k > 1 else c.stride(0),
        c.stride(2),
        *weights.scales.stride(),
        *bias_strides,
        BLOCK_SIZE_M=config.block_m,
        BLOCK_SIZE_N=config.block_n,
        BLOCK_SIZE_K=config.block_k,
        GROUP_SIZE_M=config.group_m,
        TOP_K=top_k,
        HAS_BIAS=weights.bias is not None,
        MUL_ROUTED_WEIGHT=topk_weights is not None,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
    return c


def gated_activation(x: torch.Tensor, y: torch.Tensor, activation: str) -> torch.Tensor:
    """Y (R, D) = act(gate) * up of x (R, 2 D), both bf16 and of any positive strides; y itself.

    "silu" and "gelu" (the form with erf) take gate and up from the halves of x. "swiglu_oai" takes them from its even
    and odd columns: (u + 1) * g * sigmoid(1.702 g) with g = min(gate, 7) and u = up clamped to -7 .. 7.

    Raises TypeError and ValueError that name the argument.
    """
    check_activation(activation)
    check_tensor("y", y, DTYPES, ("R", "D"), x.device)
    rows, d = y.shape
    check_tensor("x", x, DTYPES, (rows, 2 * d), x.device)
    check_output("y", y, {"x": x})
    if y.numel():
        grid = (triton.cdiv(rows, ACTIVATION_BLOCK_M), triton.cdiv(d, ACTIVATION_BLOCK_N))
        kernel.gated_activation_kernel[grid](
            x,
            y,
            rows,
            d,
            *x.stride(),
            *y.stride(),
            SWIGLU_ALPHA,
            SWIGLU_LIMIT,
            ACTIVATION=activation,
            BLOCK_SIZE_M=ACTIVATION_BLOCK_M,
            BLOCK_SIZE_N=ACTIVATION_BLOCK_N,
        )
    return y


def moe_sum(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Y (M, N) = the sum of x (M, top_k, N) over top_k, both bf16 and of any positive strides; y itself.

    Raises TypeError and ValueError that name the argument.
    """
    check_tensor("y", y, DTYPES, ("M", "N"), x.device)
    m, n = y.shape
    check_tensor("x", x, DTYPES, (m, "top_k", n), x.device)
    check_output("y", y, {"x": x})
    if y.numel():
        grid = (triton.cdiv(m, SUM_BLOCK_M), triton.cdiv(n, SUM_BLOCK_N))
        kernel.moe_sum_kernel[grid](
            x,
            y,
            m,
            n,
            *x.stride(),
            *y.stride(),
            TOP_K=x.shape[1],
            BLOCK_SIZE_M=SUM_BLOCK_M,
            BLOCK_SIZE_N=SUM_BLOCK_N,
        )
    return y


def check_activation(activation: str) -> None:
    """ValueError for an unknown activation."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; allowed: {', '.join(map(repr, ACTIVATIONS))}")


def _check_alignment(alignment: Alignment, device: torch.device, slots: int, experts: int, config: Config) -> None:
    """The contents are the device's affair; what the host knows of them is held against the rest."""
    if alignment.block_size != config.block_m:
        raise ValueError(f"alignment.block_size is {alignment.block_size}; allowed: {config.block_m}, config.block_m")
    if alignment.slots != slots:
        raise ValueError(f"alignment.slots is {alignment.slots}; allowed: {slots}, the M * top_k of c")
    if alignment.experts != experts:
        raise ValueError(f"alignment.experts is {alignment.experts}; allowed: {experts}, those of weights")
    if alignment.sorted_token_ids.device != device:
        raise ValueError(f"alignment is on {alignment.sorted_token_ids.device}; allowed: {device}, where a is")
