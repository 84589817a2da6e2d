"""The launcher of the MXFP4 GEMM: checks, split-K, allocation, two plain launches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from . import kernel
from .configs import Config, default_config

SCALE_GROUP_SIZE = 32
OUT_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
LAYOUTS = ("linear", "preshuffled")
REDUCE_BLOCK_SIZE_M = 16
# Indices of rows, columns and programs are 32-bit in the kernel, and a tile may reach past the edge.
MAX_EXTENT = 2**31 - 1024


def gemm_afp4wfp4(
    x: torch.Tensor,
    w: torch.Tensor,
    x_scales: torch.Tensor,
    w_scales: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
    config: Config | None = None,
    scales: str = "linear",
    keep_partials: bool = False,
) -> torch.Tensor:
    """Y = dequant(x) @ dequant(w).T, for MXFP4 activations and weights.

    x is uint8 (M, K/2) and w uint8 (N, K/2): two E2M1 codes a byte, the even k in the low nibble. K is a
    multiple of 32. Every operand may have any positive strides. M == 0 or N == 0 gives an empty y, and K == 0
    zeros: the empty sum.

    scales="linear": x_scales is uint8 E8M0 (M, K/32), w_scales (N, K/32).
    scales="preshuffled": the gfx950 order (see kernel.py). With R = M or N rounded up to 32 and C = K/32
    rounded up to 8, w_scales is (R/32, 32*C), and so is x_scales from M = 32 on; below that it is linear.
    More rows than R/32 are allowed. The padding may hold anything: a padded group is never loaded, and what
    a padded row holds reaches no element of y.

    The output is y, or a new tensor of `dtype` (bf16 unless y says otherwise). With keep_partials it is a new
    fp32 (splits, M, N) of partials that are left to the caller to sum; y and dtype are not to be given then.
    """
    m, n, k = _check_inputs(x, w, x_scales, w_scales, scales)
    config = default_config(m, n, k) if config is None else config
    _check_config(config, m, scales)
    _check_output(y, dtype, keep_partials, m, n, {"x": x, "w": w, "x_scales": x_scales, "w_scales": w_scales})

    shuffled = scales == "preshuffled"
    split = split_k(k, config.block_k, config.num_ksplit, min_block_size_k=256 if shuffled else 128)
    partials_shape = (split.num_ksplit, m, n)
    if keep_partials:
        result = partials = torch.empty(partials_shape, dtype=torch.float32, device=x.device)
    else:
        result = torch.empty((m, n), dtype=dtype or torch.bfloat16, device=x.device) if y is None else y
        partials = result.unsqueeze(0)
        if split.num_ksplit > 1:
            partials = torch.empty(partials_shape, dtype=torch.float32, device=x.device)
    if k == 0:
        return result.zero_()
    if m == 0 or n == 0:
        return result

    grid = (split.num_ksplit * triton.cdiv(m, config.block_m) * triton.cdiv(n, config.block_n),)
    if grid[0] >= 2**31:
        raise ValueError(f"config {config.name} needs {grid[0]} programs for M={m}, N={n}; allowed: < 2**31")
    kernel.gemm_afp4wfp4_kernel[grid](
        x,
        w,
        partials,
        x_scales,
        w_scales,
        m,
        n,
        k // 2,
        split.splitk_block_size,
        x.stride(0),
        x.stride(1),
        w.stride(1),  # the kernel sees w.T, (K/2, N)
        w.stride(0),
        partials.stride(0),
        partials.stride(1),
        partials.stride(2),
        x_scales.stride(0),
        x_scales.stride(1),
        w_scales.stride(0),
        w_scales.stride(1),
        BLOCK_SIZE_M=config.block_m,
        BLOCK_SIZE_N=config.block_n,
        BLOCK_SIZE_K=split.block_size_k,
        GROUP_SIZE_M=config.group_m,
        NUM_KSPLIT=split.num_ksplit,
        EVEN_K=split.even_k,
        A_SCALES_SHUFFLED=shuffled and m >= 32,
        B_SCALES_SHUFFLED=shuffled,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
    if split.num_ksplit > 1 and not keep_partials:
        _reduce(partials, result)
    return result


def _reduce(partials: torch.Tensor, y: torch.Tensor) -> None:
    """Y = the sum of the partials, in one more launch."""
    num_ksplit, m, n = partials.shape
    block_n = reduce_block_size_n(num_ksplit)
    grid = (triton.cdiv(m, REDUCE_BLOCK_SIZE_M), triton.cdiv(n, block_n))
    kernel.gemm_afp4wfp4_reduce_kernel[grid](
        partials,
        y,
        m,
        n,
        *partials.stride(),
        *y.stride(),
        BLOCK_SIZE_M=REDUCE_BLOCK_SIZE_M,
        BLOCK_SIZE_N=block_n,
        NUM_KSPLIT=num_ksplit,
        MAX_KSPLIT=triton.next_power_of_2(num_ksplit),
    )


def reduce_block_size_n(num_ksplit: int) -> int:
    """Narrower for many splits: a program holds a tile of each of them at once."""
    return 128 if num_ksplit <= 4 else 64


@dataclass(frozen=True)
class SplitK:
    """How K is cut up: sizes in elements. `even_k` says that every split is a whole number of K blocks."""

    block_size_k: int
    splitk_block_size: int
    num_ksplit: int
    even_k: bool


def split_k(k: int, block_size_k: int, num_ksplit: int, *, min_block_size_k: int = 128) -> SplitK:
    """Cut K into at most `num_ksplit` equal splits of whole K blocks, or into one split that is all of K.

    An uneven cut is not worth its masks: the number of splits is halved until they are equal. They are then
    counted anew. A split is rounded up to whole K blocks, so that fewer may cover K (K = 768 in 4 splits of
    blocks of 256 is 3 splits), and the partial of an empty one would be summed without ever being written.
    A K block larger than K shrinks to the next power of two, but not below `min_block_size_k`.
    """
    if k == 0:
        return SplitK(block_size_k, 0, 1, even_k=True)
    splitk_block_size = _split_size(k, block_size_k, num_ksplit)
    while num_ksplit > 1 and k % splitk_block_size != 0:
        num_ksplit //= 2
        splitk_block_size = _split_size(k, block_size_k, num_ksplit)
    num_ksplit = triton.cdiv(k, splitk_block_size)
    if block_size_k >= k:
        block_size_k = max(triton.next_power_of_2(k), min_block_size_k)
    if num_ksplit == 1:
        splitk_block_size = k
    even_k = k % splitk_block_size == 0 and splitk_block_size % block_size_k == 0
    return SplitK(block_size_k, splitk_block_size, num_ksplit, even_k)


def _split_size(k: int, block_size_k: int, num_ksplit: int) -> int:
    return triton.cdiv(triton.cdiv(k, num_ksplit), block_size_k) * block_size_k


def _check_inputs(
    x: torch.Tensor, w: torch.Tensor, x_scales: torch.Tensor, w_scales: torch.Tensor, scales: str
) -> tuple[int, int, int]:
    """M, N and K, or an error that names what is wrong with which argument."""
    if scales not in LAYOUTS:
        raise ValueError(f"scales is {scales!r}; allowed: {', '.join(map(repr, LAYOUTS))}")
    for name, tensor in {"x": x, "w": w, "x_scales": x_scales, "w_scales": w_scales}.items():
        _check_tensor(name, tensor)
        if tensor.dtype != torch.uint8:
            raise TypeError(f"{name} is {tensor.dtype}; allowed: torch.uint8 (view the bytes as such)")
        if tensor.ndim != 2:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed: two dimensions")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}; allowed: {x.device}, where x is")
        _check_strides(name, tensor)

    (m, x_bytes), (n, w_bytes) = x.shape, w.shape
    k = 2 * x_bytes
    if w_bytes != x_bytes:
        raise ValueError(f"w has shape {tuple(w.shape)}; allowed: (N, {x_bytes}), the K/2 of x {tuple(x.shape)}")
    if k % SCALE_GROUP_SIZE != 0:
        raise ValueError(f"K is {k} (x has {x_bytes} bytes a row); allowed: multiples of {SCALE_GROUP_SIZE}")
    for name, extent in (("M", m), ("N", n), ("K", k)):
        if extent > MAX_EXTENT:
            raise ValueError(f"{name} is {extent}; allowed: at most {MAX_EXTENT}")

    groups = k // SCALE_GROUP_SIZE
    for name, tensor, rows in (("x_scales", x_scales, m), ("w_scales", w_scales, n)):
        if scales == "preshuffled" and not (name == "x_scales" and m < 32):
            rows, columns = triton.cdiv(rows, 32), 32 * triton.cdiv(groups, 8) * 8
            if tensor.shape[0] < rows or tensor.shape[1] != columns:
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}; allowed when preshuffled: "
                    f"({rows} or more, {columns}) for K={k}"
                )
        elif tensor.shape != (rows, groups):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed: ({rows}, {groups}) for K={k}")
    return m, n, k


def _check_config(config: Config, m: int, scales: str) -> None:
    """Config checks its own fields; here is what the layout of the scales asks of them."""
    if not hasattr(config, "block_m"):  # a name, most likely
        raise TypeError(f"config is {config!r}; allowed: a Config, such as configs.CONFIGS['BM32_BN32_BK128']")
    if scales == "linear":
        return
    least = {"block_m": 32 if m >= 32 else 1, "block_n": 32, "block_k": 256}
    for field, value in least.items():
        if getattr(config, field) < value:
            raise ValueError(
                f"config.{field} is {getattr(config, field)} ({config.name}); "
                f"allowed with preshuffled scales and M={m}: at least {value}"
            )


def _check_output(
    y: torch.Tensor | None,
    dtype: torch.dtype | None,
    keep_partials: bool,
    m: int,
    n: int,
    inputs: dict[str, torch.Tensor],
) -> None:
    if keep_partials and (y is not None or dtype is not None):
        raise ValueError("keep_partials returns new fp32 partials; y and dtype are not to be given with it")
    if dtype is not None and dtype not in OUT_DTYPES:
        raise TypeError(f"dtype is {dtype}; allowed: {', '.join(map(str, OUT_DTYPES))}")
    if y is None:
        return
    _check_tensor("y", y)
    if y.dtype not in OUT_DTYPES or (dtype is not None and y.dtype != dtype):
        raise TypeError(f"y is {y.dtype}; allowed: {dtype or ', '.join(map(str, OUT_DTYPES))}")
    if y.shape != (m, n):
        raise ValueError(f"y has shape {tuple(y.shape)}; allowed: {(m, n)}")
    device = inputs["x"].device
    if y.device != device:
        raise ValueError(f"y is on {y.device}; allowed: {device}, where x is")
    _check_strides("y", y)
    # Ordered by stride, each dimension must step over all of the one below.
    (inner, inner_size), (outer, outer_size) = sorted(zip(y.stride(), y.shape, strict=True))
    if inner_size > 1 and outer_size > 1 and outer <= inner * (inner_size - 1):
        raise ValueError(f"y has strides {y.stride()} for shape {(m, n)}; allowed: elements that do not overlap")
    start, end = _span(y)
    for name, tensor in inputs.items():
        if start < _span(tensor)[1] and _span(tensor)[0] < end:
            raise ValueError(f"y shares memory with {name}; allowed: memory of its own")


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} is of type {type(value).__name__}; allowed: torch.Tensor")


def _check_strides(name: str, tensor: torch.Tensor) -> None:
    # The stride of a dimension of size 1 is never used, and torch lets it be anything.
    if any(stride <= 0 for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1):
        raise ValueError(f"{name} has strides {tensor.stride()}; allowed: positive ones (no expanded dimension)")


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The addresses from the first byte of a tensor to beyond its last."""
    if tensor.numel() == 0:
        return 0, 0
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    start = tensor.data_ptr()
    return start, start + (last + 1) * tensor.element_size()
