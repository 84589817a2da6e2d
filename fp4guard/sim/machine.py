"""The state of one launch while it runs: slots, the program mask, memory, poison."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..memory import Memory, Region, Storages
from .addresses import REGION_SHIFT, base_address
from .coverage import SiteCoverage
from .elements import Array, Element
from .races import Races
from .trace import Site, Trace


class Machine:
    """`slots[value.index]` is the value, as an array that broadcasts to [programs, *shape].

    The leading axis is the batch of programs at hand; a value that is the same for all of them has size 1 there, and
    a value that is the same along a dimension may have size 1 in it. `active` bool [programs] masks programs that a
    divergent branch has switched off; None means all run. `races` is None in a launch of one program; `watched` names
    the regions that the launch writes, None when that cannot be told. `writes` counts stores that have been executed;
    while `comparing`, those that have changed anything. A `while` of more than `most_trips` iterations is taken for
    one that does not end. `alive` are the tensors that the launch may have the addresses of.
    """

    __slots__ = (
        "active", "alive", "comparing", "grid", "memory", "most_trips", "programs", "races", "slots", "trace",
        "watched", "writes",
    )  # fmt: skip

    def __init__(
        self, memory: Memory, trace: Trace, grid: tuple[int, int, int], slot_count: int, most_trips: int
    ) -> None:
        self.memory, self.trace, self.grid = memory, trace, grid
        self.slots: list[Any] = [None] * slot_count
        self.programs: Array = np.zeros(0, np.int64)
        self.active: Array | None = None
        self.races: Races | None = None
        self.watched: frozenset[str] | None = None
        self.writes, self.comparing = 0, False
        self.most_trips = most_trips
        self.alive = Storages()

    def watches(self, region: Region) -> bool:
        """Whether accesses to a region can race in this launch."""
        return self.races is not None and (self.watched is None or region.name in self.watched)

    def covering(self, site: Site, mask: Array | None) -> tuple[SiteCoverage, Array | None]:
        """The site's coverage, after taking in the mask of an access by the active programs, and the mask: None when
        all lanes are on.
        """
        seen = self.trace.coverage.get(site)
        if seen is None:
            seen = self.trace.coverage[site] = SiteCoverage(mask is not None)
        if mask is not None and mask.all():
            seen.everything, mask = True, None
        elif mask is not None:
            seen.see(mask, self.active)
        return seen, mask

    def region(self, number: int) -> Region | None:
        """The region of that number, from 1; None when a pointer names no region."""
        return self.memory.numbered(number)

    def region_at(self, address: Array) -> tuple[Region | None, int]:
        """The region of an array's first address, and the address of its storage's start."""
        number = int(address.flat[0]) >> REGION_SHIFT
        return self.region(number), base_address(number)

    def coordinates(self, mask: Array | None) -> list[tuple[int, int, int]]:
        """(x, y, z) of the first programs of the batch that a mask leaves on."""
        x, y, _ = self.grid
        ids = self.programs if mask is None else self.programs[mask]
        return [(i % x, i // x % y, i // (x * y)) for i in ids[:64].tolist()]

    def poison(self, site: Site, element: Element | None = None) -> Array:
        """One undefined value of the site's element, or of another, shape ()."""
        element = site.element if element is None else element
        raw = np.frombuffer(self.memory.poison.lane(site, element.torch_dtype), f"u{element.width}")
        return element.load(raw)[0]

    def report(
        self, kind: str, site: Site, region: Region | None, offsets: Array | None, programs: Array,
        against: tuple[Site, int | None] | None = None,
    ) -> None:  # fmt: skip
        """Note an incident; `programs` index the batch."""
        self.trace.add(kind, site, region, offsets, self.programs[programs], self.grid, against)

    def spread(self, mask: Array, rank: int) -> Array:
        """A per-program mask, shaped to broadcast against values of that rank (programs axis included)."""
        return mask.reshape(mask.shape[:1] + (1,) * (rank - 1))
