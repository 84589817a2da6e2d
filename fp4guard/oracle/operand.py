"""What the certificate has to know of one operand of a product: its values and the reach of their bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from fp4guard.formats import E8M0, BlockFormat, BlockScaled, FloatFormat, ScaleDecode
from fp4guard.formats.blocks import element_values

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

NO_BIT = 8192
"""The lowest-bit exponent of zero: above every real one, and two of them still fit int16."""

GROUP = 32
"""How many columns share a lowest bit, unless shorter blocks ask for less."""


@runtime_checkable
class HasMatrix(Protocol):
    """Anything that carries a block-scaled matrix, like an operand in guarded memory."""

    @property
    def matrix(self) -> BlockScaled:
        """The matrix."""


Matrix: TypeAlias = "BlockScaled | HasMatrix | torch.Tensor | NDArray[np.floating]"


@dataclass(frozen=True)
class Operand:
    """A matrix of `rows` vectors of length k, its non-finite elements taken out and kept apart."""

    values: Float64
    """float64 (rows, k); 0 in the place of NaN and Inf."""
    nan_rows: Bools
    """bool (rows,): rows that hold a NaN."""
    infinities: Float64 | None
    """float64 (rows, k): the sign of every Inf and 0 elsewhere; None where there is no Inf."""
    low: NDArray[np.int16]
    """int16 (rows, groups): the least exponent of a lowest set bit; NO_BIT for a group of zeros."""
    scale: NDArray[np.int16] | None
    """int16 (rows, groups): least exponents of powers of two not below the block scales; None for a dense matrix."""
    largest: float
    """The largest magnitude, 0 for an empty matrix."""
    element: FloatFormat | None
    """The format of the elements that the scales multiply; None for a dense matrix."""
    power_of_two_scales: bool
    """Whether `scale` is the scales themselves."""
    group: int
    """How many columns share an entry of `low` and `scale`; the last group may be short."""


def block_scaled(argument: object) -> BlockScaled | None:
    """The block-scaled matrix that `argument` is or carries, None where it is something else."""
    if isinstance(argument, BlockScaled):
        return argument
    if isinstance(argument, HasMatrix) and isinstance(argument.matrix, BlockScaled):
        return argument.matrix
    return None


def group_of(*matrices: BlockScaled | None) -> int:
    """The group that the operands of one product share: no longer than any of their blocks."""
    return min([GROUP, *(matrix.format.length for matrix in matrices if matrix is not None)])


def from_blocks(
    matrix: BlockScaled, name: str, group: int = GROUP, scale_decode: ScaleDecode = ScaleDecode.STANDARD
) -> Operand:
    """The operand of a block-scaled matrix (rows, k), without its `tensor_scale`. ValueError for another rank."""
    if len(matrix.shape) != 2:
        raise ValueError(f"{name}: shape {matrix.shape}; allowed is 2-D, (rows, k)")
    values = matrix.decode_blocks(scale_decode)
    scales = matrix.decode_scales(scale_decode)
    usable = np.isfinite(scales) & (scales != 0)
    scale_low = np.where(usable, lowest_bit(np.where(usable, scales, 1.0)), NO_BIT).astype(np.int16)
    exponent = np.where(usable, np.frexp(np.where(usable, scales, 1.0))[1] - (matrix.format.scale is E8M0), 0)
    element_low = _group_min(np.take(_lowest_bits(matrix.format.element), matrix.elements), group, _NO_ELEMENT_BIT)
    spread = _per_group(scale_low, matrix.format.length, group, element_low.shape[1])
    nothing = (element_low == _NO_ELEMENT_BIT) | (spread == NO_BIT)
    low = np.where(nothing, np.int16(NO_BIT), spread + element_low).astype(np.int16)
    scale = _per_group(exponent.astype(np.int16), matrix.format.length, group, element_low.shape[1])
    return _split(values, low, group, scale, matrix.format)


def from_dense(argument: object, name: str, group: int = GROUP) -> Operand:
    """The operand of a 2-D torch.Tensor (floats of 8 to 32 bits) or numpy array of a float type.

    Raises TypeError for another object or dtype, ValueError for another rank.
    """
    dense = to_float64(argument, name)
    if dense.ndim != 2:
        raise ValueError(f"{name}: shape {dense.shape}; allowed is 2-D, (rows, k)")
    low = lowest_bit(np.where(np.isfinite(dense), dense, 0.0))
    return _split(dense, _group_min(low, group, NO_BIT), group)


def _split(
    values: Float64,
    low: NDArray[np.int16],
    group: int,
    scale: NDArray[np.int16] | None = None,
    format: BlockFormat | None = None,
) -> Operand:
    """Take NaN and Inf out of values that nobody else holds."""
    nan_rows: Bools = np.zeros(len(values), np.bool_)
    infinities = None
    if not (finite := np.isfinite(values)).all():
        nan_rows = np.asarray(np.isnan(values).any(axis=1))
        infinite = np.isinf(values)
        infinities = np.where(infinite, np.sign(values), 0.0) if infinite.any() else None
        values = np.where(finite, values, 0.0)
    return Operand(
        values=values,
        nan_rows=nan_rows,
        infinities=infinities,
        low=low,
        scale=scale,
        largest=_largest(values),
        element=None if format is None else format.element,
        power_of_two_scales=format is not None and format.scale is E8M0,
        group=group,
    )


def to_float64(argument: object, name: str) -> Float64:
    """A float tensor or array, of any shape, as float64: exact. TypeError for anything else."""
    if isinstance(argument, torch.Tensor):
        if not argument.dtype.is_floating_point:
            raise TypeError(f"{name}: dtype {argument.dtype}; allowed are floating-point types")
        return np.asarray(argument.detach().to(device="cpu", dtype=torch.float64).numpy())
    if isinstance(argument, np.ndarray):
        if argument.dtype.kind != "f" or argument.dtype.itemsize > 8:
            raise TypeError(f"{name}: dtype {argument.dtype}; allowed are float16, float32 and float64")
        return argument.astype(np.float64)
    raise TypeError(
        f"{name}: {type(argument).__name__}; allowed are BlockScaled, an object with .matrix, a tensor, an array"
    )


def lowest_bit(values: Float64) -> NDArray[np.int16]:
    """The exponent of the lowest set bit of each value (of 12 it is 2, of 0.5 it is -1), NO_BIT for 0."""
    significand, exponent = np.frexp(values)
    integer = np.abs(np.ldexp(significand, 53)).astype(np.int64)
    zeros = np.frexp((integer & -integer).astype(np.float64))[1] - 1
    return np.where(integer == 0, NO_BIT, exponent - 53 + zeros).astype(np.int16)


def _group_min(low: NDArray[np.integer], group: int, nothing: int) -> NDArray[np.int16]:
    """The least of each group of columns; `nothing` stands for zeros."""
    rows, k = low.shape
    if k % group:
        padded = np.full((rows, -(-k // group) * group), nothing, low.dtype)
        padded[:, :k] = low
        low = padded
    grouped = low.reshape(rows, -(-k // group), group)
    smallest: NDArray[np.int16] = grouped.min(axis=2, initial=nothing).astype(np.int16)
    return smallest


def _per_group(blocks: NDArray[np.int16], length: int, group: int, groups: int) -> NDArray[np.int16]:
    """What holds of a block, for each of its groups: (rows, groups)."""
    return np.repeat(blocks, length // group, axis=1)[:, :groups] if length > group else blocks


def _largest(values: Float64) -> float:
    return max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))


_NO_ELEMENT_BIT = 127


@cache
def _lowest_bits(fmt: FloatFormat) -> NDArray[np.int8]:
    """int8 (codes,): the lowest bit of every code's value, `_NO_ELEMENT_BIT` of a zero, a NaN and an Inf."""
    values = element_values(fmt)
    low = lowest_bit(np.where(np.isfinite(values), values, 0.0))
    return np.minimum(low, _NO_ELEMENT_BIT).astype(np.int8)
