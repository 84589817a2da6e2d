"""The launchers of the two kernels: checks, allocation, one plain launch each."""

from __future__ import annotations

import torch
import triton

from . import kernel
from .backends import Backend, backend_named
from .checks import check_output, check_scalar, check_shape, check_tensor
from .configs import Config, QuantizeConfig, default_config, default_quantize_config
from .scales import GROUP_SIZE, ScaleLayout, scale_layout

OUT_DTYPES = (torch.bfloat16, torch.float16)
ARITHMETIC = ("fast", "exact")
# Indices of rows, columns and programs are 32-bit in the kernels, and a tile may reach past the edge.
MAX_EXTENT = 2**31 - 1024
# CUDA's limit on the second dimension of a grid.
MAX_GRID_Y = 65535


def scaled_fp4_quant(
    x: torch.Tensor,
    global_scale: torch.Tensor,
    *,
    layout: str = "128x4",
    arithmetic: str = "fast",
    padded_k: int | None = None,
    codes: torch.Tensor | None = None,
    scales: torch.Tensor | None = None,
    config: QuantizeConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """X (M, K), fp16 or bf16 of any positive strides, as NVFP4: codes uint8 (M, K/2) and E4M3 scales as uint8.

    K is a multiple of 16. A code is E2M1, to nearest, ties to even, saturating, the even k in the low nibble; a group
    of 16 has one scale. `global_scale` is one element, fp32 or bf16, positive, finite and not subnormal: usually
    448 * 6 / amax, and 2^-120 to 2^100 keep every intermediate number in range. A group that holds a NaN or an Inf has
    the scale NaN (0x7F), and its codes mean nothing; nor do those under a scale of 0.

    layout: "linear", "128x4", or "8x4" for up to 32 rows. In the last two the scales cover M and K/16 rounded up to
    whole tiles, and the padding is 0. padded_k: a K from which the GEMM will count instead; the scales cover it.
    arithmetic: "fast" computes g * (amax * (1/6)) and x * 1/(s * 1/g), "exact" amax * (g * (1/6)) and
    x * min(1/(s * 1/g), FLT_MAX), all in fp32 with correctly rounded reciprocals.

    codes and scales are the outputs, of any strides that do not overlap (scales in tiles: contiguous); new ones else.
    """
    shape = scale_layout(layout, "layout")
    if arithmetic not in ARITHMETIC:
        raise ValueError(f"arithmetic is {arithmetic!r}; allowed: {', '.join(map(repr, ARITHMETIC))}")
    check_tensor("x", x, (torch.float16, torch.bfloat16), 2, x.device)
    check_scalar("global_scale", global_scale, (torch.float32, torch.bfloat16), x.device)
    m, k = x.shape
    if k % GROUP_SIZE != 0:
        raise ValueError(f"K is {k} (x has shape {tuple(x.shape)}); allowed: multiples of {GROUP_SIZE}")
    _check_extents(M=m, K=k)
    _check_rows(shape, m, "layout")
    padded_k = k if padded_k is None else padded_k
    if padded_k < k or padded_k % GROUP_SIZE != 0:
        raise ValueError(f"padded_k is {padded_k}; allowed: multiples of {GROUP_SIZE} from K = {k} on")
    padded_m, padded_groups = shape.shape(m, padded_k // GROUP_SIZE)

    codes = _output("codes", codes, (m, k // 2), torch.uint8, x, {"x": x, "global_scale": global_scale})
    scales = _output("scales", scales, (padded_m, padded_groups), torch.uint8, x, {"x": x, "codes": codes})
    if shape.row_tile and not scales.is_contiguous():
        raise ValueError(f"scales has strides {scales.stride()}; allowed with {layout}: contiguous ones")
    if m == 0 or padded_groups == 0:
        return codes, scales

    config = config or default_quantize_config(m)
    grid = (triton.cdiv(m, config.block_m), triton.cdiv(padded_groups, config.block_groups))
    if grid[1] > MAX_GRID_Y:
        raise ValueError(f"config {config.name} needs {grid[1]} programs along K={k}; allowed: {MAX_GRID_Y}")
    kernel.quantize_nvfp4_kernel[grid](
        x,
        codes,
        scales,
        global_scale,
        m,
        k,
        padded_m,
        padded_groups,
        x.stride(0),
        x.stride(1),
        codes.stride(0),
        codes.stride(1),
        scales.stride(0),
        scales.stride(1),
        BLOCK_M=config.block_m,
        BLOCK_GROUPS=config.block_groups,
        ROW_TILE=shape.row_tile,
        EXACT=arithmetic == "exact",
        num_warps=config.num_warps,
    )
    return codes, scales


def scaled_fp4_mm(
    a: torch.Tensor,
    b: torch.Tensor,
    a_scales: torch.Tensor,
    b_scales: torch.Tensor,
    alpha: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
    backend: str = "cutlass",
    a_layout: str = "128x4",
    b_layout: str = "128x4",
    config: Config | None = None,
) -> torch.Tensor:
    """C = alpha * dequant(a) @ dequant(b).T + bias, for NVFP4 operands, summed in fp32.

    a is uint8 (M, K/2) and b uint8 (N, K/2), of any positive strides; N and K are multiples of what the backend asks
    for. Scales are E4M3 as uint8, of exactly the shape that their layout has for K/16 groups, contiguous where it has
    tiles; what their padding holds reaches no result. alpha is one fp32, bias (N,) bf16, fp16 or fp32.

    The output is out, of any strides that do not overlap, or a new tensor of `dtype`: bf16 unless out says otherwise.
    """
    rules = backend_named(backend)
    layouts = {"a_scales": scale_layout(a_layout, "a_layout"), "b_scales": scale_layout(b_layout, "b_layout")}
    inputs = {"a": a, "b": b, "a_scales": a_scales, "b_scales": b_scales}
    for name, tensor in inputs.items():
        check_tensor(name, tensor, (torch.uint8,), 2, a.device)
    check_scalar("alpha", alpha, (torch.float32,), a.device)
    m, n, k = _check_operands(a, b, rules)
    _check_rows(layouts["a_scales"], m, "a_layout")
    _check_rows(layouts["b_scales"], n, "b_layout")
    for name, rows in (("a_scales", m), ("b_scales", n)):
        allowed = layouts[name].shape(rows, k // GROUP_SIZE)
        check_shape(name, inputs[name], allowed, f"{layouts[name].name} for K={k}")
        if layouts[name].row_tile and not inputs[name].is_contiguous():
            raise ValueError(f"{name} has strides {inputs[name].stride()}; allowed in tiles: contiguous ones")
    if bias is not None:
        check_tensor("bias", bias, (torch.bfloat16, torch.float16, torch.float32), 1, a.device)
        check_shape("bias", bias, (n,), f"one for each of the {n} columns")
        inputs["bias"] = bias
    if dtype is not None and dtype not in OUT_DTYPES:
        raise TypeError(f"dtype is {dtype}; allowed: {', '.join(map(str, OUT_DTYPES))}")
    out = _output("out", out, (m, n), dtype, a, inputs)

    if m == 0 or n == 0:
        return out
    config = config or default_config(m)
    grid = (triton.cdiv(m, config.block_m) * triton.cdiv(n, config.block_n),)
    kernel.gemm_nvfp4_kernel[grid](
        a,
        b,
        out,
        a_scales,
        b_scales,
        alpha,
        alpha if bias is None else bias,
        m,
        n,
        k // 2,
        a_scales.shape[1] // 4,
        b_scales.shape[1] // 4,
        a.stride(0),
        a.stride(1),
        b.stride(0),
        b.stride(1),
        out.stride(0),
        out.stride(1),
        a_scales.stride(0),
        a_scales.stride(1),
        b_scales.stride(0),
        b_scales.stride(1),
        0 if bias is None else bias.stride(0),
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        BLOCK_K=config.block_k // 2,
        GROUP_M=config.group_m,
        A_ROW_TILE=layouts["a_scales"].row_tile,
        B_ROW_TILE=layouts["b_scales"].row_tile,
        HAS_BIAS=bias is not None,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
    return out


def _check_operands(a: torch.Tensor, b: torch.Tensor, backend: Backend) -> tuple[int, int, int]:
    """M, N and K, or an error that names what is wrong with which operand."""
    (m, a_bytes), (n, b_bytes) = a.shape, b.shape
    if a_bytes != b_bytes:
        raise ValueError(
            f"a has shape {tuple(a.shape)}, b {tuple(b.shape)}; allowed: the same number of bytes a row. "
            "Are both padded, or none?"
        )
    for name, extent, multiple in (("N", n, backend.n_multiple), ("K", 2 * a_bytes, backend.k_multiple)):
        if extent % multiple != 0:
            raise ValueError(f"{name} is {extent}; allowed with backend {backend.name}: multiples of {multiple}")
    _check_extents(M=m, N=n, K=2 * a_bytes)
    return m, n, 2 * a_bytes


def _check_extents(**extents: int) -> None:
    for name, extent in extents.items():
        if extent > MAX_EXTENT:
            raise ValueError(f"{name} is {extent}; allowed: at most {MAX_EXTENT}")


def _check_rows(layout: ScaleLayout, rows: int, argument: str) -> None:
    if layout.max_rows is not None and rows > layout.max_rows:
        raise ValueError(f"{argument} is {layout.name!r} for {rows} rows; allowed: up to {layout.max_rows}")


def _output(
    name: str,
    given: torch.Tensor | None,
    shape: tuple[int, int],
    dtype: torch.dtype | None,
    like: torch.Tensor,
    inputs: dict[str, torch.Tensor],
) -> torch.Tensor:
    """The output that was given, checked, or a new one, bf16 where no dtype is said."""
    if given is None:
        return torch.empty(shape, dtype=dtype or torch.bfloat16, device=like.device)
    check_tensor(name, given, OUT_DTYPES if dtype is None else (dtype,), 2, like.device)
    check_shape(name, given, shape, "the result's")
    check_output(name, given, inputs)
    return given
