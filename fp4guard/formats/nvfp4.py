"""The conversion to NVFP4: an E4M3 scale for every 16 elements, and one float32 scale for the tensor.

No standard says how the scales follow from the data, and the order of the float32 operations changes bits. Each order
that libraries use is a row of a table here, computed in float32 step by step; reciprocals are correctly rounded, where
CUDA's `rcp.approx.ftz` may be an ulp off (PTX ISA, `rcp`).

Source of the format: NVIDIA, Pretraining Large Language Models with NVFP4, 2025, section 2 and appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import codec
from fp4guard.formats.blocks import NVFP4, BlockScaled
from fp4guard.formats.codec import Random
from fp4guard.formats.info import E2M1, E4M3
from fp4guard.formats.partition import Blocks, check_scales, largest, partition, random_blocks
from fp4guard.formats.policies import NanBlock, NanElement, Overflow, Rounding, ZeroSign

Float32: TypeAlias = "NDArray[np.float32]"

_ONE, _SIX = np.float32(1), np.float32(6)
_SIXTH = _ONE / _SIX
_LARGEST = np.finfo(np.float32).max
_MAX_SCALE = np.float32(E4M3.max)
_LEAST_NORMAL_SCALE = np.float32(2.0**E4M3.min_exponent)
SPAN = E4M3.max * E2M1.max
"""448 * 6: the largest magnitude that a block can hold before the tensor's scale."""


@dataclass(frozen=True)
class NVOrder:
    """One order of operations, in float32. `g` is the order's global scale."""

    name: str
    summary: str
    global_scale: Callable[[np.float32], np.float32]
    """From the tensor's largest magnitude to g."""
    tensor_scale: Callable[[np.float32], np.float32]
    """From g to what decoding multiplies with."""
    scale: Callable[[Float32, np.float32], Float32]
    """From a block's largest magnitude and g to its scale, before its rounding to E4M3."""
    multiplier: Callable[[Float32, np.float32], Float32]
    """From the block's rounded scale and g to what its values are multiplied with."""


def _reciprocal(x: Float32) -> Float32:
    reciprocal: Float32 = _ONE / x
    return reciprocal


FAST = NVOrder(
    "fast",
    "vLLM's and FlashInfer's kernels: reciprocals, and 0 under a zero scale",
    global_scale=lambda amax: np.float32(SPAN) / amax,
    tensor_scale=lambda g: _ONE / g,
    scale=lambda amax, g: g * (amax * _SIXTH),
    multiplier=lambda scale, g: np.where(scale == 0, np.float32(0), _reciprocal(scale * (_ONE / g))),
)
EXACT = NVOrder(
    "exact",
    "Transformer Engine's: IEEE divisions, the multiplier limited to float32's largest number",
    global_scale=lambda amax: np.float32(SPAN) / amax,
    tensor_scale=lambda g: _ONE / g,
    scale=lambda amax, g: amax * (g * _SIXTH),
    multiplier=lambda scale, g: np.minimum(_reciprocal(scale * (_ONE / g)), _LARGEST),
)
TORCHAO = NVOrder(
    "torchao",
    "torchao's: divided by the tensor's scale, and never a scale below E4M3's least normal number",
    global_scale=lambda amax: amax / np.float32(SPAN),
    tensor_scale=lambda g: g,
    scale=lambda amax, g: np.clip(amax / _SIX / g, _LEAST_NORMAL_SCALE, _MAX_SCALE),
    multiplier=lambda scale, g: (_ONE / g) / scale,
)
ORDERS = {row.name: row for row in (FAST, EXACT, TORCHAO)}


@dataclass(frozen=True)
class NVPolicy:
    """What a conversion to NVFP4 chooses besides its order."""

    rounding: Rounding = Rounding.TIES_TO_EVEN
    """Of elements. Scales are always rounded to nearest, ties to even, and saturate."""
    nan_block: NanBlock = NanBlock.RAISE
    """POISON writes E4M3's NaN as the scale."""
    nan_element: NanElement = NanElement.RAISE
    zero_sign: ZeroSign = ZeroSign.KEEP


STANDARD = NVPolicy()


def quantize(
    values: ArrayLike,
    order: NVOrder,
    global_scale: float,
    policy: NVPolicy = STANDARD,
    *,
    axis: int = -1,
    random: Random = None,
) -> BlockScaled:
    """`values`, any shape of float32 or narrower, in blocks of 16 along `axis`; that axis is the last of the result.

    `global_scale` is a positive, finite float32, as `order.global_scale` makes it from the tensor's largest magnitude:
    448 * 6 / amax for FAST and EXACT, amax / (448 * 6) for TORCHAO. The result's `tensor_scale` is what decoding
    multiplies with. A tail block may be short.

    Raises TypeError for float64 (the arithmetic is float32's), ValueError for another global scale, and where a NaN or
    an Inf meets NanBlock.RAISE (a NaN also where it meets NanBlock.IGNORE with NanElement.RAISE, one that FAST or
    TORCHAO make of 0 and a multiplier of Inf included).
    """
    blocks = _partition(values, axis)
    g = _global_scale(global_scale)
    amax, finite = largest(blocks, policy.nan_block)
    with np.errstate(over="ignore", under="ignore"):
        scales = codec.encode(E4M3, order.scale(amax, g), Rounding.TIES_TO_EVEN, overflow=Overflow.SATURATE)
    if policy.nan_block is NanBlock.POISON:
        scales[~finite] = NVFP4.nan_scale
    return _convert(blocks, scales, order, g, policy, random_blocks(random, axis, blocks))


def requantize(
    values: ArrayLike,
    scales: ArrayLike,
    order: NVOrder,
    global_scale: float,
    policy: NVPolicy = STANDARD,
    *,
    axis: int = -1,
    random: Random = None,
) -> BlockScaled:
    """The elements that follow from scale bytes that somebody else chose: uint8, `axis` last, one a block.

    Elements under a NaN scale are 0: any code means NaN there. Raises as `quantize`; ValueError also where `scales`
    has another shape.
    """
    blocks = _partition(values, axis)
    g = _global_scale(global_scale)
    return _convert(blocks, check_scales(scales, blocks), order, g, policy, random_blocks(random, axis, blocks))


def _convert(
    blocks: Blocks, scales: NDArray[np.uint8], order: NVOrder, g: np.float32, policy: NVPolicy, random: Random
) -> BlockScaled:
    decoded = codec.decode(E4M3, scales)
    values = blocks.values
    poisoned = np.isnan(decoded)
    if poisoned.any():
        values = np.where(poisoned[..., None], np.float32(0), values)
        decoded = np.where(poisoned, _ONE, decoded)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        multiplier = order.multiplier(decoded, g)
        scaled = values * multiplier[..., None]
    infinite = np.isinf(multiplier)
    if policy.nan_element is NanElement.RAISE and infinite.any() and (values[infinite] == 0).any():
        raise ValueError(
            f"global_scale: {float(g)!r}; with it the multiplier of a block is Inf, which makes a NaN of its zeros: "
            "allowed with nan_element=NanElement.ZERO or NanElement.MAX"
        )
    elements = codec.encode(
        E2M1, scaled, policy.rounding, nan=policy.nan_element, zero_sign=policy.zero_sign, random=random
    )
    with np.errstate(over="ignore", under="ignore"):
        tensor_scale = float(order.tensor_scale(g))
    return BlockScaled(NVFP4, blocks.join(elements), scales, tensor_scale)


def _partition(values: ArrayLike, axis: int) -> Blocks:
    blocks = partition(values, axis, NVFP4.length)
    if blocks.values.dtype != np.float32:
        raise TypeError(
            f"values: dtype {np.asarray(values).dtype}; allowed are float32 and what it holds: float16, bfloat16"
        )
    return blocks


def _global_scale(value: float) -> np.float32:
    with np.errstate(over="ignore"):
        g: np.float32 = np.float32(value)
    if not (np.isfinite(g) and g > 0 and float(g) == float(value)):
        raise ValueError(f"global_scale: {value!r}; allowed are positive, finite float32 numbers")
    return g
