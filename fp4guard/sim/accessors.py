"""Who accessed each element of a region: who did last, and, where atomics order programs, each who did and when."""

from __future__ import annotations

import numpy as np

from ..memory.region import zeros
from .elements import Array

#: In the place of a program, which count from 1: more than one. 0 is nobody.
SEVERAL = -1

#: Accesses that are kept as they come, until they are put in order.
_FRESH = 1 << 20


class Accessors:
    """Of one kind of access: per element, `who` did it last, and `when`; those outside of `low` to `high`, no one has.

    `history`, where it is kept, knows who stands behind SEVERAL.
    """

    __slots__ = ("_count", "_remembering", "high", "history", "low", "when", "who")

    def __init__(self, count: int, remembering: bool) -> None:
        self._count, self._remembering = count, remembering
        self.who = self.when = np.zeros(0, np.int32)
        self.low, self.high = count, -1
        self.history: History | None = None

    def knows(self, index: Array | slice) -> bool:
        """Whether any of the elements may have been accessed."""
        low, high = _ends(index)
        return low <= self.high and high >= self.low

    def beside(self, index: Array | slice, me: Array) -> Array | None:
        """Lanes whose element another program has accessed."""
        if not self.knows(index):
            return None
        other = self.who[index]
        return (other != 0) & (other != me)

    def note(self, index: Array | slice, me: Array, when: int, shared: Array | None) -> None:
        """`shared` marks lanes whose element others accessed too, beside those where lanes of this access meet."""
        if self.high < 0:  # the first of its kind, which few regions ever see
            self.who, self.when = (zeros(4 * self._count).view(np.int32) for _ in range(2))
            self.history = History(self._count) if self._remembering else None
        self.who[index] = me if shared is None else np.where(shared, SEVERAL, me)
        if not isinstance(index, slice):
            self.who[index[self.who[index] != me]] = SEVERAL
        self.when[index] = when
        low, high = _ends(index)
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.history is not None:
            self.history.note(_each(index), me, when, shared)


class History:
    """Every program that accessed an element since one did so alone, with the number of its latest access.

    A table sorted by element and program, and behind it what has come since it was sorted.
    """

    __slots__ = ("_element", "_fresh", "_program", "_since", "_size", "_when")

    def __init__(self, count: int) -> None:
        self._since = zeros(4 * count).view(np.int32)
        self._element, self._program, self._when = (np.zeros(0, np.int64) for _ in range(3))
        self._fresh: list[tuple[Array, Array, Array]] = []
        self._size = 0

    def note(self, elements: Array, me: Array, when: int, shared: Array | None) -> None:
        """As `Accessors.note`."""
        before = self._since[elements]
        self._since[elements] = when
        if shared is not None:
            self._since[elements[shared]] = before[shared]
        self._fresh.append((elements, me, np.full(len(elements), when)))
        self._size += len(elements)
        if self._size > _FRESH:
            self._settle()

    def members(self, elements: Array) -> tuple[Array, Array, Array]:
        """Who accessed them: which of the `elements`, the program, and when; those of one element in a row."""
        self._settle()
        first, behind = (np.searchsorted(self._element, elements, side) for side in ("left", "right"))
        counts = behind - first
        lane = np.repeat(np.arange(len(elements)), counts)
        place = np.arange(len(lane)) - np.repeat(np.cumsum(counts) - counts - first, counts)
        return lane, self._program[place], self._when[place]

    def _settle(self) -> None:
        if not self._fresh:
            return
        parts = [(self._element, self._program, self._when), *self._fresh]
        element, program, when = (np.concatenate(column) for column in zip(*parts))
        self._fresh, self._size = [], 0
        current = when >= self._since[element]
        element, program, when = element[current], program[current], when[current]
        order = np.lexsort((when, program, element))
        element, program, when = element[order], program[order], when[order]
        latest = np.append((element[1:] != element[:-1]) | (program[1:] != program[:-1]), True)
        self._element, self._program, self._when = element[latest], program[latest], when[latest]


def _ends(index: Array | slice) -> tuple[int, int]:
    if isinstance(index, slice):
        return index.start, index.stop - 1
    return int(index.min()), int(index.max())


def _each(index: Array | slice) -> Array:
    return np.arange(index.start, index.stop) if isinstance(index, slice) else index
