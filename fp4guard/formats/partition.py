"""Arrays cut into blocks along an axis, as the conversions to block-scaled formats see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats.codec import Random, as_floats
from fp4guard.formats.policies import NanBlock

_CHUNK = 1 << 15
"""Values at a time, whole blocks, that stay in a processor's first caches."""


@dataclass(frozen=True)
class Blocks:
    """Values in whole blocks: the last one is filled up with zeros, which no scale rule can see."""

    values: NDArray[np.floating]
    """float32 or float64 (..., blocks, length)."""
    shape: tuple[int, ...]
    """The shape of what was cut, its axis moved to the end: (..., k)."""

    def join(self, elements: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Elements (..., blocks, length) as (..., k)."""
        *leading, k = self.shape
        blocks, length = self.values.shape[-2:]
        return elements.reshape(*leading, blocks * length)[..., :k]


def partition(values: ArrayLike, axis: int, length: int) -> Blocks:
    """Blocks of `length` along `axis`, of the types that `codec.as_floats` gives.

    Raises as that function does, and ValueError where `values` has no such axis.
    """
    moved, cut = _cut(as_floats(values), axis, length)
    return Blocks(cut, moved.shape)


def random_blocks(random: Random, axis: int, blocks: Blocks) -> Random:
    """Random words given for each value, uint32 of the values' shape, in the values' blocks; a Generator as it is.

    Raises ValueError for words of another shape.
    """
    if not isinstance(random, np.ndarray):
        return random
    allowed = np.moveaxis(np.broadcast_to(0, blocks.shape), -1, axis).shape
    if random.shape != allowed:
        raise ValueError(f"random: shape {random.shape}; allowed is that of the values, {allowed}")
    return _cut(random, axis, blocks.values.shape[-1])[1]


def largest(blocks: Blocks, policy: NanBlock) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Each block's largest finite magnitude, 0 without one, and whether all of it is finite; both (..., blocks).

    Raises ValueError where a NaN or an Inf meets NanBlock.RAISE.
    """
    amax = _max_of_blocks(blocks.values)
    finite = np.isfinite(amax)
    if not finite.all():
        if policy is NanBlock.RAISE:
            first = float(blocks.values[~np.isfinite(blocks.values)][0])
            raise ValueError(f"values: {first}; allowed with nan_block=NanBlock.POISON or NanBlock.IGNORE")
        amax = _max_of_blocks(np.where(np.isfinite(blocks.values), blocks.values, 0))
    return amax, finite


def _max_of_blocks(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The largest magnitude along the last axis, a power of two long; NaN where there is one.

    Neighbours are compared pair by pair, all blocks at once: numpy reduces short rows one by one, in twice the time.
    """
    length = values.shape[-1]
    flat = values.reshape(-1)
    result = np.empty(flat.size // length, values.dtype)
    for start in range(0, flat.size, _CHUNK):
        largest = np.abs(flat[start : start + _CHUNK])
        for _ in range(length.bit_length() - 1):
            largest = np.maximum(largest[0::2], largest[1::2])
        result[start // length : (start + _CHUNK) // length] = largest
    return result.reshape(values.shape[:-1])


def check_scales(scales: ArrayLike, blocks: Blocks) -> NDArray[np.uint8]:
    """Scale bytes as an array; ValueError unless uint8, one for each block."""
    scales = np.asarray(scales)
    allowed = blocks.values.shape[:-1]
    if scales.dtype != np.uint8 or scales.shape != allowed:
        raise ValueError(f"scales: {scales.dtype} {scales.shape}; allowed is uint8 {allowed}")
    return scales


def _cut(array: NDArray[np.generic], axis: int, length: int) -> tuple[NDArray, NDArray]:  # type: ignore[type-arg]
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis: {axis}; values of shape {array.shape} allow {-array.ndim} .. {array.ndim - 1}")
    moved = np.moveaxis(array, axis, -1)
    *leading, k = moved.shape
    whole = -(-k // length)
    if k % length:
        padded = np.zeros((*leading, whole * length), array.dtype)
        padded[..., :k] = moved
    else:
        padded = np.ascontiguousarray(moved)
    return moved, padded.reshape(*leading, whole, length)
