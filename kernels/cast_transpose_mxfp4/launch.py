"""The launcher of the MXFP4 cast-transpose: checks, allocation, one plain launch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton

from . import kernel
from .configs import Config, default_config

BLOCK = 32
IN_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DIRECTIONS = ("both", "rowwise", "columnwise")
LAYOUTS = ("linear", "shuffled")

#: Shuffled scales are padded to whole multiples of these, rows and groups, and the padding holds this byte, 2^0: 127 is
#: 1.0 by every decoding of E8M0, where 0 is 0.0 by some and 255 a NaN that a GEMM multiplies with.
SCALES_PADDED_TO = (256, 8)
SCALES_PADDING = 127
#: Shuffled codes are whole tiles of so many rows and bytes.
CODES_TILE = (16, 32)
# Indices of rows, columns and programs are 32-bit in the kernel, and a tile may reach past the edge.
MAX_EXTENT = 2**31 - 512


class Quantized(NamedTuple):
    """A matrix (rows, k) in MXFP4: codes uint8 (rows, k/2), scale bytes uint8 (rows, k/32) or padded and shuffled."""

    codes: torch.Tensor
    scales: torch.Tensor


class CastTransposed(NamedTuple):
    """The two directions; None for one that was not asked for."""

    rowwise: Quantized | None
    columnwise: Quantized | None


def cast_transpose_mxfp4(
    x: torch.Tensor,
    *,
    direction: str = "both",
    codes: str = "linear",
    scales: str = "shuffled",
    out: CastTransposed | None = None,
    config: Config | None = None,
) -> CastTransposed:
    """Quantize x to MXFP4 in blocks of 32 along its rows ("rowwise"), along its columns ("columnwise") or both.

    x is float32, bfloat16 or float16 (..., N), taken as (M, N): all axes but the last must fold into one without a
    copy. Otherwise any strides will do. M and N are multiples of 32; an empty x gives empty outputs.

    rowwise is codes (M, N/2) and scales for (M, N/32); columnwise is of the transpose, (N, M/2) and (N, M/32). Two
    E2M1 codes a byte, the even index in the low nibble.

    codes="shuffled": the 16x16 weight shuffle, 16 rows x 16 bytes at a time; rows then come in 16 and bytes in 32, so
    that N is a multiple of 64 for rowwise, M for columnwise.
    scales="shuffled": padded to (256, 8) and shuffled for gfx950's GEMM; all of the padding holds 127. See kernel.py.

    Rules. Scale: amax's exponent minus 2, one more from a significand of 1.75 on ("even", in fp32 bits: 254 from
    1.75 * 2^127 on), clamped to 0 .. 254. Elements: nearest, ties to even; the sign is kept, that of a zero too. A
    block of zeros has scale byte 0, as any of amax < 1.75 * 2^-125, subnormals among them. A NaN or an Inf makes its
    block NaN: byte 255, any codes.

    The outputs are those of `out`, which has what `direction` asks for and no more, or new ones. Linear outputs may
    have any strides without overlap, shuffled ones are contiguous.
    """
    x = _matrix(x)
    m, n = x.shape
    _check_options(m, n, direction, codes, scales)
    wanted = {
        "rowwise": (m, n) if direction != "columnwise" else None,
        "columnwise": (n, m) if direction != "rowwise" else None,
    }
    if out is None:
        out = CastTransposed(*(_allocate(shape, scales, x.device) for shape in wanted.values()))
    else:
        _check_out(out, wanted, codes, scales, x)
    if m == 0 or n == 0:
        return out

    config = config or default_config(m, n)
    rows, columns = m, n
    if scales == "shuffled":
        rows, columns = (triton.cdiv(extent, 256) * 256 for extent in (m, n))
    num_pid_m, num_pid_n = triton.cdiv(rows, config.block_m), triton.cdiv(columns, config.block_n)
    if num_pid_m * num_pid_n >= 2**31:
        raise ValueError(
            f"config {config.name} needs {num_pid_m * num_pid_n} programs for M={m}, N={n}; allowed: < 2**31"
        )
    row_codes, row_scales = out.rowwise or (None, None)
    col_codes, col_scales = out.columnwise or (None, None)
    kernel.cast_transpose_mxfp4_kernel[(num_pid_m * num_pid_n,)](
        x,
        row_codes,
        row_scales,
        col_codes,
        col_scales,
        m,
        n,
        num_pid_n,
        *x.stride(),
        *_strides(row_codes),
        *_strides(row_scales),
        *_strides(col_codes),
        *_strides(col_scales),
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        ROWWISE=out.rowwise is not None,
        COLUMNWISE=out.columnwise is not None,
        CODES_SHUFFLED=codes == "shuffled",
        SCALES_SHUFFLED=scales == "shuffled",
        SCALES_PADDING=SCALES_PADDING,
        num_warps=config.num_warps,
    )
    return out


def scales_shape(rows: int, k: int, scales: str) -> tuple[int, int]:
    """The shape of the scales of a matrix (rows, k)."""
    shape = rows, k // BLOCK
    if scales == "linear":
        return shape
    padded_rows, padded_groups = (triton.cdiv(size, to) * to for size, to in zip(shape, SCALES_PADDED_TO, strict=True))
    return padded_rows, padded_groups


def _strides(tensor: torch.Tensor | None) -> tuple[int, int]:
    if tensor is None:
        return 0, 0
    row, column = tensor.stride()
    return row, column


def _allocate(shape: tuple[int, int] | None, scales: str, device: torch.device) -> Quantized | None:
    if shape is None:
        return None
    rows, k = shape
    return Quantized(
        torch.empty((rows, k // 2), dtype=torch.uint8, device=device),
        torch.empty(scales_shape(rows, k, scales), dtype=torch.uint8, device=device),
    )


def _matrix(x: torch.Tensor) -> torch.Tensor:
    """X as (M, N), or an error that names what is wrong with it."""
    if x.dtype not in IN_DTYPES:
        raise TypeError(f"x is {x.dtype}; allowed: {', '.join(map(str, IN_DTYPES))}")
    if x.ndim < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; allowed: two dimensions or more")
    *leading, n = x.shape
    m = math.prod(leading)
    for name, extent in (("M", m), ("N", n)):
        if extent % BLOCK != 0:
            raise ValueError(f"{name} is {extent} (x has shape {tuple(x.shape)}); allowed: multiples of {BLOCK}")
        if extent > MAX_EXTENT:
            raise ValueError(f"{name} is {extent} (x has shape {tuple(x.shape)}); allowed: at most {MAX_EXTENT}")
    try:
        return x.view(m, n)
    except RuntimeError:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and strides {x.stride()}; allowed: all axes but the last fold into one "
            "without a copy (x.contiguous() makes one)"
        ) from None


def _check_options(m: int, n: int, direction: str, codes: str, scales: str) -> None:
    for name, value, allowed in (
        ("direction", direction, DIRECTIONS),
        ("codes", codes, LAYOUTS),
        ("scales", scales, LAYOUTS),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
    if codes == "shuffled":
        for name, extent, other in (("N", n, "columnwise"), ("M", m, "rowwise")):
            if direction != other and extent % (2 * CODES_TILE[1]) != 0:
                raise ValueError(
                    f"{name} is {extent}; allowed with shuffled codes along it: multiples of {2 * CODES_TILE[1]}"
                )


def _check_out(
    out: CastTransposed, wanted: dict[str, tuple[int, int] | None], codes: str, scales: str, x: torch.Tensor
) -> None:
    taken = {"x": x}
    for name, shape in wanted.items():
        given: Quantized | None = getattr(out, name)
        if (given is None) != (shape is None):
            have, want = ("tensors", "None") if shape is None else ("None", "tensors")
            raise ValueError(f"out.{name} is {have}; allowed with this direction: {want}")
        if given is None or shape is None:
            continue
        rows, k = shape
        _check_output(f"out.{name}.codes", given.codes, (rows, k // 2), codes == "shuffled", taken)
        _check_output(f"out.{name}.scales", given.scales, scales_shape(rows, k, scales), scales == "shuffled", taken)


def _check_output(
    name: str, tensor: torch.Tensor, shape: tuple[int, int], shuffled: bool, taken: dict[str, torch.Tensor]
) -> None:
    """Check one output, and add it to the tensors that the next must not share memory with."""
    if tensor.dtype != torch.uint8:
        raise TypeError(f"{name} is {tensor.dtype}; allowed: torch.uint8")
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed: {shape}")
    if tensor.device != taken["x"].device:
        raise ValueError(f"{name} is on {tensor.device}; allowed: {taken['x'].device}, where x is")
    if shuffled and not tensor.is_contiguous():
        raise ValueError(f"{name} has strides {tensor.stride()}; allowed when shuffled: contiguous")
    # Ordered by stride, each dimension must step over all of the one below. That of size 1 has any stride.
    steps = sorted((stride, size) for stride, size in zip(tensor.stride(), shape, strict=True) if size > 1)
    reach = 0
    for stride, size in steps:
        if stride <= reach:
            raise ValueError(f"{name} has strides {tensor.stride()}; allowed: elements that do not overlap")
        reach += stride * (size - 1)
    start, end = _span(tensor)
    for other, used in taken.items():
        if start < _span(used)[1] and _span(used)[0] < end:
            raise ValueError(f"{name} shares memory with {other}; allowed: memory of its own")
    taken[name] = tensor


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The addresses from the first byte of a tensor to beyond its last."""
    if tensor.numel() == 0:
        return 0, 0
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    start = tensor.data_ptr()
    return start, start + (last + 1) * tensor.element_size()
