"""Block-scaled matrices: narrow elements in blocks along the last axis, each block with one scale.

Sources: OCP Microscaling Formats v1.0, sections 5.1 and 5.2 (the MX formats); NVIDIA, Pretraining Large Language Models
with NVFP4, 2025, section 2 (NVFP4, with its second scale for the tensor).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import codec, e8m0, packing
from fp4guard.formats.info import E2M1, E2M3, E3M2, E4M3, E5M2, E8M0, FloatFormat
from fp4guard.formats.policies import ScaleDecode

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class BlockFormat:
    """What the elements and the scales are, and how many elements share a scale."""

    name: str
    element: FloatFormat
    scale: FloatFormat
    length: int

    @property
    def nan_scale(self) -> int:
        """The scale byte that makes every element of its block NaN."""
        assert self.scale.nan is not None
        return self.scale.nan

    def blocks(self, k: int) -> int:
        """How many scales k elements have; the last block may be short."""
        return -(-k // self.length)


MXFP4 = BlockFormat("mxfp4", E2M1, E8M0, 32)
MXFP6_E2M3 = BlockFormat("mxfp6_e2m3", E2M3, E8M0, 32)
MXFP6_E3M2 = BlockFormat("mxfp6_e3m2", E3M2, E8M0, 32)
MXFP8_E4M3 = BlockFormat("mxfp8_e4m3", E4M3, E8M0, 32)
MXFP8_E5M2 = BlockFormat("mxfp8_e5m2", E5M2, E8M0, 32)
NVFP4 = BlockFormat("nvfp4", E2M1, E4M3, 16)

BLOCK_FORMATS = {row.name: row for row in (MXFP4, MXFP6_E2M3, MXFP6_E3M2, MXFP8_E4M3, MXFP8_E5M2, NVFP4)}


@dataclass(frozen=True, eq=False)
class BlockScaled:
    """A block-scaled array, immutable: the arrays given are copied and made read-only. Hashed by identity.

    Raises TypeError where an array is not uint8; ValueError where the two shapes do not belong together, an element is
    no code of the format, or `tensor_scale` is not a positive float32 (of an MX format: not 1).
    """

    format: BlockFormat
    elements: NDArray[np.uint8]
    """uint8 (..., k): one code a byte."""
    scales: NDArray[np.uint8]
    """uint8 (..., ceil(k / length)): one byte a block."""
    tensor_scale: float = 1.0
    """The float32 that NVFP4 multiplies the whole tensor with."""

    def __post_init__(self) -> None:
        for name in ("elements", "scales"):
            array = np.array(getattr(self, name), order="C")
            if array.dtype != np.uint8:
                raise TypeError(f"{name}: dtype {array.dtype}; allowed is uint8")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        element = self.format.element
        if self.elements.ndim == 0:
            raise ValueError("elements: a scalar; allowed is an array of at least one axis")
        if element.codes < 256 and self.elements.size and self.elements.max() >= element.codes:
            worst = int(self.elements.max())
            raise ValueError(f"elements: {worst:#04x}; {element.name} allows 0x00 .. {element.codes - 1:#04x}")
        *leading, k = self.shape
        allowed = (*leading, self.format.blocks(k))
        if self.scales.shape != allowed:
            raise ValueError(f"scales: shape {self.scales.shape}; elements of shape {self.shape} allow {allowed}")
        self._check_tensor_scale()

    def _check_tensor_scale(self) -> None:
        scale = self.tensor_scale
        if self.format.scale is E8M0 and scale != 1:
            raise ValueError(f"tensor_scale: {scale!r}; {self.format.name} has none, allowed is 1.0")
        if not (math.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale):
            raise ValueError(f"tensor_scale: {scale!r}; allowed are positive, finite float32 numbers")

    @classmethod
    def from_codes(
        cls, format: BlockFormat, codes: ArrayLike, scales: ArrayLike, tensor_scale: float = 1.0
    ) -> BlockScaled:
        """From the bytes that kernels hold: of four-bit elements two a byte, the even index in the low half."""
        codes = np.asarray(codes)
        elements = packing.unpack(codes) if format.element.width == 4 else codes
        return cls(format, elements, np.asarray(scales), tensor_scale)

    @property
    def codes(self) -> NDArray[np.uint8]:
        """The bytes that kernels hold: uint8 (..., k/2) of four-bit elements, else one code a byte.

        Raises ValueError where four-bit elements are odd in number.
        """
        return packing.pack(self.elements) if self.format.element.width == 4 else self.elements

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self.elements.shape

    def decode(self, scale_decode: ScaleDecode = ScaleDecode.STANDARD) -> NDArray[np.float64]:
        """The values, float64 (..., k), exact; NaN wherever the scale is NaN, zeros included."""
        values = self.decode_blocks(scale_decode)
        return values if self.tensor_scale == 1 else values * self.tensor_scale

    def decode_blocks(self, scale_decode: ScaleDecode = ScaleDecode.STANDARD) -> NDArray[np.float64]:
        """The values before `tensor_scale`: elements times the scales of their blocks."""
        values = np.take(element_values(self.format.element), self.elements)
        return _times(values, self.decode_scales(scale_decode), self.format.length)

    def decode_scales(self, policy: ScaleDecode = ScaleDecode.STANDARD) -> NDArray[np.float64]:
        """The scales, float64 (..., blocks), without `tensor_scale`. `policy` is that of E8M0 scales."""
        if self.format.scale is E8M0:
            return e8m0.decode(self.scales, policy)
        return np.take(element_values(self.format.scale), self.scales)


def per_element(of_blocks: NDArray[Scalar], k: int, length: int) -> NDArray[Scalar]:
    """What is known of blocks, (..., blocks), for each of their elements: (..., k)."""
    return np.repeat(of_blocks, length, axis=-1)[..., :k]


def _times(values: NDArray[np.floating], scales: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    *leading, k = values.shape
    with np.errstate(invalid="ignore"):  # 0 * Inf, where a kernel takes byte 255 for Inf
        if k % length:
            product: NDArray[np.float64] = values * per_element(scales, k, length)
            return product
        blocks = values.reshape(*leading, k // length, length)
        return (blocks * scales[..., None]).reshape(values.shape)


@cache
def element_values(fmt: FloatFormat) -> NDArray[np.float64]:
    """float64 (codes,): the value of every code of a format of at most 8 bits, read-only."""
    values = codec.decode(fmt, np.arange(fmt.codes, dtype=np.uint8)).astype(np.float64)
    values.flags.writeable = False
    return values
