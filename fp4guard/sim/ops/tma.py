"""Hopper's copies between a tensor and shared memory by descriptor (ttng.async_tma_*): blocks by their coordinates.

What lies outside of the shape that a descriptor states is padding and is not written, as for the other operations on
descriptors. The block that is filled is the view of shared memory, which may have fewer or more dimensions of size 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ttir import Operation, Value
from .. import access, atomics, shared
from ..control import restrict
from ..elements import Array
from ..machine import Machine
from ..shared import Shared
from ..trace import Site
from .descriptors import BlockAccess, atomic_of, together
from .shape import materialise
from .undefined import Effect

#: Given the operands in a descriptor's brackets: the element indices of the block, by dimension.
Indices = Callable[..., list[Array]]


def predicated(m: Machine, predicate: Array, action: Callable[[], None]) -> None:
    """Run an action for the programs whose predicate, bool [1 or programs], is true."""
    if predicate.all():
        action()
        return
    saved = m.active
    m.active = restrict(m, predicate if len(predicate) == len(m.programs) else predicate.repeat(len(m.programs)))
    if m.active.any():
        action()
    m.active = saved


def _fill(op: Operation, block: BlockAccess, indices: Indices) -> Callable[..., Any]:
    """`%desc[...] %shared, %barrier, %predicate`."""
    target = op.operands[-3].type.shape

    def apply(m: Machine, site: Site, descriptor: Array, *rest: Any) -> None:
        *places, view, _, predicate = rest

        def copy() -> None:
            value = block.load(m, site, descriptor, indices(*places), block.type.shape)
            shared.store(m, site, view, value.reshape(len(value), *target), block.element)

        predicated(m, predicate, copy)

    return apply


def _drain(block: BlockAccess, indices: Indices) -> Callable[..., Any]:
    """`%desc[...] %shared`."""

    def apply(m: Machine, site: Site, descriptor: Array, *rest: Any) -> None:
        *places, view = rest
        address, inside = block.lanes(descriptor, indices(*places))
        value = _held(m, site, view, block)
        access.store(m, site, *together(address, value, inside))

    return apply


def _held(m: Machine, site: Site, view: Shared, block: BlockAccess) -> Array:
    value = shared.load(m, site, view)
    return value.reshape(len(value), *block.type.shape)


def _load(op: Operation) -> Callable[..., Any]:
    block = BlockAccess(op.operands[0].type)
    return _fill(op, block, lambda *starts: block.box(starts))


def _store(op: Operation) -> Callable[..., Any]:
    block = BlockAccess(op.operands[0].type)
    return _drain(block, lambda *starts: block.box(starts))


def _rows(op: Operation, held: Value) -> tuple[BlockAccess, Indices]:
    """Of a gather or scatter: whole rows by their numbers, from a column on."""
    block, numbers = BlockAccess(op.operands[0].type, held.type.shape), op.operands[1].type
    return block, lambda rows, column: block.rows(materialise(rows, numbers), column)


def _gather(op: Operation) -> Callable[..., Any]:
    return _fill(op, *_rows(op, op.operands[3]))


def _scatter(op: Operation) -> Callable[..., Any]:
    return _drain(*_rows(op, op.operands[3]))


def _reduce(op: Operation) -> Callable[..., Any]:
    """An atomic on every element of the block, relaxed, whose result no one gets: `add, %desc[...] %shared`."""
    block = BlockAccess(op.operands[0].type)
    atomic = atomic_of(op, block)

    def apply(m: Machine, site: Site, descriptor: Array, *rest: Any) -> None:
        *places, view = rest
        address, inside = block.lanes(descriptor, block.box(places))
        value = _held(m, site, view, block)
        atomics.update(m, site, atomic, address, (value,), inside, block.type.shape, "relaxed", False)

    return apply


EFFECTS: dict[str, Effect] = {
    "ttng.async_tma_copy_global_to_local": _load,
    "ttng.async_tma_copy_local_to_global": _store,
    "ttng.async_tma_gather": _gather,
    "ttng.async_tma_reduce": _reduce,
    "ttng.async_tma_scatter": _scatter,
}
