"""Races between the programs of one launch.

Programs run in any order. Two of them race when they touch the same element, one of them writes, and nothing orders
them: a write over another program's different value, a read of what another program wrote, a write of something new to
what another program has read. Equal values written twice are benign, atomics are exempt among themselves, and atomics
order what stands before them in one program and behind them in another (see `ordering`).

Per element of a region, the shadow keeps who wrote it last, who read it last, and when: programs count from 1, and
`when` is the number of the access in the launch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..memory import Region
from .accessors import SEVERAL, Accessors, each
from .elements import Array, elements_at
from .ordering import Ordering
from .trace import Site

#: As a program id, where nothing orders programs: the access is one that all of them make alike.
EVERYONE = SEVERAL - 1

#: Lanes times programs that are held against one another at a time.
_AT_A_TIME = 1 << 20


def _place(region: Region, offset: Array) -> Array | slice:
    """Which elements stand at byte offsets within a region's bounds."""
    return elements_at(offset - region.first, region.dtype.itemsize)


class _Shadow:
    """Who wrote, read and atomically updated each element of one region in one launch."""

    __slots__ = ("read", "updated", "written")

    def __init__(self, count: int, remembering: bool) -> None:
        self.written, self.read, self.updated = (Accessors(count, remembering) for _ in range(3))


@dataclass(frozen=True)
class Conflict:
    """Lanes of an access that race with an earlier one: which, the other site, and one of its programs (from 0)."""

    lanes: Array
    other: Site
    program: int | None


class Races:
    """Watches the regions that a launch writes. `ordering` is None where no atomic can order anything."""

    def __init__(self, ordering: Ordering | None) -> None:
        self.ordering = ordering
        self._shadows: dict[str, _Shadow] = {}
        self._sites: list[Site | None] = [None]

    def read(self, site: Site, region: Region, offset: Array, programs: Array) -> list[Conflict]:
        """Note a read of the elements at byte offsets by programs (from 0, of the whole grid), flat and of one length.

        Returns the conflicts with earlier writes.
        """
        shadow, when = self._begin(site, region)
        index, me = _place(region, offset), (programs + 1).astype(np.int32)
        found = self._conflicts(shadow.written, index, me)
        found += self._conflicts(shadow.updated, index, me, np.ones(len(me), bool))
        shadow.read.note(index, me, when, shadow.read.beside(index, me))
        return found

    def write(
        self, site: Site, region: Region, offset: Array, programs: Array, changed: Callable[[], Array]
    ) -> list[Conflict]:
        """As `read`, for a write; `changed()` says which lanes write something else than what was there, bool."""
        shadow, when = self._begin(site, region)
        index, me = _place(region, offset), (programs + 1).astype(np.int32)
        found: list[Conflict] = []
        shared = None
        if shadow.written.knows(index) or shadow.read.knows(index):
            new = changed()
            found += self._conflicts(shadow.written, index, me, new)
            # What all have read and all overwrite alike, each of them reads anew.
            found += self._conflicts(shadow.read, index, np.where(me < 0, me - 1, me), new)
            beside = shadow.written.beside(index, me)
            shared = None if beside is None else beside & ~new
        found += self._conflicts(shadow.updated, index, me, np.ones(len(me), bool))
        shadow.written.note(index, me, when, shared)
        return found

    def update(self, site: Site, region: Region, offset: Array, programs: Array) -> list[Conflict]:
        """As `read`, for an atomic: it races with plain accesses alone."""
        shadow, when = self._begin(site, region)
        index, me = _place(region, offset), (programs + 1).astype(np.int32)
        found: list[Conflict] = []
        for plain in (shadow.written, shadow.read):
            found += self._conflicts(plain, index, me, np.ones(len(me), bool))
        shadow.updated.note(index, me, when, shadow.updated.beside(index, me))
        return found

    def _begin(self, site: Site, region: Region) -> tuple[_Shadow, int]:
        shadow = self._shadows.get(region.name)
        if shadow is None:
            count = (region.last - region.first) // region.dtype.itemsize
            shadow = self._shadows[region.name] = _Shadow(count, self.ordering is not None)
        self._sites.append(site)
        now = len(self._sites) - 1
        if self.ordering is not None:
            self.ordering.now = now
        return shadow, now

    def _conflicts(self, last: Accessors, index: Array | slice, me: Array, only: Array | None = None) -> list[Conflict]:
        lanes = last.beside(index, me)
        if lanes is None:
            return []
        if only is not None:
            lanes &= only
        elif self.ordering is None:
            # A read of a value that several programs wrote alike: the reader may be one of them.
            lanes &= last.who[index] != SEVERAL
        if not lanes.any():
            return []
        chosen = np.flatnonzero(lanes)
        if self.ordering is None:
            others, times = last.who[index][chosen], last.when[index][chosen]
        else:
            others, times = self._unordered(self.ordering, last, index, me, chosen, alike=only is None)
        found = []
        for time in np.unique(times[others != 0]).tolist():
            site = self._sites[time]
            assert site is not None
            here = (others != 0) & (times == time)
            first = int(others[here][0])
            mask = np.zeros(len(me), bool)
            mask[chosen[here]] = True
            found.append(Conflict(mask, site, None if first == SEVERAL else first - 1))
        return found

    def _unordered(
        self, ordering: Ordering, last: Accessors, index: Array | slice, me: Array, chosen: Array, alike: bool
    ) -> tuple[Array, Array]:
        """For each of the chosen lanes, a program (from 1) whose access nothing orders before mine, and when that was;
        0 where there is none. `alike`: what several have done is the same, so that one of them before me, or myself,
        is enough.
        """
        others, times, mine = last.who[index][chosen], last.when[index][chosen], me[chosen]
        several = np.flatnonzero(others == SEVERAL)
        others[ordering.ordered(np.maximum(others, 1) - 1, times, mine - 1)] = 0
        others[several] = 0
        assert last.history is not None
        elements = each(index)[chosen]
        if alike and len(several):
            several = several[~last.history.knows(elements[several], mine[several])]
        most = max(_AT_A_TIME // ordering.programs, 1)
        for part in (several[start : start + most] for start in range(0, len(several), most)):
            lane, program, when = last.history.members(elements[part])
            free = (program != mine[part][lane]) & ~ordering.ordered(program - 1, when, mine[part][lane] - 1)
            if alike:
                free &= np.bincount(lane[~free], minlength=len(part))[lane] == 0
            others[part[lane[free]]] = program[free]
            times[part[lane[free]]] = when[free]
        return others, times
