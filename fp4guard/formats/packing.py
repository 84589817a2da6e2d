"""Two E2M1 codes a byte, along the last axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import codec
from fp4guard.formats.info import E2M1
from fp4guard.formats.policies import NibbleOrder


def pack(codes: ArrayLike, order: NibbleOrder = NibbleOrder.LOW_FIRST) -> NDArray[np.uint8]:
    """Codes, uint8 (..., k), to bytes, uint8 (..., k/2).

    Raises TypeError where `codes` is not uint8; ValueError where k is odd or a code is above 15.
    """
    codes = np.asarray(codes)
    if codes.dtype != np.uint8:
        raise TypeError(f"codes: dtype {codes.dtype}; allowed is uint8")
    if codes.ndim == 0 or codes.shape[-1] % 2:
        raise ValueError(f"codes: shape {codes.shape}; the last axis must be even")
    if codes.size and codes.max() > 0xF:
        raise ValueError(f"codes: {int(codes.max()):#04x}; allowed are 0x00 .. 0x0f")
    # Two codes as one 16-bit number, the even one in its lower half: several times as fast as strides of two.
    pairs = np.ascontiguousarray(codes).view("<u2")
    wide = pairs | pairs >> 4 if order is NibbleOrder.LOW_FIRST else pairs << 4 | pairs >> 8
    packed: NDArray[np.uint8] = wide.astype(np.uint8)
    return packed


def unpack(packed: ArrayLike, order: NibbleOrder = NibbleOrder.LOW_FIRST) -> NDArray[np.uint8]:
    """Bytes, uint8 (..., k/2), to codes, uint8 (..., k). Raises TypeError where `packed` is not uint8."""
    packed = _as_bytes(packed)
    low, high = packed & np.uint8(0xF), packed >> np.uint8(4)
    pair = (low, high) if order is NibbleOrder.LOW_FIRST else (high, low)
    return np.stack(pair, axis=-1).reshape(*packed.shape[:-1], -1 if packed.size else 2 * packed.shape[-1])


def decode_packed(packed: ArrayLike, order: NibbleOrder = NibbleOrder.LOW_FIRST) -> NDArray[np.float32]:
    """Bytes, uint8 (..., k/2), to values, float32 (..., k). Raises TypeError where `packed` is not uint8.

    One look-up a byte: a table of 256 uint64, each of them two float32 side by side.
    """
    pairs = np.take(_PAIRS[order], _as_bytes(packed))
    return pairs.view(np.float32)


def _as_bytes(packed: ArrayLike) -> NDArray[np.uint8]:
    packed = np.asarray(packed)
    if packed.dtype != np.uint8:
        raise TypeError(f"packed: dtype {packed.dtype}; allowed is uint8, two codes a byte")
    if packed.ndim == 0:
        raise ValueError("packed: a scalar; allowed is an array of at least one axis")
    return packed


_PAIRS = {
    order: codec.decode(E2M1, unpack(np.arange(256, dtype=np.uint8)[:, None], order)).view(np.uint64)[:, 0]
    for order in NibbleOrder
}
