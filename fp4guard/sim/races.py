"""Races between the programs of one launch.

Programs run in any order. Two of them race when they touch the same element, one of them writes, and nothing orders
them: a write over another program's different value, a read of what another program wrote, a write of something new to
what another program has read. Equal values written twice are benign, atomics are exempt among themselves, and atomics
order what stands before them in one program and behind them in another (see `ordering`).

Per element of a region, the shadow keeps who wrote it last, who read it last, and when: programs count from 1, 0 is
nobody, and SEVERAL stands for more than one. `when` is the number of the access in the launch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..memory import Region
from ..memory.region import zeros
from .elements import Array, elements_at
from .ordering import Ordering
from .trace import Site

SEVERAL = -1

#: As a program id: the access is one that all programs make alike.
EVERYONE = SEVERAL - 1


class _Last:
    """Who accessed each element of a region last, and when; those outside of `low` to `high`, no one has."""

    __slots__ = ("high", "low", "when", "who")

    def __init__(self, count: int) -> None:
        self.who = zeros(4 * count).view(np.int32)
        self.when = zeros(4 * count).view(np.int32)
        self.low, self.high = count, -1

    def knows(self, index: Array | slice) -> bool:
        """Whether any of the elements may have been accessed."""
        low, high = _ends(index)
        return low <= self.high and high >= self.low

    def note(self, index: Array | slice, me: Array, when: int, shared: Array | None) -> None:
        """`shared` marks lanes whose element others accessed too, beside those where lanes of this access meet."""
        self.who[index] = me if shared is None else np.where(shared, SEVERAL, me)
        if not isinstance(index, slice):
            self.who[index[self.who[index] != me]] = SEVERAL
        self.when[index] = when
        low, high = _ends(index)
        self.low, self.high = min(self.low, low), max(self.high, high)


def _place(region: Region, offset: Array) -> Array | slice:
    """Which elements stand at byte offsets within a region's bounds."""
    return elements_at(offset - region.first, region.dtype.itemsize)


def _ends(index: Array | slice) -> tuple[int, int]:
    if isinstance(index, slice):
        return index.start, index.stop - 1
    return int(index.min()), int(index.max())


class _Shadow:
    """Who last wrote, read and atomically updated each element of one region in one launch; None: nobody."""

    __slots__ = ("count", "read", "updated", "written")

    def __init__(self, count: int) -> None:
        self.count = count
        self.written = _Last(count)
        self.read: _Last | None = None
        self.updated: _Last | None = None


@dataclass(frozen=True)
class Conflict:
    """Lanes of an access that race with an earlier one: which, the other site, and one of its programs (from 0)."""

    lanes: Array
    other: Site
    program: int | None


class Races:
    """Watches the regions that a launch writes."""

    def __init__(self, ordering: Ordering) -> None:
        self.ordering = ordering
        self._shadows: dict[str, _Shadow] = {}
        self._sites: list[Site | None] = [None]

    def read(self, site: Site, region: Region, offset: Array, programs: Array) -> list[Conflict]:
        """Note a read of the elements at byte offsets by programs (from 0, of the whole grid), flat and of one length.

        Returns the conflicts with earlier writes.
        """
        shadow, when = self._begin(site, region)
        index, me = _place(region, offset), (programs + 1).astype(np.int32)
        found = self._conflicts(shadow.written, index, me) if shadow.written.knows(index) else []
        found += self._with_atomics(shadow, index, me)
        if shadow.read is None:
            shadow.read = _Last(shadow.count)
        others = self._beside(shadow.read, index, me) if shadow.read.knows(index) else None
        shadow.read.note(index, me, when, others)
        return found

    def write(
        self, site: Site, region: Region, offset: Array, programs: Array, changed: Callable[[], Array]
    ) -> list[Conflict]:
        """As `read`, for a write; `changed()` says which lanes write something else than what was there, bool."""
        shadow, when = self._begin(site, region)
        index, me = _place(region, offset), (programs + 1).astype(np.int32)
        found: list[Conflict] = []
        new: Array | None = None
        shared = None
        if shadow.written.knows(index):
            new = changed()
            found += self._conflicts(shadow.written, index, me, new)
            shared = self._beside(shadow.written, index, me) & ~new
        if shadow.read is not None and shadow.read.knows(index):
            new = changed() if new is None else new
            # What all have read and all overwrite alike, each of them reads anew.
            found += self._conflicts(shadow.read, index, np.where(me < 0, me - 1, me), new)
        found += self._with_atomics(shadow, index, me)
        shadow.written.note(index, me, when, shared)
        return found

    def update(self, site: Site, region: Region, offset: Array, programs: Array) -> list[Conflict]:
        """As `read`, for an atomic: it races with plain accesses alone."""
        shadow, when = self._begin(site, region)
        index, me = _place(region, offset), (programs + 1).astype(np.int32)
        found: list[Conflict] = []
        for last in (shadow.written, shadow.read):
            if last is not None and last.knows(index):
                found += self._conflicts(last, index, me, np.ones(len(me), bool))
        if shadow.updated is None:
            shadow.updated = _Last(shadow.count)
        shadow.updated.note(index, me, when, self._beside(shadow.updated, index, me))
        return found

    def _beside(self, last: _Last, index: Array | slice, me: Array) -> Array:
        """Lanes whose element another program accessed, not ordered before: what one of them does, the other did not
        see. One that happened before needs no remembering, for what is ordered after me is ordered after it.
        """
        other, when = last.who[index], last.when[index]
        lanes = (other != 0) & (other != me)
        if lanes.any() and self.ordering.used:
            chosen = np.flatnonzero(lanes)
            lanes[chosen] = ~self.ordering.ordered(other[chosen] - 1, when[chosen], me[chosen] - 1)
        return lanes

    def _with_atomics(self, shadow: _Shadow, index: Array | slice, me: Array) -> list[Conflict]:
        if shadow.updated is None or not shadow.updated.knows(index):
            return []
        return self._conflicts(shadow.updated, index, me, np.ones(len(me), bool))

    def _begin(self, site: Site, region: Region) -> tuple[_Shadow, int]:
        shadow = self._shadows.get(region.name)
        if shadow is None:
            shadow = self._shadows[region.name] = _Shadow((region.last - region.first) // region.dtype.itemsize)
        self._sites.append(site)
        self.ordering.now = len(self._sites) - 1
        return shadow, self.ordering.now

    def _conflicts(self, last: _Last, index: Array | slice, me: Array, only: Array | None = None) -> list[Conflict]:
        other = last.who[index]
        lanes = (other != 0) & (other != me)
        if only is not None:
            lanes &= only
        else:
            # A read of a value that several programs wrote alike: the reader may be one of them.
            lanes &= other != SEVERAL
        if not lanes.any():
            return []
        chosen = np.flatnonzero(lanes)
        times = last.when[index][chosen]
        free = ~self.ordering.ordered(other[chosen] - 1, times, me[chosen] - 1)
        found = []
        for time in np.unique(times[free]).tolist():
            site = self._sites[time]
            assert site is not None
            mine = chosen[free & (times == time)]
            first = int(other[mine[0]])
            mask = np.zeros(len(me), bool)
            mask[mine] = True
            found.append(Conflict(mask, site, None if first == SEVERAL else first - 1))
        return found
