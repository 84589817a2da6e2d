"""Who accessed each element of a region: who did last, and, where atomics order programs, each who did and when."""

from __future__ import annotations

import numpy as np

from ..memory.region import zeros
from .elements import Array

#: In the place of a program, which count from 1: more than one. 0 is nobody.
SEVERAL = -1

#: Accesses that are kept as they come, at least, until they are put in order.
_FRESH = 1 << 20

#: Pairs of an element and a program that are remembered: with more, nobody is, which takes too much memory.
_MOST = 1 << 24

#: Of a program's number, below an element's.
_BITS = 28


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
            self.history.note(each(index), me, when, shared)


class History:
    """Every program that accessed an element since one did so alone, with the number of its latest access.

    A table sorted by element and program, and behind it what has come since it was sorted, in the order of time. `full`
    when it has grown too large: then it knows of nobody any more.
    """

    __slots__ = ("_fresh", "_key", "_since", "_size", "_when", "full")

    def __init__(self, count: int) -> None:
        self._since = zeros(4 * count).view(np.int32)
        self._key, self._when = np.zeros(0, np.int64), np.zeros(0, np.int32)  # element and program; their latest access
        self._fresh: list[tuple[Array, Array, int]] = []
        self._size = 0
        self.full = False

    def note(self, elements: Array, me: Array, when: int, shared: Array | None) -> None:
        """As `Accessors.note`."""
        if self.full:
            return
        if shared is not None:
            before = self._since[elements[shared]]
        self._since[elements] = when
        if shared is not None:
            self._since[elements[shared]] = before
        self._fresh.append((elements.astype(np.int32) if len(self._since) < 2**31 else elements, me, when))
        self._size += len(elements)
        if self._size > max(_FRESH, len(self._key)):
            self._settle()

    def knows(self, elements: Array, me: Array) -> Array:
        """Whether each of the elements was accessed by the program beside it."""
        self._settle()
        if not len(self._key):
            return np.zeros(len(elements), bool)
        key = elements.astype(np.int64) << _BITS | me
        place = np.minimum(np.searchsorted(self._key, key), len(self._key) - 1)
        known: Array = self._key[place] == key
        return known

    def members(self, elements: Array) -> tuple[Array, Array, Array]:
        """Who accessed them: which of the `elements`, the program, and when; those of one element in a row."""
        self._settle()
        first, behind = (np.searchsorted(self._key, elements.astype(np.int64) + more << _BITS) for more in (0, 1))
        counts = behind - first
        lane = np.repeat(np.arange(len(elements)), counts)
        place = np.arange(len(lane)) - np.repeat(np.cumsum(counts) - counts - first, counts)
        return lane, self._key[place] & (1 << _BITS) - 1, self._when[place]

    def _settle(self) -> None:
        if not self._fresh:
            return
        keys = [elements.astype(np.int64) << _BITS | me for elements, me, _ in self._fresh]
        times = [np.full(len(me), when, np.int32) for _, me, when in self._fresh]
        self._fresh, self._size = [], 0
        key, when = np.concatenate([self._key, *keys]), np.concatenate([self._when, *times])
        current = when >= self._since[key >> _BITS]
        if not current.all():
            key, when = key[current], when[current]
        order = np.argsort(key, kind="stable")
        key, when = key[order], when[order]
        latest = np.append(key[1:] != key[:-1], True)
        self._key, self._when = key[latest], when[latest]
        if len(self._key) > _MOST:
            self.full, self._key, self._when = True, self._key[:0], self._when[:0]


def _ends(index: Array | slice) -> tuple[int, int]:
    if isinstance(index, slice):
        return index.start, index.stop - 1
    return int(index.min()), int(index.max())


def each(index: Array | slice) -> Array:
    """The elements, one by one."""
    return np.arange(index.start, index.stop) if isinstance(index, slice) else index
