"""Races between the programs of one launch.

Programs run in any order. Two of them race when they touch the same element, one of them writes, and nothing orders
them: a write over another program's different value, a read of what another program wrote, a write of something new to
what another program has read. Equal values written twice are benign, atomics are exempt among themselves, and atomics
order what stands before them in one program and behind them in another (see `ordering`).

Per element of a region, the shadow keeps who wrote it last, who read it last, and when: programs count from 1, 0 is
nobody, and SEVERAL stands for more than one. `when` is the number of the access in the launch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..memory import Region
from .elements import Array
from .ordering import Ordering
from .trace import Site

SEVERAL = -1

#: As a program id: the access is one that all programs make alike.
EVERYONE = SEVERAL - 1


class _Shadow:
    """Last writers and readers of one region in one launch, by element."""

    __slots__ = ("read_when", "reader", "touched", "writer", "written_when")

    def __init__(self, count: int) -> None:
        self.writer = np.zeros(count, np.int32)
        self.reader = np.zeros(count, np.int32)
        self.written_when = np.zeros(count, np.int32)
        self.read_when = np.zeros(count, np.int32)
        self.touched = False


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
        index, me = self._place(region, offset), (programs + 1).astype(np.int32)
        found = self._conflicts(shadow.writer, shadow.written_when, index, me) if shadow.touched else []
        before = shadow.reader[index]
        shadow.reader[index] = np.where((before == 0) | (before == me), me, SEVERAL)
        shadow.reader[index[shadow.reader[index] != me]] = SEVERAL
        shadow.read_when[index] = when
        shadow.touched = True
        return found

    def write(self, site: Site, region: Region, offset: Array, programs: Array, changed: Array) -> list[Conflict]:
        """As `read`, for a write; `changed` bool says which lanes write something else than what was there."""
        shadow, when = self._begin(site, region)
        index, me = self._place(region, offset), (programs + 1).astype(np.int32)
        found: list[Conflict] = []
        shared = None
        if shadow.touched:
            found += self._conflicts(shadow.writer, shadow.written_when, index, me, changed)
            # What all have read and all overwrite alike, each of them reads anew.
            found += self._conflicts(shadow.reader, shadow.read_when, index, np.where(me < 0, me - 1, me), changed)
            before = shadow.writer[index]
            shared = (before != 0) & (before != me) & ~changed
        shadow.writer[index] = me
        twice = shadow.writer[index] != me
        shadow.writer[index[twice if shared is None else twice | shared]] = SEVERAL
        shadow.written_when[index] = when
        shadow.touched = True
        return found

    def _begin(self, site: Site, region: Region) -> tuple[_Shadow, int]:
        shadow = self._shadows.get(region.name)
        if shadow is None:
            shadow = self._shadows[region.name] = _Shadow(len(region.storage) // region.dtype.itemsize + 1)
        self._sites.append(site)
        self.ordering.now = len(self._sites) - 1
        return shadow, self.ordering.now

    @staticmethod
    def _place(region: Region, offset: Array) -> Array:
        return offset // region.dtype.itemsize

    def _conflicts(
        self, who: Array, when: Array, index: Array, me: Array, only: Array | None = None
    ) -> list[Conflict]:
        other = who[index]
        lanes = (other != 0) & (other != me)
        if only is not None:
            lanes &= only
        else:
            # A read of a value that several programs wrote alike: the reader may be one of them.
            lanes &= other != SEVERAL
        if not lanes.any():
            return []
        chosen = np.flatnonzero(lanes)
        times = when[index[chosen]]
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

