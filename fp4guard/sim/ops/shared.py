"""Operations on shared memory, and on the views of it that Gluon calls memory descriptors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ttir import Operation
from .. import reinterpret, scatter, shared
from ..elements import Array
from ..machine import Machine
from ..shared import Allocation, Shared, reshaped
from ..trace import Site
from .shape import materialise
from .undefined import Effect


def _alloc(op: Operation) -> Callable[..., Any]:
    allocation = Allocation(op)

    def apply(m: Machine, site: Site, value: Array | None = None) -> Shared:
        view = allocation.fresh(len(m.programs))
        if value is not None:
            shared.store(m, site, view, value, allocation.element)
        return view

    return apply


def _load(op: Operation) -> Callable[..., Any]:
    return lambda m, site, view: shared.load(m, site, view)


def _store(op: Operation) -> Callable[..., Any]:
    return lambda m, site, value, view: shared.store(m, site, view, value, site.element)


def _dealloc(op: Operation) -> Callable[..., Any]:
    """What was freed is undefined: a read of it is noted."""

    def apply(m: Machine, site: Site, view: Shared) -> None:
        gone = slice(None) if m.active is None else m.active
        view.defined[gone] = 0
        view.whole.clear()

    return apply


def _index(op: Operation) -> Callable[..., Any]:
    return lambda m, site, view, number: view.index(number)


def changed(change: Callable[[Array, int], Array]) -> Callable[..., Any]:
    """A change of a view's axes. `change` gets an array and the number of axes that stand before the view's own."""

    def apply(m: Machine, site: Site, view: Shared) -> Shared:
        lead = 1 if view.part is None else 2
        return view.seen(lambda x: change(x, lead))

    return apply


def _subslice(op: Operation) -> Callable[..., Any]:
    starts, sizes, whole = op.attributes["offsets"], op.result.type.shape, op.operands[0].type.shape
    if any(start < 0 or start + size > most for start, size, most in zip(starts, sizes, whole)):
        return lambda m, site, view: reinterpret.beyond(view, starts, sizes)
    chosen = tuple(slice(start, start + size) for start, size in zip(starts, sizes))
    return changed(lambda x, lead: x[(slice(None),) * lead + chosen])


def _trans(op: Operation) -> Callable[..., Any]:
    order = op.attributes["order"]
    return changed(lambda x, lead: x.transpose(*range(lead), *(lead + axis for axis in order)))


def _reshape(op: Operation) -> Callable[..., Any]:
    shape = op.result.type.shape
    return changed(lambda x, lead: reshaped(x, (*x.shape[:lead], *shape)))


def _reinterpret(op: Operation) -> Callable[..., Any]:
    change = reinterpret.reinterpretation(op)
    return lambda m, site, view: change(view)


def _gather(op: Operation) -> Callable[..., Any]:
    axis = op.attributes["axis"] + 1
    indices = op.operands[1].type
    return lambda m, site, view, index: scatter.gathered(m, site, view, materialise(index, indices), axis)


def _scatter(op: Operation) -> Callable[..., Any]:
    axis = op.attributes["axis"] + 1
    indices = op.operands[1].type

    def apply(m: Machine, site: Site, view: Shared, index: Array, value: Array) -> None:
        scatter.scatter(m, site, view, materialise(index, indices), value, axis)

    return apply


EFFECTS: dict[str, Effect] = {
    "ttg.local_alloc": _alloc,
    "ttg.local_dealloc": _dealloc,
    "ttg.local_gather": _gather,
    "ttg.local_load": _load,
    "ttg.local_scatter": _scatter,
    "ttg.local_store": _store,
    "ttg.memdesc_index": _index,
    "ttg.memdesc_reinterpret": _reinterpret,
    "ttg.memdesc_reshape": _reshape,
    "ttg.memdesc_subslice": _subslice,
    "ttg.memdesc_trans": _trans,
}
