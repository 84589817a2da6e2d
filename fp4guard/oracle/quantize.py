"""What a quantization has to write: codes and scale bytes, in one direction or in both, bit for bit.

A kernel may be held against the policy's own scales (`quantize_mx`, `quantize_nvfp4`), or its scales and its elements
apart: the elements against the scale bytes that it wrote (`requantize_mx`, `requantize_nvfp4`), so that one wrong scale
is one mismatch and not 32.

`random` are the words that a kernel with stochastic rounding has drawn, see `formats.codec.encode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fp4guard.formats import LINEAR, MXFP4, BlockFormat, BlockScaled, NibbleOrder, TiledLayout, mx, nvfp4
from fp4guard.formats.blocks import per_element
from fp4guard.formats.codec import Random
from fp4guard.oracle.quantized import ExpectedCodes


@dataclass(frozen=True)
class Storage:
    """How a kernel stores what it quantized: shared by every function of this module."""

    packing: NibbleOrder | None = NibbleOrder.LOW_FIRST
    """Of elements of four bits; wider ones are always one a byte."""
    codes: TiledLayout = LINEAR
    """Of the bytes of the elements."""
    scales: TiledLayout = LINEAR
    """Of the scale bytes."""
    scales_padding: int | None = None
    """What the padding of the scales has to hold; None: anything."""


class Quantized(NamedTuple):
    """What the two outputs of a quantization have to hold."""

    codes: ExpectedCodes
    scales: ExpectedCodes


class CastTransposed(NamedTuple):
    """What a quantization of (m, n) in both directions has to write."""

    rowwise: Quantized
    """Codes (m, n) and scales (m, ceil(n / 32))."""
    columnwise: Quantized
    """Codes (n, m) and scales (n, ceil(m / 32)): the transpose, in blocks along m."""


_PLAIN = Storage()


def quantize_mx(
    values: object,
    policy: mx.MXPolicy = mx.STANDARD,
    *,
    format: BlockFormat = MXFP4,
    axis: int = -1,
    storage: Storage = _PLAIN,
    random: Random = None,
) -> Quantized:
    """A float tensor or array in an MX format, blocks along `axis`, which becomes the last: see `formats.mx.quantize`.

    Codes under a NaN scale may be anything. Raises as that function does, and TypeError for other objects.
    """
    return _quantized(mx.quantize(to_array(values), policy, format=format, axis=axis, random=random), storage)


def requantize_mx(
    values: object,
    scales: NDArray[np.uint8],
    policy: mx.MXPolicy = mx.STANDARD,
    *,
    format: BlockFormat = MXFP4,
    axis: int = -1,
    storage: Storage = _PLAIN,
    random: Random = None,
) -> ExpectedCodes:
    """The codes that follow from a kernel's own scale bytes, uint8 (..., blocks) in logical order.

    Of scales in a layout: `layout.unpack(stored, shape)`. Raises as `formats.mx.requantize` does.
    """
    matrix = mx.requantize(to_array(values), scales, policy, format=format, axis=axis, random=random)
    return _quantized(matrix, storage).codes


def cast_transpose(values: object, policy: mx.MXPolicy = mx.STANDARD, *, storage: Storage = _PLAIN) -> CastTransposed:
    """A matrix (m, n) in MXFP4, in both directions; ValueError where `values` has another rank."""
    array = to_array(values)
    if array.ndim != 2:
        raise ValueError(f"values: shape {array.shape}; allowed is 2-D, (m, n)")
    return CastTransposed(
        quantize_mx(array, policy, axis=1, storage=storage),
        quantize_mx(array, policy, axis=0, storage=storage),
    )


def quantize_nvfp4(
    values: object,
    order: nvfp4.NVOrder,
    global_scale: float,
    policy: nvfp4.NVPolicy = nvfp4.STANDARD,
    *,
    axis: int = -1,
    storage: Storage = _PLAIN,
    random: Random = None,
) -> Quantized:
    """A tensor of float32 or narrower in NVFP4: see `formats.nvfp4.quantize`, and its errors.

    Codes under a scale that is zero or NaN may be anything.
    """
    return _quantized(nvfp4.quantize(to_array(values), order, global_scale, policy, axis=axis, random=random), storage)


def requantize_nvfp4(
    values: object,
    scales: NDArray[np.uint8],
    order: nvfp4.NVOrder,
    global_scale: float,
    policy: nvfp4.NVPolicy = nvfp4.STANDARD,
    *,
    axis: int = -1,
    storage: Storage = _PLAIN,
    random: Random = None,
) -> ExpectedCodes:
    """The codes that follow from a kernel's own scale bytes, uint8 (..., blocks) in logical order."""
    matrix = nvfp4.requantize(to_array(values), scales, order, global_scale, policy, axis=axis, random=random)
    return _quantized(matrix, storage).codes


def to_array(values: object) -> NDArray[np.floating]:
    """A float tensor or array as numpy, types narrower than float32 as float32: exact. TypeError for anything else."""
    if isinstance(values, torch.Tensor):
        if not values.dtype.is_floating_point:
            raise TypeError(f"values: dtype {values.dtype}; allowed are floating-point types")
        wide = values.detach().cpu() if values.dtype == torch.float64 else values.detach().cpu().to(torch.float32)
        return np.asarray(wide.numpy())
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return values
    raise TypeError(f"values: {type(values).__name__}; allowed are float tensors and arrays")


def _quantized(matrix: BlockScaled, storage: Storage) -> Quantized:
    scale = matrix.decode_scales()
    # E8M0 has no zero; its byte 0 is a scale like any other.
    meaningless = np.isnan(scale) | (scale == 0)
    dont_care = None
    if meaningless.any():
        dont_care = per_element(meaningless, matrix.shape[-1], matrix.format.length)
    codes = ExpectedCodes(
        matrix.format.element,
        matrix.elements,
        dont_care,
        packing=storage.packing if matrix.format.element.width == 4 else None,
        layout=storage.codes,
        block=matrix.format.length,
        scales=matrix.scales,
    )
    scales = ExpectedCodes(
        matrix.format.scale,
        matrix.scales,
        layout=storage.scales,
        padding=storage.scales_padding,
        block=matrix.format.length,
    )
    return Quantized(codes, scales)
