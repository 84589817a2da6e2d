"""How values of each TTIR element type are held in numpy, and how they stand in memory.

bfloat16 is held as float32 (every operation rounds its result back), 8-bit floats as their codes, pointers as 64-bit
addresses (see `addresses`). Everything else is held as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .. import formats
from ..errors import UnsupportedError
from ..ttir import Type

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Element:
    """`held` is the numpy dtype of values; `width` the bytes in memory; `load` and `store` convert from and to
    unsigned integers of that width.
    """

    held: np.dtype[Any]
    width: int
    torch_dtype: torch.dtype
    load: Callable[[Array], Array]
    store: Callable[[Array], Array]


def round_to_bfloat16(x: Array) -> Array:
    """Round float32 to the nearest bfloat16, ties to even, held as float32; NaN stays NaN."""
    bits = x.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)
    nan = x != x
    if nan.any():
        rounded = np.where(nan, (bits | 0x00400000) & np.uint32(0xFFFF0000), rounded)
    return rounded.view(np.float32)


def _load_bfloat16(raw: Array) -> Array:
    return (raw.astype(np.uint32) << 16).view(np.float32)


def _store_bfloat16(x: Array) -> Array:
    return (np.ascontiguousarray(x).view(np.uint32) >> 16).astype(np.uint16)


def elements_at(offset: Array, width: int) -> Array | slice:
    """Which elements of `width` bytes, a power of two, stand at byte offsets; these are flat.

    A slice where each is followed by the next, as numpy moves those many times faster.
    """
    index = offset >> (width.bit_length() - 1) if width > 1 else offset
    count = len(index)
    if count and int(index[-1]) - int(index[0]) == count - 1 and (index[1:] > index[:-1]).all():
        return slice(int(index[0]), int(index[0]) + count)
    return index


def _plain(name: str, torch_dtype: torch.dtype) -> Element:
    dtype = np.dtype(name)
    raw = np.dtype(f"u{dtype.itemsize}")

    def load(x: Array) -> Array:
        return x.view(dtype)

    def store(x: Array) -> Array:
        return np.ascontiguousarray(x).view(raw)

    return Element(dtype, dtype.itemsize, torch_dtype, load, store)


ELEMENTS = {
    "i1": Element(np.dtype(bool), 1, torch.bool, lambda raw: (raw & 1).astype(bool), lambda x: x.astype(np.uint8)),
    "i8": _plain("int8", torch.int8),
    "i16": _plain("int16", torch.int16),
    "i32": _plain("int32", torch.int32),
    "i64": _plain("int64", torch.int64),
    "f16": _plain("float16", torch.float16),
    "bf16": Element(np.dtype(np.float32), 2, torch.bfloat16, _load_bfloat16, _store_bfloat16),
    "f32": _plain("float32", torch.float32),
    "f64": _plain("float64", torch.float64),
    "ptr": _plain("int64", torch.int64),
    "f8E4M3FN": _plain("uint8", torch.float8_e4m3fn),
    "f8E5M2": _plain("uint8", torch.float8_e5m2),
    "f8E4M3FNUZ": _plain("uint8", torch.float8_e4m3fnuz),
    "f8E5M2FNUZ": _plain("uint8", torch.float8_e5m2fnuz),
}

#: The formats of the elements that are held as codes.
FP8 = {
    "f8E4M3FN": formats.E4M3,
    "f8E5M2": formats.E5M2,
    "f8E4M3FNUZ": formats.E4M3FNUZ,
    "f8E5M2FNUZ": formats.E5M2FNUZ,
}


def element_of(type_: Type) -> Element:
    """The element of a scalar or tensor type; UnsupportedError when the simulator has none."""
    try:
        return ELEMENTS[type_.element]
    except KeyError:
        raise UnsupportedError(f"the type {type_.element}") from None


def held(type_: Type, value: object) -> Array:
    """A constant of that type, as an array of shape (1, 1, ...) that broadcasts to [programs, *shape]."""
    return np.full((1,) * (1 + len(type_.shape)), value, element_of(type_).held)
