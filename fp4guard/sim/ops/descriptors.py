"""Tensor descriptors: blocks of a tensor by their coordinates.

What lies outside of the shape that a descriptor states reads as padding (zero, or NaN) and is not written: that is what
a descriptor promises (CUDA driver API, cuTensorMapEncodeTiled). What lies inside is accessed, and checked like any
other access, so that a descriptor that states more than its tensor has is found.

A descriptor's value is one row of 64-bit integers a program: the address, the shape, the strides in elements, and 1 for
a padding of NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...ttir import Operation, Type, parse_type
from .. import access, atomics
from ..atomics import Atomic
from ..elements import Array, Element, element_of
from ..machine import Machine
from ..trace import Site
from .atomics import kind_of
from .shape import materialise
from .undefined import Effect

#: What an element's NaN is, where it has one: what the hardware fills in.
_NAN = {"f8E4M3FN": 0x7F, "f8E5M2": 0x7F, "f8E4M3FNUZ": 0x80, "f8E5M2FNUZ": 0x80}
_PADDING_NAN = 2


def block_of(type_: Type) -> tuple[Type, bool]:
    """The type of a descriptor's block, and whether its elements are unsigned integers (which only reductions ask)."""
    block = parse_type(type_.pointee or "")
    element = block.element
    if element[:2] in ("ui", "si"):
        return Type(element[1:], block.shape), element.startswith("u")
    return block, False


#: What the tensor memory accelerator asks of a tensor's address and of its strides but the last, in bytes (PTX ISA,
#: tensor maps; the documentation of tl.make_tensor_descriptor): their lower bits are not in a descriptor.
_ALIGNMENT = 16


def _check_alignment(m: Machine, site: Site, address: Array, *strides: Array) -> None:
    """Note the programs in which the address, or one of the strides in bytes, is no multiple of the alignment."""
    odd = np.zeros(len(m.programs), bool)
    for place in (address, *strides):
        odd |= (place.astype(np.int64) % _ALIGNMENT != 0).reshape(-1)
    if m.active is not None:
        odd &= m.active
    if odd.any():
        m.report("assert-failed", site, m.region_at(address)[0], None, np.flatnonzero(odd))


def _make(op: Operation) -> Callable[..., Any]:
    nan = op.attributes.get("padding") == _PADDING_NAN
    rank, width = len(op.operands) // 2, element_of(block_of(op.result.type)[0]).width

    def apply(m: Machine, site: Site, *fields: Array) -> Array:
        if op.attributes.get("tma"):
            _check_alignment(m, site, fields[0], *(width * f.astype(np.int64) for f in fields[rank + 1 : -1]))
        columns = [*fields, np.array([int(nan)])]
        programs = max(map(len, columns))
        return np.stack([np.broadcast_to(c, programs).astype(np.int64) for c in columns], axis=1)

    return apply


def _described(op: Operation) -> Callable[..., Any]:
    """What `ttir.expand` makes of a tensor map: the address, the shape, and the strides in bytes but the last."""
    width, nan = element_of(block_of(op.result.type)[0]).width, op.attributes["nan"]
    rank = len(op.operands) // 2

    def apply(m: Machine, site: Site, address: Array, *fields: Array) -> Array:
        _check_alignment(m, site, address, *fields[rank:])
        strides = [stride.astype(np.int64) // width for stride in fields[rank:]]
        columns = [address, *fields[:rank], *strides, np.ones(1, np.int64), np.array([int(nan)])]
        programs = max(map(len, columns))
        return np.stack([np.broadcast_to(c, programs).astype(np.int64) for c in columns], axis=1)

    return apply


class BlockAccess:
    """The addresses of a block, and which of its elements are inside of the tensor."""

    def __init__(self, type_: Type, shape: tuple[int, ...] | None = None) -> None:
        """Of a descriptor's type; `shape` where what is accessed has another one than the descriptor's block."""
        self.type, self.unsigned = block_of(type_)
        self.type = self.type if shape is None else Type(self.type.element, shape)
        self.element: Element = element_of(self.type)
        self.nan = _NAN.get(self.type.element, np.nan) if self.type.element.startswith(("f", "b")) else 0

    def lanes(self, descriptor: Array, offsets: Sequence[Array]) -> tuple[Array, Array]:
        """Of element indices by dimension, each [1 or programs, *block] or broadcasting to it."""
        rank = len(self.type.shape)
        ones = (1,) * rank
        address: Array = descriptor[:, 0].reshape(-1, *ones)
        inside: Array = np.ones((1, *ones), bool)
        for dim, index in enumerate(offsets):
            size = descriptor[:, 1 + dim].reshape(-1, *ones)
            stride = descriptor[:, 1 + rank + dim].reshape(-1, *ones)
            inside = inside & (index >= 0) & (index < size)
            address = address + index * stride * self.element.width
        return address, inside

    def box(self, starts: Sequence[Array]) -> list[Array]:
        """The indices of the block that starts there."""
        rank = len(self.type.shape)
        indices = []
        for dim, (start, size) in enumerate(zip(starts, self.type.shape)):
            along = np.arange(size).reshape([1] + [size if d == dim else 1 for d in range(rank)])
            indices.append(start.astype(np.int64).reshape(-1, *(1,) * rank) + along)
        return indices

    def rows(self, rows: Array, start: Array) -> list[Array]:
        """The indices of a gather or scatter: whole rows of the block's width from a column on."""
        columns = start.astype(np.int64).reshape(-1, 1, 1) + np.arange(self.type.shape[1])
        return [rows.astype(np.int64)[:, :, None], columns]

    def padding(self, descriptor: Array, rank: int) -> Array:
        flag = descriptor[:, -1].reshape(-1, *(1,) * rank) != 0
        zero, nan = np.zeros((), self.element.held), np.array(self.nan).astype(self.element.held)
        return np.where(flag, nan, zero)

    def load(
        self, m: Machine, site: Site, descriptor: Array, indices: Sequence[Array], shape: tuple[int, ...]
    ) -> Array:
        address, inside = self.lanes(descriptor, indices)
        address, inside = np.broadcast_arrays(address, inside)
        value = access.load(m, site, address, inside, self.padding(descriptor, len(shape)))
        return np.broadcast_to(value, (len(value), *shape))


def _load(op: Operation) -> Callable[..., Any]:
    block, target = BlockAccess(op.operands[0].type), op.result.type.shape

    def apply(m: Machine, site: Site, descriptor: Array, *starts: Array) -> Array:
        value = block.load(m, site, descriptor, block.box(starts), block.type.shape)
        return value.reshape(len(value), *target)

    return apply


def _store(op: Operation) -> Callable[..., Any]:
    block = BlockAccess(op.operands[0].type)

    def apply(m: Machine, site: Site, descriptor: Array, *rest: Array) -> None:
        *starts, value = rest
        address, inside = block.lanes(descriptor, block.box(starts))
        value = materialise(value, op.operands[-1].type).reshape(len(value), *block.type.shape)
        access.store(m, site, *together(address, value, inside))

    return apply


def together(address: Array, value: Array, inside: Array) -> list[Array]:
    """Of one shape."""
    return list(np.broadcast_arrays(address, value, inside))


def _gather(op: Operation) -> Callable[..., Any]:
    block, target = BlockAccess(op.operands[0].type), op.result.type.shape

    def apply(m: Machine, site: Site, descriptor: Array, rows: Array, start: Array) -> Array:
        return block.load(m, site, descriptor, block.rows(materialise(rows, op.operands[1].type), start), target)

    return apply


def _scatter(op: Operation) -> Callable[..., Any]:
    block = BlockAccess(op.operands[0].type)

    def apply(m: Machine, site: Site, descriptor: Array, rows: Array, start: Array, value: Array) -> None:
        rows = materialise(rows, op.operands[1].type)
        address, inside = block.lanes(descriptor, block.rows(rows, start))
        access.store(m, site, *together(address, materialise(value, op.operands[3].type), inside))

    return apply


def atomic_of(op: Operation, block: BlockAccess) -> Atomic:
    """What a reduction does to each element of the block."""
    kind, element = op.words[0], block.type.element
    if kind == "add" and not element.startswith("i"):
        kind = "fadd"
    if kind in ("min", "max") and block.unsigned:
        kind = f"u{kind}"
    if kind == "inc" or kind == "dec":
        raise UnsupportedError(f"{op.name} {kind}", op.location)
    return kind_of(kind, element, op)


def _reduce(op: Operation) -> Callable[..., Any]:
    """An atomic on every element of the block, relaxed, whose result no one gets."""
    block = BlockAccess(op.operands[0].type)
    atomic = atomic_of(op, block)

    def apply(m: Machine, site: Site, descriptor: Array, *rest: Array) -> None:
        *starts, value = rest
        address, inside = block.lanes(descriptor, block.box(starts))
        value = materialise(value, op.operands[-1].type).reshape(len(value), *block.type.shape)
        atomics.update(m, site, atomic, address, (value,), inside, block.type.shape, "relaxed", False)

    return apply


EFFECTS: dict[str, Effect] = {
    "tt.make_tensor_descriptor": _make,
    "ttng.reinterpret_tensor_descriptor": _described,
    "tt.descriptor_load": _load,
    "tt.descriptor_store": _store,
    "tt.descriptor_gather": _gather,
    "tt.descriptor_scatter": _scatter,
    "tt.descriptor_reduce": _reduce,
}
