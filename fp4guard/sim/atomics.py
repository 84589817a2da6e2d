"""Atomics: read-modify-write of one element per lane, checked like a load and a store.

Programs take their turns in the order of their numbers and lanes in theirs, which is one of the orders that hardware
may choose. Several lanes may meet at one element: they are served in rounds, each element once a round, and what can
be had without rounds (integer sums, results that nobody uses) is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..memory import DEFINED, Region, Role
from . import access
from .elements import Array, Element
from .machine import Machine
from .trace import Site

#: Given what an element holds and the lane's operands: what it holds afterwards.
Combine = Callable[..., Array]


#: What an atomic orders whose result no one looks at: the program cannot know whom it came after.
_UNUSED = {"relaxed": "relaxed", "acquire": "relaxed", "release": "release", "acq_rel": "release"}


@dataclass(frozen=True, slots=True)
class Atomic:
    """What an operation does to an element.

    `accumulate` is the ufunc that does it to one element several times over (`ufunc.at`), None where there is none, and
    `plainly` whether it does so exactly for values such as these; `sums` means that it adds integers; `reads` that what
    was there matters, if only to the result.
    """

    combine: Combine
    accumulate: np.ufunc | None = None
    plainly: Callable[[Array], bool] = lambda values: True
    sums: bool = False
    reads: bool = True


def update(
    m: Machine, site: Site, atomic: Atomic, address: Array, operands: tuple[Array, ...], mask: Array | None,
    shape: tuple[int, ...], semantics: str, used: bool,
) -> Array:  # fmt: skip
    """Perform an atomic on every lane that the mask leaves on; `shape` is that of a program's lanes.

    Returns what each element held before, [programs, *shape]; poison for lanes that are masked off or fail. With
    `used` false nothing meaningful is returned.
    """
    element = site.element
    whole = (len(m.programs), *shape)
    seen, _ = m.covering(site, mask)
    if mask is not None:
        access.note_reach(m, site, address, seen)
    live = mask
    if m.active is not None:
        active = m.spread(m.active, len(whole))
        live = active if mask is None else mask & active
    address = np.broadcast_to(address, whole).reshape(-1)
    operands = tuple(np.broadcast_to(x, whole).reshape(-1) for x in operands)
    lanes = np.arange(len(address)) if live is None else np.flatnonzero(np.broadcast_to(live, whole))
    old = np.full(len(address), m.poison(site), element.held)
    if used and mask is not None:
        off = ~mask if m.active is None else ~mask & m.spread(m.active, len(whole))
        if off.any():
            m.report("undefined-value", site, None, None, np.nonzero(off)[0])
    if not len(lanes):
        return old.reshape(whole)
    fit = access.without_overflow(m, site, address[lanes], whole, lanes)
    lanes = lanes if fit is None else lanes[fit]
    if len(lanes):
        for region, offset, chosen in access.by_region(m, address[lanes]):
            mine = lanes if chosen is None else lanes[chosen]
            good = _checked(m, site, region, offset, _programs(mine, shape))
            if region is None or not good.any():
                continue
            mine, offset = mine[good], offset[good]
            seen.last |= int(offset.max()) + element.width == region.last
            _note(m, site, region, offset, _programs(mine, shape), semantics if used else _UNUSED[semantics])
            cells, unique, place = _open(m, site, atomic, region, offset, _programs(mine, shape), used)
            old[mine] = _apply(atomic, cells, place, tuple(x[mine] for x in operands), used)
            raw = element.store(cells)
            # One that changes nothing, such as a failed compare-and-swap, is no progress: see `while_step`.
            m.writes += bool((access.gather(region, unique, element.width) != raw).any())
            access.write(region, unique, raw)
    return old.reshape(whole)


def _programs(lanes: Array, shape: tuple[int, ...]) -> Array:
    """The batch index of each lane's program."""
    return lanes // max(int(np.prod(shape)), 1)


def _checked(m: Machine, site: Site, region: Region | None, offset: Array, programs: Array) -> Array:
    """Which lanes may write, bool; the others are reported."""
    if region is None:
        m.report("oob-write", site, None, offset, programs)
        return np.zeros(len(offset), bool)
    width = site.element.width
    good = access.writable(region, offset, width, int(offset.min()), int(offset.max()) + width)
    if good is None:
        good = np.ones(len(offset), bool)
    else:
        m.report("oob-write", site, region, offset[~good], programs[~good])
    if region.role is Role.INPUT and good.any():
        m.report("input-write", site, region, offset[good], programs[good])
    return good


def _note(m: Machine, site: Site, region: Region, offset: Array, programs: Array, semantics: str) -> None:
    """Tell those who watch the order of accesses."""
    if m.races is not None:
        races, ids = m.races, m.programs[programs]
        access.report_races(
            m, site, region, offset, programs, ids, lambda places, who, _: races.update(site, region, places, who)
        )
        if races.ordering is not None:
            races.ordering.atomic(region, offset // site.element.width, ids, semantics)


def _open(
    m: Machine, site: Site, atomic: Atomic, region: Region, offset: Array, programs: Array, used: bool
) -> tuple[Array, Array, Array]:
    """The values of the elements that lanes meet at, their offsets, and which of them is each lane's.

    An element that nothing defined was written to holds poison.
    """
    element = site.element
    unique, place = _distinct(offset)
    cells = element.load(access.gather(region, unique, element.width))
    if not region.sealed:
        fresh = access.states(region, unique, element.width) != DEFINED
        if fresh.any():
            cells = np.where(fresh, m.poison(site), cells)
            if atomic.reads or used:
                lanes = fresh[place]
                m.report("uninitialized-read", site, region, offset[lanes], programs[lanes])
    return np.array(cells), unique, place


def _distinct(offset: Array) -> tuple[Array, Array]:
    """The distinct offsets in order, and which of them is each lane's: counted where they lie close together, which is
    many times faster than sorting.
    """
    low = int(offset.min())
    span = int(offset.max()) - low + 1
    if span > 8 * len(offset):
        unique, place = np.unique(offset, return_inverse=True)
        return unique, place.reshape(-1)
    seen = np.zeros(span, bool)
    seen[offset - low] = True
    rank = np.cumsum(seen) - 1
    return np.flatnonzero(seen) + low, rank[offset - low]


def _apply(atomic: Atomic, cells: Array, place: Array, operands: tuple[Array, ...], used: bool) -> Array:
    """Change `cells` in place; returns what each lane found there."""
    if len(cells) == len(place):
        old = cells[place]
        cells[place] = atomic.combine(old, *operands)
        return old
    if not used and atomic.accumulate is not None and atomic.plainly(cells) and atomic.plainly(operands[0]):
        atomic.accumulate.at(cells, place, *operands)
        return cells[place]
    order = np.argsort(place, kind="stable")
    ordered = place[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    counts = np.diff(np.append(starts, len(ordered)))
    old = np.empty(len(place), cells.dtype)
    if atomic.sums:
        added = operands[0][order]
        before = np.cumsum(added, dtype=cells.dtype) - added
        old[order] = cells[ordered] + before - np.repeat(before[starts], counts)
        np.add.at(cells, place, operands[0])
        return old
    # The first lane of every element, then the second of those that have one, and so on.
    by_count = np.argsort(-counts, kind="stable")
    starts, counts = starts[by_count], counts[by_count]
    for turn in range(int(counts[0])):
        here = order[starts[: int(np.searchsorted(-counts, -turn, side="left"))] + turn]
        found = cells[place[here]]
        old[here] = found
        cells[place[here]] = atomic.combine(found, *(x[here] for x in operands))
    return old


def element_bits(element: Element) -> Callable[[Array, Array, Array], Array]:
    """Compare-and-swap, which compares bits: -0 is not +0, and a NaN is itself."""

    def swap(old: Array, expected: Array, new: Array) -> Array:
        return np.where(element.store(old) == element.store(expected), new, old)

    return swap
