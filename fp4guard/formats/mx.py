"""MXFP4: blocks of 32 E2M1 elements along a row, each with one E8M0 scale.

Source: OCP Microscaling Formats v1.0, section 5.2 (the format) and section 6.3 (the conversion to it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import e2m1, e8m0, packing
from fp4guard.formats.policies import NanBlock, NanElement, Rounding, ScaleRule, ZeroBlock

BLOCK = 32

# From which f of amax = f * 2^E on a rule adds one to E - 2; math.nextafter(x, 2) says "above x".
_RAISED_FROM = {
    ScaleRule.FLOOR: 2.0,
    ScaleRule.CEIL: math.nextafter(1.0, 2.0),
    ScaleRule.RCEIL: math.nextafter(1.5, 2.0),
    ScaleRule.EVEN: 1.75,
    ScaleRule.EVEN_FP32: 1.75,
}
_EVEN_FP32_OVERFLOW = 1.75 * 2.0**127


@dataclass(frozen=True, eq=False)
class MXFP4:
    """A matrix in MXFP4, immutable: the arrays given are copied and made read-only. Hashed by identity.

    Raises TypeError where an array is not uint8, ValueError where the two shapes do not belong together.
    """

    codes: NDArray[np.uint8]
    """uint8 (rows, k/2): two E2M1 codes a byte, the even column in the low half."""
    scales: NDArray[np.uint8]
    """uint8 (rows, k/32): E8M0."""

    def __post_init__(self) -> None:
        for name in ("codes", "scales"):
            array = np.array(getattr(self, name), order="C")
            if array.dtype != np.uint8:
                raise TypeError(f"{name}: dtype {array.dtype}; allowed is uint8")
            if array.ndim != 2:
                raise ValueError(f"{name}: shape {array.shape}; allowed is 2-D")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        rows, width = self.codes.shape
        if width % (BLOCK // 2):
            raise ValueError(f"codes: {width} bytes a row; allowed are multiples of {BLOCK // 2}, whole blocks")
        allowed = (rows, width * 2 // BLOCK)
        if self.scales.shape != allowed:
            raise ValueError(f"scales: shape {self.scales.shape}; {rows} x {width} bytes of codes allow {allowed}")

    @classmethod
    def from_elements(cls, elements: ArrayLike, scales: ArrayLike) -> MXFP4:
        """From unpacked codes, uint8 (rows, k), and scales, uint8 (rows, k/32)."""
        return cls(packing.pack(elements), np.asarray(scales))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, k), counted in elements."""
        rows, width = self.codes.shape
        return rows, 2 * width

    def decode(self) -> NDArray[np.float64]:
        """The values, float64 (rows, k), exact; NaN wherever the scale is 255, zeros included."""
        rows, k = self.shape
        elements = packing.decode_packed(self.codes).reshape(rows, k // BLOCK, BLOCK)
        return (elements * e8m0.decode(self.scales)[:, :, None]).reshape(rows, k)


def scale_byte_scalar(amax: float, rule: ScaleRule, zero_block: ZeroBlock = ZeroBlock.SMALLEST) -> int:
    """The scale byte of a block of largest magnitude `amax`, finite: the definition of `scale_bytes`."""
    if amax == 0:
        return zero_block.value
    if rule is ScaleRule.EVEN_FP32 and amax >= _EVEN_FP32_OVERFLOW:
        return e8m0.MAX
    half, exponent = math.frexp(amax)  # amax = half * 2^exponent = (2 * half) * 2^(exponent - 1)
    unbiased = exponent - 1 - 2 + (1 if 2 * half >= _RAISED_FROM[rule] else 0)
    return min(max(unbiased + e8m0.BIAS, 0), e8m0.MAX)


def scale_bytes(amax: ArrayLike, rule: ScaleRule, zero_block: ZeroBlock = ZeroBlock.SMALLEST) -> NDArray[np.uint8]:
    """The scale bytes, uint8, of blocks of largest magnitudes `amax`, finite and of any shape.

    Exponents come from frexp. `floor(log2(amax))` is wrong just below most powers of two.
    """
    amax = np.asarray(amax, np.float64)
    half, exponent = np.frexp(amax)
    byte = exponent - 3 + (2 * half >= _RAISED_FROM[rule]) + e8m0.BIAS
    byte = np.clip(byte, 0, e8m0.MAX)
    if rule is ScaleRule.EVEN_FP32:
        byte = np.where(amax >= _EVEN_FP32_OVERFLOW, e8m0.MAX, byte)
    return np.where(amax == 0, zero_block.value, byte).astype(np.uint8)


def quantize(
    values: ArrayLike,
    scale_rule: ScaleRule,
    rounding: Rounding = Rounding.TIES_TO_EVEN,
    zero_block: ZeroBlock = ZeroBlock.SMALLEST,
    nan: NanBlock = NanBlock.RAISE,
    nan_element: NanElement = NanElement.RAISE,
) -> MXFP4:
    """`values`, (rows, k) of a float type, to MXFP4: scales divide exactly, elements are rounded once.

    Raises ValueError where `values` is not 2-D, k is no multiple of 32, or a NaN or an Inf meets
    NanBlock.RAISE (a NaN also where it meets NanBlock.IGNORE with NanElement.RAISE).
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] % BLOCK:
        raise ValueError(f"values: shape {values.shape}; allowed is (rows, k), k a multiple of {BLOCK}")
    rows, k = values.shape
    blocks = values.reshape(rows, k // BLOCK, BLOCK)
    finite = np.isfinite(blocks)
    if nan is NanBlock.RAISE and not finite.all():
        first = float(blocks[~finite][0])
        raise ValueError(f"values: {first}; allowed with nan=NanBlock.POISON or NanBlock.IGNORE")
    amax = np.abs(np.where(finite, blocks, 0.0)).max(axis=-1, initial=0.0)
    scales = scale_bytes(amax, scale_rule, zero_block)
    if nan is NanBlock.POISON:
        poisoned = ~finite.all(axis=-1)
        blocks = np.where(poisoned[:, :, None], 0.0, blocks)
    exponents = scales.astype(np.int64) - e8m0.BIAS
    with np.errstate(under="ignore"):  # a value that underflows is far below 0.25 and becomes a zero either way
        scaled = np.ldexp(blocks, -exponents[:, :, None])
    elements = e2m1.encode(scaled, rounding, nan_element)
    if nan is NanBlock.POISON:
        scales[poisoned] = e8m0.NAN
    return MXFP4.from_elements(elements.reshape(rows, k), scales)
