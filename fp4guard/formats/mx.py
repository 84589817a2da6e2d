"""The conversion to MX formats: a scale byte from each block's largest magnitude, then elements rounded once.

Source: OCP Microscaling Formats v1.0, section 6.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import codec, e8m0
from fp4guard.formats.blocks import MXFP4, BlockFormat, BlockScaled
from fp4guard.formats.codec import Random
from fp4guard.formats.info import E8M0, FloatFormat
from fp4guard.formats.partition import Blocks, check_scales, largest, partition, random_blocks
from fp4guard.formats.policies import (
    NanBlock,
    NanElement,
    Rounding,
    ScaleDecode,
    ScaleRule,
    ZeroBlock,
    ZeroSign,
)


@dataclass(frozen=True)
class MXPolicy:
    """What a conversion to an MX format chooses. The defaults are the standard's where it has one."""

    scale_rule: ScaleRule = ScaleRule.FLOOR
    """The standard's conversion."""
    rounding: Rounding = Rounding.TIES_TO_EVEN
    """The standard's, of elements."""
    zero_block: ZeroBlock = ZeroBlock.SMALLEST
    """Not pinned down; 2^-127 is where the rule leads as amax goes to 0."""
    nan_block: NanBlock = NanBlock.RAISE
    """Not pinned down, so a NaN or an Inf is refused until its rule is stated."""
    nan_element: NanElement = NanElement.RAISE
    zero_sign: ZeroSign = ZeroSign.KEEP
    scale_decode: ScaleDecode = ScaleDecode.STANDARD
    """What elements are divided by. SHIFT, whose byte 0 is 0.0, cannot divide and is refused."""


STANDARD = MXPolicy()


def quantize(
    values: ArrayLike,
    policy: MXPolicy = STANDARD,
    *,
    format: BlockFormat = MXFP4,
    axis: int = -1,
    random: Random = None,
) -> BlockScaled:
    """`values`, any shape of a float type, in blocks along `axis`; that axis is the last of the result.

    So `quantize(x, axis=0)` of (m, n) is what a columnwise quantisation stores: (n, m). The last block of a length
    that is no multiple of 32 is short. `random` is what stochastic rounding draws from, see `codec.encode`.

    Raises ValueError for a format that is not MX, and where a NaN or an Inf meets NanBlock.RAISE (a NaN also where it
    meets NanBlock.IGNORE with NanElement.RAISE).
    """
    _require_mx(format)
    blocks = partition(values, axis, format.length)
    amax, finite = largest(blocks, policy.nan_block)
    scales = scale_bytes(amax, policy.scale_rule, policy.zero_block, format.element)
    if policy.nan_block is NanBlock.POISON:
        scales[~finite] = e8m0.NAN
    return _convert(blocks, scales, policy, format, random_blocks(random, axis, blocks))


def requantize(
    values: ArrayLike,
    scales: ArrayLike,
    policy: MXPolicy = STANDARD,
    *,
    format: BlockFormat = MXFP4,
    axis: int = -1,
    random: Random = None,
) -> BlockScaled:
    """The elements that follow from scale bytes that somebody else chose: uint8, `axis` last, one a block.

    What a kernel must have written, given its own scales. Elements under scale 255 are 0: any code means NaN there.
    Raises as `quantize`; ValueError also where `scales` has another shape.
    """
    _require_mx(format)
    blocks = partition(values, axis, format.length)
    return _convert(blocks, check_scales(scales, blocks), policy, format, random_blocks(random, axis, blocks))


def scale_byte_scalar(
    amax: float,
    rule: ScaleRule,
    zero_block: ZeroBlock = ZeroBlock.SMALLEST,
    element: FloatFormat = MXFP4.element,
) -> int:
    """The scale byte of a block of largest magnitude `amax`, finite: the definition of `scale_bytes`."""
    if amax == 0:
        return zero_block.value
    if rule is ScaleRule.EVEN_FP32 and amax >= _raised_from(rule, element) * 2.0**127:
        return e8m0.MAX
    half, exponent = math.frexp(amax)  # amax = half * 2^exponent = (2 * half) * 2^(exponent - 1)
    unbiased = exponent - 1 - element.max_exponent + (1 if 2 * half >= _raised_from(rule, element) else 0)
    return min(max(unbiased + e8m0.BIAS, 0), e8m0.MAX)


def scale_bytes(
    amax: ArrayLike,
    rule: ScaleRule,
    zero_block: ZeroBlock = ZeroBlock.SMALLEST,
    element: FloatFormat = MXFP4.element,
) -> NDArray[np.uint8]:
    """The scale bytes, uint8, of blocks of largest magnitudes `amax`, finite and of any shape.

    Exponents come from frexp. `floor(log2(amax))` is wrong just below most powers of two.
    """
    amax = np.asarray(amax)
    if amax.dtype != np.float32:
        amax = amax.astype(np.float64, copy=False)
    half, exponent = np.frexp(amax)
    raised = 2 * half.astype(np.float64) >= _raised_from(rule, element)
    byte = np.clip(exponent - 1 - element.max_exponent + e8m0.BIAS + raised, 0, e8m0.MAX)
    if rule is ScaleRule.EVEN_FP32:
        byte = np.where(amax >= _raised_from(rule, element) * 2.0**127, e8m0.MAX, byte)
    return np.where(amax == 0, zero_block.value, byte).astype(np.uint8)


def _raised_from(rule: ScaleRule, element: FloatFormat) -> float:
    """From which f of amax = f * 2^E on a rule adds one to E; nextafter(x, 2) says "above x"."""
    largest_significand = element.max / 2.0**element.max_exponent
    return {
        ScaleRule.FLOOR: 2.0,
        ScaleRule.CEIL: math.nextafter(1.0, 2.0),
        ScaleRule.RCEIL: math.nextafter(largest_significand, 2.0),
        ScaleRule.EVEN: 2.0 - 2.0**-(element.precision),
        ScaleRule.EVEN_FP32: 2.0 - 2.0**-(element.precision),
    }[rule]


def _convert(
    blocks: Blocks, scales: NDArray[np.uint8], policy: MXPolicy, format: BlockFormat, random: Random
) -> BlockScaled:
    values = blocks.values
    if policy.rounding is Rounding.STOCHASTIC:
        values = values.astype(np.float64)  # which cannot underflow here: even the least number is rounded up at times
    poisoned = scales == e8m0.NAN
    if poisoned.any():
        values = np.where(poisoned[..., None], values.dtype.type(0), values)
    inverses = _inverses(policy.scale_decode)[scales].astype(values.dtype, copy=False)
    with np.errstate(over="ignore", under="ignore"):  # beyond the largest and far below the smallest element
        scaled = values * inverses[..., None]
    elements = codec.encode(
        format.element, scaled, policy.rounding, nan=policy.nan_element, zero_sign=policy.zero_sign, random=random
    )
    return BlockScaled(format, blocks.join(elements), scales)


def _inverses(policy: ScaleDecode) -> NDArray[np.float32]:
    """float32 (256,): what elements are multiplied with, exact; 0 for NaN."""
    if policy is ScaleDecode.SHIFT:
        raise ValueError("scale_decode: SHIFT decodes byte 0 as 0.0, by which nothing divides; allowed are the others")
    values = e8m0.decode(np.arange(256, dtype=np.uint8), policy)
    return np.where(np.isnan(values), 0.0, 1 / values).astype(np.float32)


def _require_mx(format: BlockFormat) -> None:
    if format.scale is not E8M0:
        raise ValueError(f"format: {format.name}; allowed are formats with E8M0 scales (NVFP4: see formats.nvfp4)")
