"""Loads and stores against shadow memory: every lane is checked, start to last byte, before it happens.

The common case is decided by a minimum, a maximum and one look at the shadow; only when that fails are lanes looked
at one by one. Lanes that fail are reported and then read poison, or write nothing, so that one run shows all that is
wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ..memory import ADDRESSABLE, DEFINED, Region, Role
from .addresses import OVERFLOWED, REGION_SHIFT, base_address
from .coverage import SiteCoverage
from .elements import Array, elements_at
from .machine import Machine
from .races import EVERYONE, Conflict
from .trace import Site


def load(m: Machine, site: Site, address: Array, mask: Array | None, other: Array | None) -> Array:
    """Read one element per lane. A lane that the mask switches off gets `other`, or poison where there is none."""
    seen, mask = m.covering(site, mask)
    live = _live(m, mask, address.ndim)
    fast = _load_fast(m, site, address, live, seen)
    if fast is None:
        value = _load_lanes(m, site, address, live)
    else:
        raw, region, offset = fast
        value = site.element.load(raw)
        if m.watches(region):
            _note_reads(m, site, region, offset, live)
    if mask is None:
        return value
    if other is None:
        off = ~mask if m.active is None else ~mask & m.spread(m.active, mask.ndim)
        if off.any():
            m.report("undefined-lane", site, m.region_at(address)[0], None, np.nonzero(off)[0])
        other = m.poison(site)
    return np.where(mask, value, other)


def store(m: Machine, site: Site, address: Array, value: Array, mask: Array | None) -> None:
    """Write one element per lane that the mask leaves on."""
    seen, mask = m.covering(site, mask)
    live = _live(m, mask, address.ndim)
    if live is not None and not live.any():
        return
    shapes = [address.shape, value.shape] + ([live.shape] if live is not None else [])
    shape = np.broadcast_shapes(*shapes)
    address, value = np.broadcast_to(address, shape), np.broadcast_to(value, shape)
    if live is not None:
        note_reach(m, site, address, seen)
    if live is None or live.all():
        lanes, address, value = None, address.reshape(-1), value.reshape(-1)
    else:
        lanes = np.flatnonzero(np.broadcast_to(live, shape))
        address, value = address.reshape(-1)[lanes], value.reshape(-1)[lanes]
    fit = without_overflow(m, site, address, shape, lanes)
    if fit is not None:
        lanes = np.flatnonzero(fit) if lanes is None else lanes[fit]
        address, value = address[fit], value[fit]
        if not len(address):
            return
    raw = site.element.store(value)
    for region, offset, chosen in by_region(m, address):
        low, high = int(offset.min()), int(offset.max()) + site.element.width
        if region is not None:
            seen.last |= high == region.last
        good = writable(region, offset, site.element.width, low, high)
        if good is not None:
            bad = ~good
            m.report("oob-write", site, region, offset[bad], _lane_programs(shape, lanes, chosen, bad))
            offset = offset[good]
        if region is None or not len(offset):
            continue
        part = raw if chosen is None else raw[chosen]
        part = part if good is None else part[good]
        programs = _lane_programs(shape, lanes, chosen, good)
        changed = _changed(region, offset, part)
        if m.watches(region):
            _report_conflicts(m, site, region, offset, programs, shape, changed)
        m.writes += not m.comparing or bool(changed().any())
        lost = write(region, offset, part)
        if region.role is Role.INPUT:
            m.report("input-write", site, region, offset, programs)
        if lost is not None and lost.any():
            won = np.flatnonzero(~lost & (offset == offset[np.argmax(lost)]))
            winner = int(m.programs[programs[won[0]]]) if len(won) else None
            m.report("race", site, region, offset[lost], programs[lost], (site, winner))


def note_reach(m: Machine, site: Site, address: Array, seen: SiteCoverage) -> None:
    """Take in how far beyond its tensor's end any lane points, whether it writes or not."""
    region, start = m.region_at(address)
    if region is not None:
        seen.overshoot = max(seen.overshoot, int(address.max()) - start + site.element.width - region.last)


def without_overflow(
    m: Machine, site: Site, address: Array, shape: tuple[int, ...], lanes: Array | None
) -> Array | None:
    """Which lanes have an address whose arithmetic did not overflow, the others reported; None when all have."""
    if int(address.max()) < OVERFLOWED:
        return None
    bad = (address & OVERFLOWED) != 0
    region, _ = m.region_at(address[bad] & ~OVERFLOWED)
    m.report("int-overflow", site, region, None, _lane_programs(shape, lanes, None, bad))
    return ~bad


def _live(m: Machine, mask: Array | None, rank: int) -> Array | None:
    """Which lanes really execute: the operation's mask, and the programs that are active."""
    if m.active is None:
        return mask
    active = m.spread(m.active, rank)
    return active if mask is None else mask & active


def _pattern(bits: int, width: int) -> int:
    """`bits` in each of `width` bytes."""
    return int.from_bytes(bytes([bits]) * width, "little")


def _load_fast(
    m: Machine, site: Site, address: Array, live: Array | None, seen: SiteCoverage
) -> tuple[Array, Region, Array] | None:
    """The raw elements if every live lane reads one region, in bounds, aligned and defined; else None.

    With them, the region and the offset of each lane, in elements of the load.
    """
    region, start = m.region_at(address)
    if region is None:
        return None
    width = site.element.width
    offset = address - start
    low, high = int(offset.min()), int(offset.max()) + width
    if low < region.first or high > region.last:
        if live is None:
            return None
        seen.overshoot = max(seen.overshoot, high - region.last)
        offset = np.where(live, offset, region.first)
        low, high = int(offset.min()), int(offset.max()) + width
        if low < region.first or high > region.last:
            return None
    seen.last |= high == region.last
    if width > 1:
        if int(np.bitwise_or.reduce(offset, axis=None)) & (width - 1):
            return None
        offset >>= width.bit_length() - 1
    if not (region.dense and region.sealed):
        shadow = region.view("shadow", width).take(offset)
        if not (shadow == _pattern(DEFINED, width)).all():
            return None
    return region.view("storage", width).take(offset), region, offset


def _load_lanes(m: Machine, site: Site, address: Array, live: Array | None) -> Array:
    """The slow path: lanes one by one, with a report for each that fails."""
    shape = address.shape if live is None else np.broadcast_shapes(address.shape, live.shape)
    lanes = None if live is None else np.flatnonzero(np.broadcast_to(live, shape))
    address = np.broadcast_to(address, shape).reshape(-1)
    address = address if lanes is None else address[lanes]
    element = site.element
    if not len(address):
        return np.full(shape, m.poison(site), element.held)
    value = np.full(len(address), m.poison(site), element.held)
    fit = without_overflow(m, site, address, shape, lanes)
    if fit is not None:
        address = np.where(fit, address, address & ~OVERFLOWED)
    for region, offset, chosen in by_region(m, address):
        if fit is not None:
            kept = fit if chosen is None else fit[chosen]
            chosen = np.flatnonzero(kept) if chosen is None else chosen[kept]
            offset = offset[kept]
        if region is None:
            m.report("oob-read", site, None, offset, _lane_programs(shape, lanes, chosen, None))
            continue
        state = states(region, offset, element.width)
        bad, fresh, good = (state & ADDRESSABLE) == 0, state == ADDRESSABLE, state == DEFINED
        for kind, selected in (("oob-read", bad), ("uninitialized-read", fresh)):
            if selected.any():
                programs = _lane_programs(shape, lanes, chosen, selected)
                m.report(kind, site, region, offset[selected], programs)
        if m.watches(region) and good.any():
            programs = _lane_programs(shape, lanes, chosen, good)
            _report_conflicts(m, site, region, offset[good], programs, shape, None)
        read = element.load(gather(region, offset[good], element.width))
        value[good if chosen is None else chosen[good]] = read
    if lanes is None:
        return value.reshape(shape)
    whole = np.full(int(np.prod(shape)), m.poison(site), element.held)
    whole[lanes] = value
    return whole.reshape(shape)


def _note_reads(m: Machine, site: Site, region: Region, offset: Array, live: Array | None) -> None:
    """Of a load that took the fast path."""
    shape = offset.shape if live is None else np.broadcast_shapes(offset.shape, live.shape)
    offset = np.broadcast_to(offset, shape).reshape(-1) * site.element.width
    lanes = None if live is None else np.flatnonzero(np.broadcast_to(live, shape))
    offset = offset if lanes is None else offset[lanes]
    if len(offset):
        programs = _lane_programs(shape, lanes, None, None)
        _report_conflicts(m, site, region, offset, programs, shape, None)


def _report_conflicts(
    m: Machine, site: Site, region: Region, offset: Array, programs: Array, shape: tuple[int, ...],
    changed: Callable[[], Array] | None,
) -> None:  # fmt: skip
    """Note an access to a region that the launch writes, and report what it races with.

    `changed` is a write's that is about to happen: which lanes write something else than what is there.
    """
    assert m.races is not None
    races = m.races
    # An access that is the same for all programs stands for each of them, who may be ordered in different ways.
    everyone, copies = shape[0] == 1 and len(m.programs) > 1, 1
    if everyone and races.ordering is not None:
        copies = len(m.programs)
        offset, programs = np.tile(offset, copies), np.repeat(np.arange(copies), len(offset))
        everyone = False
    ids = np.full(len(offset), EVERYONE) if everyone else m.programs[programs]

    def watch(places: Array, who: Array, elements: int) -> list[Conflict]:
        if changed is None:
            return races.read(site, region, places, who)
        return races.write(site, region, places, who, lambda: np.repeat(np.tile(changed(), copies), elements))

    report_races(m, site, region, offset, programs, ids, watch)


def report_races(
    m: Machine, site: Site, region: Region, offset: Array, programs: Array, ids: Array,
    watch: Callable[[Array, Array, int], list[Conflict]],
) -> None:  # fmt: skip
    """Report what an access races with: what `watch` finds, given offsets, ids and how many elements a lane touches.

    `programs` index the batch, `ids` count over the grid. An access through a wider pointer touches several elements of
    the region, and each is watched.
    """
    elements = max(site.element.width // region.dtype.itemsize, 1)
    if elements > 1:
        offset = (offset[:, None] + np.arange(elements) * region.dtype.itemsize).reshape(-1)
        ids, programs = np.repeat(ids, elements), np.repeat(programs, elements)
    for conflict in watch(offset, ids, elements):
        chosen = conflict.lanes
        m.report("race", site, region, offset[chosen], programs[chosen], (conflict.other, conflict.program))


def by_region(m: Machine, address: Array) -> Iterator[tuple[Region | None, Array, Array | None]]:
    """Group flat addresses, at least one: each region, the offsets in its storage, and which addresses (None: all)."""
    first = int(address.min()) >> REGION_SHIFT
    if first == int(address.max()) >> REGION_SHIFT:
        region = m.region(first)
        yield region, address - base_address(first) if region is not None else address, None
        return
    numbers = address >> REGION_SHIFT
    for number in np.unique(numbers).tolist():
        chosen = np.flatnonzero(numbers == number)
        region = m.region(number)
        offset = address[chosen]
        yield region, offset - base_address(number) if region is not None else offset, chosen


def states(region: Region, offset: Array, width: int) -> Array:
    """Per lane, the shadow bits that all its bytes have; 0 beyond the storage."""
    if not len(region.shadow):
        return np.zeros(len(offset), np.uint8)
    inside = (offset >= 0) & (offset + width <= len(region.shadow))
    safe = np.where(inside, offset, 0)
    state = region.shadow[safe]
    for byte in range(1, width):
        state = state & region.shadow[safe + byte]
    return np.where(inside, state, 0)


def writable(region: Region | None, offset: Array, width: int, low: int, high: int) -> Array | None:
    """None when every lane may write, else which may; `low` and `high` bound the bytes."""
    if region is None:
        return np.zeros(len(offset), bool)
    if region.dense and low >= region.first and high <= region.last:
        return None
    good = (states(region, offset, width) & ADDRESSABLE) != 0
    return None if good.all() else good


def _aligned(offset: Array, width: int) -> bool:
    return width == 1 or not int(np.bitwise_or.reduce(offset, axis=None)) & (width - 1)


def gather(region: Region, offset: Array, width: int) -> Array:
    if _aligned(offset, width):
        return region.view("storage", width)[elements_at(offset, width)]
    return region.storage[offset[:, None] + np.arange(width)].view(f"u{width}").reshape(-1)


def _changed(region: Region, offset: Array, raw: Array) -> Callable[[], Array]:
    return lambda: gather(region, offset, raw.dtype.itemsize) != raw


def write(region: Region, offset: Array, raw: Array) -> Array | None:
    """Write, and return which lanes did not get their value in: another lane of this store wrote another one.

    None when no two lanes can have met.
    """
    width = raw.dtype.itemsize
    if _aligned(offset, width):
        index, storage = elements_at(offset, width), region.view("storage", width)
        storage[index] = raw
        if not region.sealed:
            region.view("shadow", width)[index] = _pattern(DEFINED, width)
        return None if isinstance(index, slice) else storage[index] != raw
    index = offset[:, None] + np.arange(width)
    region.storage[index] = raw.view(np.uint8).reshape(-1, width)
    region.shadow[index] = DEFINED
    return (region.storage[index] != raw.view(np.uint8).reshape(-1, width)).any(axis=1)


def _lane_programs(shape: tuple[int, ...], lanes: Array | None, chosen: Array | None, selected: Array | None) -> Array:
    """The batch index of the program of each selected lane. An access that is the same for all names the first."""
    if lanes is None and chosen is None and selected is None:
        return np.repeat(np.arange(shape[0]), math.prod(shape[1:]))
    lane = np.arange(math.prod(shape)) if lanes is None else lanes
    lane = lane if chosen is None else lane[chosen]
    lane = lane if selected is None else lane[selected]
    return lane // max(math.prod(shape[1:]), 1)
