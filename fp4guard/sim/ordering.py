"""What atomics order: the happens-before relation of one launch, worked out only when a race depends on it.

A release in program p is seen by an acquire in program q on the same element when it comes before it there; what p did
until its release then happened before what q does from its acquire on. The simulator logs atomics, which costs next to
nothing, and replays the log with one clock per program (Lamport's, as vectors) when two accesses look like a race.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..memory import Region
from .elements import Array

#: Above so many logged lanes, or programs squared, the replay would cost more than the answer is worth: the accesses of
#: programs that use atomics then count as ordered.
_MOST_LANES, _MOST_CLOCKS = 200_000, 1 << 24

#: The semantics of atomics, as TTIR prints them, that do so.
RELEASES, ACQUIRES = ("release", "acq_rel"), ("acquire", "acq_rel")


@dataclass(frozen=True, slots=True)
class _Event:
    """One atomic operation: lanes in the order in which they take effect."""

    when: int
    region: str
    elements: Array
    programs: Array
    releases: bool
    acquires: bool


class Ordering:
    """The log of a launch's atomics. `now` is the number of the latest access of any kind."""

    def __init__(self, programs: int) -> None:
        self.programs = programs
        self.now = 0
        self._log: list[_Event] = []
        self._lanes = 0
        self._replayed = 0
        self._acquired = self._released_any = False
        self._seen: Array | None = None
        self._released: dict[tuple[str, int], Array] = {}

    @property
    def used(self) -> bool:
        """Whether a program acquired what another may have released: otherwise nothing is ordered."""
        return self._acquired and self._released_any

    def atomic(self, region: Region, elements: Array, programs: Array, semantics: str) -> None:
        """Log the lanes of an atomic, in order: element numbers and programs; `semantics` as TTIR prints it."""
        releases, acquires = semantics in RELEASES, semantics in ACQUIRES
        if releases or acquires:
            self._lanes += len(elements)
            self._acquired |= acquires
            self._released_any |= releases
            if self._too_long:
                self._log.clear()
            else:
                self._log.append(_Event(self.now, region.name, elements, programs, releases, acquires))

    @property
    def _too_long(self) -> bool:
        return self._lanes > _MOST_LANES or self.programs**2 > _MOST_CLOCKS

    def ordered(self, other: Array, when: Array, me: Array) -> Array:
        """Bool per lane: whether program `other`'s access number `when` happened before what program `me` does now."""
        if not self.used:
            return np.zeros(len(me), bool)
        if self._too_long:
            return np.ones(len(me), bool)
        known: Array = self._replay()[me, other] >= when
        return known

    def _replay(self) -> Array:
        """[q, p]: up to which access number program q knows all that program p did."""
        if self._seen is None:
            self._seen = np.full((self.programs, self.programs), -1, np.int32)
        seen = self._seen
        for event in self._log[self._replayed :]:
            for element, program in zip(event.elements.tolist(), event.programs.tolist()):
                place = (event.region, element)
                if event.acquires and place in self._released:
                    np.maximum(seen[program], self._released[place], out=seen[program])
                if event.releases:
                    mine = seen[program].copy()
                    mine[program] = event.when
                    old = self._released.get(place)
                    self._released[place] = mine if old is None else np.maximum(old, mine)
        self._replayed = len(self._log)
        return seen
