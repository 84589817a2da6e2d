"""What the certificate has to know of one operand of a product: its values and the reach of their bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from fp4guard.formats import BLOCK, MXFP4, e8m0, packing

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

NO_BIT = 8192
"""The lowest-bit exponent of zero: above every real one, and two of them still fit int16."""


@runtime_checkable
class HasMX(Protocol):
    """Anything that carries an MXFP4 matrix, like an operand in guarded memory."""

    @property
    def mx(self) -> MXFP4:
        """The matrix."""


Matrix: TypeAlias = "MXFP4 | HasMX | torch.Tensor | NDArray[np.floating]"


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
    """int16 (rows, groups of 32): the least exponent of a lowest set bit; NO_BIT for a group of zeros."""
    scale: NDArray[np.int16] | None
    """int16 (rows, groups): the exponents of the block scales; None for a dense matrix."""
    largest: float
    """The largest magnitude, 0 for an empty matrix."""


def mx(argument: object) -> MXFP4 | None:
    """The MXFP4 that `argument` is or carries, None where it is something else."""
    if isinstance(argument, MXFP4):
        return argument
    if isinstance(argument, HasMX) and isinstance(argument.mx, MXFP4):
        return argument.mx
    return None


def from_mx(matrix: MXFP4) -> Operand:
    """The operand of an MXFP4 matrix, all from small tables: the codes are looked at two at a time."""
    rows, k = matrix.shape
    groups = k // BLOCK
    nan_blocks = matrix.scales == e8m0.NAN
    scale = matrix.scales.astype(np.int16) - np.int16(e8m0.BIAS)
    low = np.take(_PAIR_LOW, matrix.codes).reshape(rows, groups, BLOCK // 2).min(axis=2, initial=_NO_BIT_PAIR)
    values = matrix.decode()
    nan_rows = nan_blocks.any(axis=1)
    if nan_rows.any():
        values[np.isnan(values)] = 0.0
    return Operand(
        values=values,
        nan_rows=nan_rows,
        infinities=None,
        low=np.where(nan_blocks | (low == _NO_BIT_PAIR), np.int16(NO_BIT), scale + low),
        scale=np.where(nan_blocks, np.int16(0), scale),
        largest=_largest(values),
    )


def from_dense(argument: object, name: str) -> Operand:
    """The operand of a 2-D torch.Tensor (float16, bfloat16, float32) or numpy array of a float type.

    Raises TypeError for another object or dtype, ValueError for another rank.
    """
    dense = to_float64(argument, name)
    if dense.ndim != 2:
        raise ValueError(f"{name}: shape {dense.shape}; allowed is 2-D, (rows, k)")
    nan = np.isnan(dense)
    infinite = np.isinf(dense)
    any_infinite = bool(infinite.any())
    values = np.where(nan | infinite, 0.0, dense)
    return Operand(
        values=values,
        nan_rows=np.asarray(nan.any(axis=1)),
        infinities=np.where(infinite, np.sign(dense), 0.0) if any_infinite else None,
        low=_group_min(lowest_bit(values)),
        scale=None,
        largest=_largest(values),
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
    raise TypeError(f"{name}: {type(argument).__name__}; allowed are MXFP4, an object with .mx, a tensor, an array")


def lowest_bit(values: Float64) -> NDArray[np.int16]:
    """The exponent of the lowest set bit of each value (of 12 it is 2, of 0.5 it is -1), NO_BIT for 0."""
    significand, exponent = np.frexp(values)
    integer = np.abs(np.ldexp(significand, 53)).astype(np.int64)
    zeros = np.frexp((integer & -integer).astype(np.float64))[1] - 1
    return np.where(integer == 0, NO_BIT, exponent - 53 + zeros).astype(np.int16)


def _group_min(low: NDArray[np.int16]) -> NDArray[np.int16]:
    rows, k = low.shape
    groups = -(-k // BLOCK)
    padded = np.full((rows, groups * BLOCK), NO_BIT, np.int16)
    padded[:, :k] = low
    smallest: NDArray[np.int16] = padded.reshape(rows, groups, BLOCK).min(axis=2, initial=NO_BIT)
    return smallest


def _largest(values: Float64) -> float:
    return max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))


# The lowest bit of the two E2M1 codes of a byte; of an unscaled code it is -1 .. 2, or none.
_NO_BIT_PAIR = 127
_PAIR_LOW = np.minimum(
    lowest_bit(packing.decode_packed(np.arange(256, dtype=np.uint8)[:, None]).astype(np.float64)).min(axis=1),
    _NO_BIT_PAIR,
).astype(np.int8)
