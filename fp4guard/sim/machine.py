"""The state of one launch while it runs: slots, the program mask, memory, poison."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..memory import Memory, Region
from .addresses import REGION_SHIFT, base_address
from .elements import Array
from .trace import Site, Trace


class Machine:
    """`slots[value.index]` is the value, as an array that broadcasts to [programs, *shape].

    The leading axis is the batch of programs at hand; a value that is the same for all of them has size 1 there, and
    a value that is the same along a dimension may have size 1 in it. `active` bool [programs] masks programs that a
    divergent branch has switched off; None means all run.
    """

    __slots__ = ("active", "grid", "memory", "programs", "slots", "trace")

    def __init__(self, memory: Memory, trace: Trace, grid: tuple[int, int, int], slot_count: int) -> None:
        self.memory, self.trace, self.grid = memory, trace, grid
        self.slots: list[Any] = [None] * slot_count
        self.programs: Array = np.zeros(0, np.int64)
        self.active: Array | None = None

    def region(self, number: int) -> Region | None:
        """The region of that number, from 1; None when a pointer names no region."""
        return self.memory.regions[number - 1] if 0 < number <= len(self.memory.regions) else None

    def region_at(self, address: Array) -> tuple[Region | None, int]:
        """The region of an array's first address, and the address of its storage's start."""
        number = int(address.flat[0]) >> REGION_SHIFT
        return self.region(number), base_address(number)

    def poison(self, site: Site) -> Array:
        """One undefined value of the site's element, shape ()."""
        element = site.element
        raw = np.frombuffer(self.memory.poison.lane(site, element.torch_dtype), f"u{element.width}")
        return element.load(raw)[0]  # type: ignore[no-any-return]

    def report(self, kind: str, site: Site, region: Region | None, offsets: Array | None, programs: Array) -> None:
        """Note an incident; `programs` index the batch."""
        self.trace.add(kind, site, region, offsets, self.programs[programs], self.grid)

    def spread(self, mask: Array, rank: int) -> Array:
        """A per-program mask, shaped to broadcast against values of that rank (programs axis included)."""
        return mask.reshape(mask.shape[:1] + (1,) * (rank - 1))
