"""The linear layer: weights prepared once for a backend, then quantize, pad, multiply, slice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from .backends import Backend, backend_named
from .checks import check_scalar, check_shape, check_tensor
from .configs import Config, QuantizeConfig
from .launch import OUT_DTYPES, scaled_fp4_mm, scaled_fp4_quant
from .scales import GROUP_SIZE, swizzle_128x4


@dataclass(frozen=True)
class Weight:
    """A weight as its backend's GEMM takes it. `n` and `k` are what they were before padding."""

    codes: torch.Tensor
    """uint8 (padded N, padded K / 2)."""
    scales: torch.Tensor
    """E4M3 as uint8, 128x4: (N up to a multiple of 128, K / 16 up to one of 4)."""
    bias: torch.Tensor | None
    """(padded N,)."""
    backend: Backend
    n: int
    k: int
    parts: int
    """How many weights of equal size lie one behind the other, each with padding of its own."""


def prepare_weight(
    codes: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    backend: str = "cutlass",
    parts: int = 1,
) -> Weight:
    """Pad and swizzle an NVFP4 weight: codes uint8 (N, K/2), linear scales uint8 (N, K/16), bias (N,).

    This is a rank's shard: N may be anything, K a multiple of 16. Each of `parts` (a gate and an up projection: 2) is
    padded by itself, so that they begin where equal parts of the padded weight do.
    """
    rules = backend_named(backend)
    check_tensor("codes", codes, (torch.uint8,), 2, codes.device)
    check_tensor("scales", scales, (torch.uint8,), 2, codes.device)
    n, k = codes.shape[0], 2 * codes.shape[1]
    if k % GROUP_SIZE != 0:
        raise ValueError(f"K is {k} (codes has shape {tuple(codes.shape)}); allowed: multiples of {GROUP_SIZE}")
    check_shape("scales", scales, (n, k // GROUP_SIZE), f"for codes {tuple(codes.shape)}")
    if parts < 1 or n % parts != 0:
        raise ValueError(f"parts is {parts}; allowed: divisors of N = {n}")
    if bias is not None:
        check_tensor("bias", bias, (torch.bfloat16, torch.float16, torch.float32), 1, codes.device)
        check_shape("bias", bias, (n,), f"one for each of the {n} rows")

    part_n, padded_k = rules.padded(n // parts, k)
    pad_n = part_n - n // parts
    codes = _pad_parts(codes, parts, pad_n, padded_k // 2 - codes.shape[1])
    scales = swizzle_128x4(_pad_parts(scales, parts, pad_n, 0), padded_k // GROUP_SIZE)
    if bias is not None:
        bias = _pad_parts(bias[:, None], parts, pad_n, 0)[:, 0]
    return Weight(codes, scales, bias, rules, n, k, parts)


def nvfp4_linear(
    x: torch.Tensor,
    weight: Weight,
    global_scale: torch.Tensor,
    alpha: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    arithmetic: str = "fast",
    quantize_config: QuantizeConfig | None = None,
    config: Config | None = None,
) -> torch.Tensor:
    """Y = alpha * quantized(x) @ dequant(weight).T + bias: x (..., K) fp16 or bf16, Y (..., N) of x's dtype or `dtype`.

    `global_scale` is what x is quantized with; alpha is 1 / (global_scale * the weight's), one fp32.
    """
    if x.ndim < 1 or x.shape[-1] != weight.k:
        raise ValueError(f"x has shape {tuple(x.shape)}; allowed: (..., {weight.k}), the weight's K")
    dtype = x.dtype if dtype is None else dtype
    if dtype not in OUT_DTYPES:
        raise TypeError(f"dtype is {dtype}; allowed: {', '.join(map(str, OUT_DTYPES))}")
    check_scalar("alpha", alpha, (torch.float32,), x.device)
    rows = x.reshape(-1, weight.k) if x.numel() else x.new_empty((x.shape[:-1].numel(), weight.k))
    layout = weight.backend.activation_layout(rows.shape[0])
    padded_n, padded_bytes = weight.codes.shape
    codes, scales = scaled_fp4_quant(
        rows,
        global_scale,
        layout=layout,
        arithmetic=arithmetic,
        padded_k=2 * padded_bytes,
        config=quantize_config,
    )
    codes = pad(codes, (0, padded_bytes - codes.shape[1]))
    out = scaled_fp4_mm(
        codes,
        weight.codes,
        scales,
        weight.scales,
        alpha,
        bias=weight.bias,
        dtype=dtype,
        backend=weight.backend.name,
        a_layout=layout,
        config=config,
    )
    # Each part without its padding.
    out = out.reshape(-1, weight.parts, padded_n // weight.parts)[:, :, : weight.n // weight.parts]
    return out.reshape(*x.shape[:-1], weight.n)


def _pad_parts(matrix: torch.Tensor, parts: int, rows: int, columns: int) -> torch.Tensor:
    """Zeros behind the rows of each part, and behind the columns."""
    split = matrix.reshape(parts, -1, matrix.shape[1])
    return pad(split, (0, columns, 0, rows)).reshape(-1, matrix.shape[1] + columns)
