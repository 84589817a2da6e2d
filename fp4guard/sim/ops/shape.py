"""Operations that move values about. Axis 0 of every array is the programs', so a tensor's axis d is d + 1 here.

A broadcast is free: a value that is the same along a dimension keeps size 1 in it until something needs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...ttir import Operation, Type
from ..elements import Array, element_of
from .arith import Rule


def materialise(x: Array, type_: Type) -> Array:
    """All of a value: [1 or programs, *shape]."""
    return np.broadcast_to(x, (x.shape[0], *type_.shape))


def _splat(op: Operation) -> Callable[..., Array]:
    ones = (1,) * len(op.result.type.shape)
    return lambda x: x.reshape(x.shape[:1] + ones)


def _expand_dims(op: Operation) -> Callable[..., Array]:
    axis = op.attributes["axis"] + 1
    return lambda x: x.reshape(*x.shape[:axis], 1, *x.shape[axis:])


def _make_range(op: Operation) -> Callable[..., Array]:
    values = np.arange(op.attributes["start"], op.attributes["end"], dtype=np.int32)[None]
    return lambda: values


def _reshape(op: Operation) -> Callable[..., Array]:
    source, target = op.operands[0].type, op.result.type

    def apply(x: Array) -> Array:
        if x.size == x.shape[0]:
            return x.reshape(x.shape[:1] + (1,) * len(target.shape))
        return materialise(x, source).reshape(x.shape[0], *target.shape)

    return apply


def _trans(op: Operation) -> Callable[..., Array]:
    order = (0, *(axis + 1 for axis in op.attributes["order"]))
    return lambda x: x.transpose(order)


def _join(op: Operation) -> Callable[..., Array]:
    return lambda a, b: np.stack(np.broadcast_arrays(a, b), axis=-1)


def _split(op: Operation) -> Callable[..., Array]:
    type_ = op.operands[0].type

    def apply(x: Array) -> tuple[Array, Array]:
        whole = materialise(x, type_)
        return whole[..., 0], whole[..., 1]

    return apply  # type: ignore[return-value]


def _cat(op: Operation) -> Callable[..., Array]:
    type_ = op.operands[0].type

    def apply(a: Array, b: Array) -> Array:
        programs = max(len(a), len(b))
        parts = [np.broadcast_to(x, (programs, *type_.shape)) for x in (a, b)]
        return np.concatenate(parts, axis=1)

    return apply


def _unsplat(op: Operation) -> Callable[..., Array]:
    return lambda x: x.reshape(x.shape[:1])


def _addptr(op: Operation) -> Callable[..., Array]:
    """Pointer + offset, the offset counted in elements of the pointee."""
    width = element_of(Type(op.operands[0].type.pointee or "")).width
    if width == 1:
        return lambda pointer, offset: pointer + offset
    return lambda pointer, offset: pointer + np.multiply(offset, width, dtype=np.int64)


def _extract_slice(op: Operation) -> Callable[..., Array]:
    type_ = op.operands[0].type
    ends = zip(op.attributes["offsets"], op.result.type.shape)
    chosen = (slice(None), *(slice(start, start + size) for start, size in ends))
    return lambda x: materialise(x, type_)[chosen]


def _concat(op: Operation) -> Callable[..., Array]:
    """Tiles of one shape, in row-major order of their places in the result."""
    tile, whole = op.operands[0].type.shape, op.result.type.shape
    counts = tuple(n // t for n, t in zip(whole, tile))
    boxes = [tuple(slice(c * t, (c + 1) * t) for c, t in zip(place, tile)) for place in np.ndindex(*counts)]
    places = [(slice(None), *box) for box in boxes]

    def apply(*tiles: Array) -> Array:
        result = np.empty((max(map(len, tiles)), *whole), tiles[0].dtype)
        for place, x in zip(places, tiles):
            result[place] = x
        return result

    return apply


RULES: dict[str, Rule] = {
    "ttg.convert_layout": lambda op: lambda x: x,
    "amdg.extract_slice": _extract_slice,
    "amdg.concat": _concat,
    "tt.splat": _splat,
    "tt.broadcast": lambda op: lambda x: x,
    "tt.expand_dims": _expand_dims,
    "tt.make_range": _make_range,
    "tt.reshape": _reshape,
    "tt.trans": _trans,
    "tt.join": _join,
    "tt.split": _split,
    "tt.cat": _cat,
    "tt.unsplat": _unsplat,
    "tt.addptr": _addptr,
}
