"""Overflow in address arithmetic: the integers from which an address is made, computed a second time without wrapping.

Each operation that computes such an integer gets a second slot, for the bounds of its exact values. As long as they fit
the type, nothing can have wrapped, and bounds cost no more than a few Python integers; only where they do not fit are
the exact values computed, 64 bits wide. Where a pointer is moved by an offset that wrapped, the lane's address is
marked (see `addresses`), and the access that uses it reports the overflow: lanes that are masked off, and numbers that
never become an address, report nothing.

AMD's buffer operations have narrower offsets than pointers: bytes, in 31 bits. Beyond that a lane is marked too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..ttir import Operation, Type, Value
from .addresses import OVERFLOWED
from .control import Step
from .dataflow import COMPUTES, Dataflow
from .elements import Array, element_of
from .machine import Machine


class Bounds(NamedTuple):
    """Of the exact values of an integer; `exact` int64 holds them where they may differ from what was computed."""

    low: int
    high: int
    exact: Array | None = None


class Carried(NamedTuple):
    """An integer of an address that a loop carries, at `place` among all that it carries: its second slot in the body,
    how to read that of its first value and of the next one, and the second slot of what comes out.
    """

    place: int
    slot: int
    initial: Callable[[Machine], Bounds]
    passed: Callable[[Machine], Bounds]
    result: int

    def merged(self, m: Machine, mask: Array, new: Bounds, old: Bounds, values: tuple[Array, Array]) -> Bounds:
        """`new` for the programs of the mask, `old` for the others; `values` are what was computed of both."""
        low, high = _either(new, old)
        if new.exact is None and old.exact is None:
            return Bounds(low, high)
        wide = [x.astype(np.int64) if b.exact is None else b.exact for b, x in zip((new, old), values)]
        return Bounds(low, high, np.where(m.spread(mask, max(x.ndim for x in wide)), *wide))


def _bounds_of(x: Array) -> Bounds:
    if x.size == 1:
        return Bounds(x.item(), x.item())
    return Bounds(int(np.minimum.reduce(x, axis=None)), int(np.maximum.reduce(x, axis=None)))


def _product(a: Bounds, b: Bounds) -> tuple[int, int]:
    corners = (a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high)
    return min(corners), max(corners)


def _shifted(a: Bounds, b: Bounds) -> tuple[int, int]:
    if b.low < 0 or b.high > 63:
        return -1 << 63, 1 << 63  # undefined, which may be anything
    return _product(a, Bounds(1 << b.low, 1 << b.high))


def _either(*given: Bounds) -> tuple[int, int]:
    return min(x.low for x in given), max(x.high for x in given)


#: The bounds of a result from those of its operands; of any other operation the result is one of its operands.
_BOUNDS: dict[str, Callable[..., tuple[int, int]]] = {
    "arith.addi": lambda a, b: (a.low + b.low, a.high + b.high),
    "arith.subi": lambda a, b: (a.low - b.high, a.high - b.low),
    "arith.muli": _product,
    "arith.shli": _shifted,
    "arith.select": lambda condition, yes, no: _either(yes, no),
}


class WideArithmetic:
    """Hands out the second slots of one function, from `first_slot` on."""

    def __init__(self, flow: Dataflow, first_slot: int) -> None:
        self._values = flow.address_values()
        self._chain = flow.operations_of(self._values)
        self._slots: dict[Value, int] = {}
        self._next = first_slot

    @property
    def slot_count(self) -> int:
        """Slots in use, the function's own included."""
        return self._next

    def step(self, op: Operation, function: Callable[..., Any]) -> Step | None:
        """The second computation of an operation, by the same `function`; None when it needs none.

        Operations are to be asked for in program order.
        """
        if op not in self._chain or len(op.results) != 1:
            return None
        narrow = op.name in COMPUTES and op.result.type.element != "i64"
        if not narrow and not any(value in self._slots for value in op.operands):
            return None
        if op.name == "arith.extsi":
            self._slots[op.result] = self._slots[op.operands[0]]  # the exact values are the same
            return None
        reads = [self._reader(value) for value in op.operands]
        out = self._slot_for(op.result)
        if op.name == "arith.extui":
            return _extended(reads[0], op.operands[0].index, out)
        return _computed(op, function, reads, out)

    def moved(self, op: Operation, function: Callable[[Array, Array], Array]) -> Step | None:
        """tt.addptr with an offset that may have wrapped; None when it cannot have."""
        pointer, offset = op.operands
        if offset not in self._slots:
            return None
        base, narrow, wide, out = pointer.index, offset.index, self._slots[offset], op.result.index

        def step(m: Machine) -> None:
            result = function(m.slots[base], m.slots[narrow])
            exact = m.slots[wide].exact
            if exact is not None:
                result = np.where(exact != m.slots[narrow], result | OVERFLOWED, result)
            m.slots[out] = result

        return step

    def enter(self, loop: Operation) -> None:
        """A scf.for whose body is lowered next: what it carries of an address has a second slot in there."""
        for argument in loop.regions[0].block.arguments[1:]:
            if argument in self._values and argument.type.element != "i64":
                self._slot_for(argument)

    def leave(self, loop: Operation) -> tuple[Carried, ...]:
        """The same loop, its body lowered: how what it carries goes from one iteration to the next, and out."""
        block, found = loop.regions[0].block, []
        passed = block.operations[-1].operands if block.operations else ()
        carried = zip(block.arguments[1:], loop.operands[3:], passed, loop.results)
        for place, (argument, initial, value, result) in enumerate(carried):
            if argument in self._slots:
                readers = self._reader(initial), self._reader(value)
                found.append(Carried(place, self._slots[argument], *readers, self._slot_for(result)))
        return tuple(found)

    def _slot_for(self, value: Value) -> int:
        slot = self._slots[value] = self._next
        self._next += 1
        return slot

    def _reader(self, value: Value) -> Callable[[Machine], Bounds]:
        slot, index = self._slots.get(value), value.index
        if slot is not None:
            return lambda m: m.slots[slot]
        if value.type.element == "i1":  # the condition of a select
            return lambda m: Bounds(0, 1)
        return lambda m: _bounds_of(m.slots[index])


def within_reach(op: Operation, step: Step) -> Step:
    """A tt.addptr that has to stay within so many bytes of its pointer, all of the element: other lanes are marked.
    One that leads out of the tensor on the near side is left to the access, which says so.
    """
    pointer, offset, out = op.operands[0].index, op.operands[1].index, op.result.index
    width, reach = element_of(Type(op.operands[0].type.pointee or "")).width, op.attributes["reach"]
    most = reach // width - 1

    def checked(m: Machine) -> None:
        step(m)
        given, base = m.slots[offset], m.slots[pointer]
        region, start = m.region_at(base)
        if region is None:
            return
        first = start + region.first
        if base.size == 1 and base.item() == first and region.last - region.first <= reach:
            return  # what is too far is not in the tensor
        beyond = (given > most) | ((given < 0) & (m.slots[out] >= first))
        if beyond.any():
            m.slots[out] = np.where(beyond, m.slots[out] | OVERFLOWED, m.slots[out])

    return checked


def _computed(
    op: Operation, function: Callable[..., Any], reads: Sequence[Callable[[Machine], Bounds]], out: int
) -> Step:
    """The step of an operation that computes, selects or passes on."""
    bounds = _BOUNDS.get(op.name, _either)
    limits = np.iinfo(f"i{int(op.result.type.element[1:]) // 8}")
    whole = limits.bits == 64
    sources = [(v.index, v.type.element == "i1") for v in op.operands]
    least, most = int(limits.min), int(limits.max)
    if whole:  # then only what came from fewer bits can differ
        least, most = -1 << 200, 1 << 200

    def step(m: Machine) -> None:
        given = [read(m) for read in reads]
        low, high = bounds(*given)
        if least <= low and high <= most and all(x.exact is None for x in given):
            m.slots[out] = Bounds(low, high)
            return
        operands = []
        for x, (index, condition) in zip(given, sources):
            narrow = m.slots[index]
            operands.append(narrow if condition else narrow.astype(np.int64) if x.exact is None else x.exact)
        exact = function(*operands)
        found = _bounds_of(exact)
        # Exact values that fit the type are what was computed, whatever wrapped on the way and back again.
        fits = not whole and least <= found.low and found.high <= most
        m.slots[out] = found if fits else found._replace(exact=exact)

    return step


def _extended(read: Callable[[Machine], Bounds], source: int, out: int) -> Step:
    """arith.extui, which makes another number of a negative one."""

    def step(m: Machine) -> None:
        given = read(m)
        if given.low < 0 and given.exact is None:
            given = given._replace(exact=m.slots[source].astype(np.int64))
        m.slots[out] = given

    return step
