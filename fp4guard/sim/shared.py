"""Shared memory: memory of a program's own, that its threads exchange values through.

Every program has its own, so an allocation has the programs as its leading axis, like any value. What nothing was
written to is undefined: it reads as poison, and reading it is noted. A part that is chosen by an index beyond the
allocation is noted when it is accessed, like a pointer beyond a tensor: `oob-read` and `oob-write`.

Where in memory an element stands (swizzling, padding) changes nothing that is read through the type that it was written
through, so the elements are held in their logical order. Only looking at the same bytes through another type asks for
their real order (see `reinterpret`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..memory import Region, Role
from ..ttir import Operation, Type
from .elements import Array, Element, element_of
from .machine import Machine
from .trace import Site

#: Of a view's arrays: the same view of each.
_Change = Callable[[Array], Array]


@dataclass(frozen=True, eq=False, slots=True)
class Shared:
    """A view of an allocation, or of one part of it a program.

    `data` unsigned [programs, *shape] holds the elements, `defined` of the same type and shape is all ones where
    something was written, and `place` int64 [1, *shape] says which element of the allocation each is. With `part` int
    [1 or programs] all three have one axis more, the second, and each program sees the part of that number. `whole`
    names views of the allocation that every program is known to have written: those need no look at `defined`.
    """

    region: Region
    data: Array
    defined: Array
    place: Array
    whole: set[Any]
    part: Array | None = None

    def seen(self, change: _Change) -> Shared:
        """The same change of the axes made to all of the view; `change` gets arrays [programs, *shape] or, with
        parts, [programs, parts, *shape], and must not copy.
        """
        return replace(self, data=change(self.data), defined=change(self.defined), place=change(self.place))

    def index(self, number: Array) -> Shared:
        """The part of that number along the first axis, int [1 or programs]."""
        if self.part is None:
            return replace(self, part=number)
        if len(self.part) == 1 and 0 <= int(self.part[0]) < self.data.shape[1]:
            whole = int(self.part[0])
            return replace(self.seen(lambda x: x[:, whole]), part=number)
        parts, inner = self.data.shape[1:3]
        joined = self.seen(lambda x: reshaped(x, (len(x), parts * inner, *x.shape[3:])))
        beyond = parts * inner + np.abs(number)
        inside = (number >= 0) & (number < inner)
        return replace(joined, part=np.where(inside, self.part * inner + number, beyond))


def reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    """Another shape of the same memory; UnsupportedError where that would take a copy."""
    view = x.reshape(shape)
    if not np.may_share_memory(view, x):
        raise UnsupportedError("shared memory that is reshaped after it was transposed or cut")
    return view


class _Memory(Region):
    """What stands for shared memory in reports."""

    __slots__ = ()

    def describe(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


class Allocation:
    """An operation that allocates: what all its allocations have in common. Reports call it by the variable that it is
    assigned to.
    """

    def __init__(self, op: Operation) -> None:
        self.type = type_ = op.result.type
        self.element = element_of(Type(type_.pointee or ""))
        count = int(np.prod(type_.shape))
        self._place = np.arange(count, dtype=np.int64).reshape(1, *type_.shape)
        kind = "tensor memory" if op.name == "ttng.tmem_alloc" else "shared memory"
        name = op.attributes.get("name")
        self._name = f"{name} ({kind})" if name else f"{kind} of line {op.location.line}"
        self._region: Region | None = None

    @property
    def region(self) -> Region:
        """What stands for the memory of every program in reports; it holds nothing."""
        if self._region is None:
            shape = self.type.shape
            strides = tuple(int(np.prod(shape[d + 1 :])) for d in range(len(shape)))
            storage = np.zeros(int(np.prod(shape)) * self.element.width, np.uint8)
            self._region = _Memory(self._name, Role.SCRATCH, storage, self.element.torch_dtype, shape, strides, 0)
        return self._region

    def fresh(self, programs: int) -> Shared:
        """Memory that nothing was written to, for so many programs."""
        kind, shape = f"u{self.element.width}", (programs, *self.type.shape)
        return Shared(self.region, np.zeros(shape, kind), np.zeros(shape, kind), self._place, set())


def load(m: Machine, site: Site, view: Shared, element: Element | None = None) -> Array:
    """All elements of a view, [programs, *shape]; poison where nothing was written. `element` is the site's, unless
    the operation touches memories of several types.
    """
    element = site.element if element is None else element
    view = narrowed(view)
    if view.part is None:
        raw, everyone = np.array(view.data), np.ones(1, bool)
        if _elements(view.data) in view.whole:
            return element.load(raw)
        return _values(m, site, element, view.region, raw, view.defined, view.place, everyone)
    rows, part, good = _parts(m, view)
    _report_beyond(m, "oob-read", site, view, rows[~good], part[~good])
    safe = np.where(good, part, 0)
    defined = view.defined[rows, safe]
    defined[~good] = 0
    return _values(m, site, element, view.region, view.data[rows, safe], defined, view.place[0, safe], good)


def store(m: Machine, site: Site, view: Shared, value: Array, element: Element) -> None:
    """Write all elements of a view; `value` broadcasts to [programs, *shape]."""
    raw, everything = element.store(value), all_ones(element)
    target: Array | tuple[Array, Array] | None = None
    view = narrowed(view)
    if view.part is not None:
        rows, part, good = _parts(m, view)
        running = np.ones(len(rows), bool) if m.active is None else m.active
        bad = ~good & running
        _report_beyond(m, "oob-write", site, view, rows[bad], part[bad])
        kept = good & running
        target, raw = (rows[kept], part[kept]), _rows(raw, kept)
    elif m.active is not None:
        target, raw = np.flatnonzero(m.active), _rows(raw, m.active)
    m.writes += not m.comparing or bool((view.data[... if target is None else target] != raw).any())
    if target is None:
        view.data[...] = raw
        if (elements := _elements(view.data)) not in view.whole:
            view.defined[...] = everything
            view.whole.add(elements)
    else:
        view.data[target] = raw
        view.defined[target] = everything


def merged(mask: Array, new: Shared, old: Shared) -> Shared:
    """`new` for the programs of the mask, `old` for the others: parts of one allocation, seen in the same way."""
    if new is old:
        return new
    same = new.region is old.region and _memory(new.data) == _memory(old.data)
    if not same or (new.part is None) != (old.part is None):
        raise UnsupportedError("a choice between two shared memories that differs between programs")
    if new.part is None or old.part is None:
        return new
    return replace(new, part=np.where(mask, new.part, old.part))


def same(new: Shared, old: Shared) -> bool:
    """Whether two views show the same memory."""
    if _memory(new.data) != _memory(old.data) or (new.part is None) != (old.part is None):
        return False
    return new.part is None or old.part is None or np.array_equal(new.part, old.part)


def _elements(x: Array) -> tuple[object, ...]:
    """Which elements a view has, whatever the order of its axes."""
    return x.__array_interface__["data"][0], x.itemsize, *sorted(zip(x.strides, x.shape))


def _memory(x: Array) -> tuple[object, ...]:
    return x.__array_interface__["data"][0], x.shape, x.strides, x.dtype


def all_ones(element: Element) -> Array:
    """What marks an element as defined, shape ()."""
    return ~np.zeros((), f"u{element.width}")


def _rows(raw: Array, kept: Array) -> Array:
    return raw[kept] if len(raw) == len(kept) else raw


def narrowed(view: Shared) -> Shared:
    """Without parts, where all programs see the same one."""
    whole = _same_part(view) if view.part is not None else None
    return view if whole is None else replace(view.seen(lambda x: x[:, whole]), part=None)


def _same_part(view: Shared) -> int | None:
    """The number of the part that all programs see, where it is one and exists."""
    part = view.part
    assert part is not None
    if len(part) > 1 and not (part == part[0]).all():
        return None
    number = int(part[0])
    return number if 0 <= number < view.data.shape[1] else None


def _parts(m: Machine, view: Shared) -> tuple[Array, Array, Array]:
    """For every program: its row, the part that it sees, and whether there is such a part."""
    assert view.part is not None
    rows = np.arange(len(m.programs))
    part = np.broadcast_to(view.part, len(rows)).astype(np.int64)
    return rows, part, (part >= 0) & (part < view.data.shape[1])


def _report_beyond(m: Machine, kind: str, site: Site, view: Shared, rows: Array, part: Array) -> None:
    """Programs that access a part which is not there."""
    if m.active is not None:
        running = m.active[rows]
        rows, part = rows[running], part[running]
    if not len(rows):
        return
    first = view.place[0, 0].reshape(-1)
    step = int(view.place[0, 1].reshape(-1)[0] - first[0]) if view.place.shape[1] > 1 else len(first)
    offsets = (part[:, None] * step + first) * view.data.itemsize
    m.report(kind, site, view.region, offsets.reshape(-1), np.repeat(rows, len(first)))


def _values(
    m: Machine, site: Site, element: Element, region: Region, raw: Array, defined: Array, place: Array, good: Array
) -> Array:
    """The values of raw elements; poison where nothing was written, which is reported of the programs `good`."""
    value = element.load(raw)
    fresh = defined != all_ones(element)
    if not fresh.any():
        return value
    live = fresh if m.active is None else fresh & m.spread(m.active, fresh.ndim)
    live = live & m.spread(good, live.ndim)
    if live.any():
        programs = np.nonzero(live)[0]
        offsets = np.broadcast_to(place, live.shape)[live] * element.width
        m.report("uninitialized-read", site, region, offsets, programs)
    return np.where(fresh, m.poison(site, element), value)
