"""What a run did wrong, or read without knowing what: one incident per kind, site and region, however many lanes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..memory import Region
from ..ttir import Location, Operation
from .coverage import SiteCoverage
from .elements import Array, Element

#: Programs that an incident lists; more are counted, not named.
_PROGRAMS_LISTED = 64


@dataclass(eq=False, slots=True)
class Site:
    """An operation that touches memory, as it stands in one compiled kernel. Its identity names it in a poison."""

    kernel: str
    operation: Operation
    element: Element

    @property
    def location(self) -> Location:
        return self.operation.location


class HangError(Exception):
    """A loop of the kernel does not end; the launch was given up: `at_limit` where it might have got somewhere yet."""

    def __init__(
        self, location: Location, why: str, programs: list[tuple[int, int, int]], at_limit: bool = False
    ) -> None:
        super().__init__(f"{why}, at {location}")
        self.location, self.why, self.programs, self.at_limit = location, why, programs, at_limit


@dataclass(slots=True)
class Incident:
    """Lanes of one site that did one kind of thing to one region.

    `low` and `high` are byte offsets from the tensor's first element: the first byte touched, and the last; machine
    addresses when `region` is None (a pointer into nothing), and None when no address is to blame. `program_ids` count
    along x first. `against` is the other side of a race: its site, and the id of its program where it was one.
    """

    kind: str
    site: Site
    region: Region | None
    lanes: int = 0
    low: int | None = None
    high: int | None = None
    grid: tuple[int, int, int] = (1, 1, 1)
    program_ids: set[int] = field(default_factory=set)
    against: tuple[Site, int | None] | None = None

    @property
    def programs(self) -> list[tuple[int, int, int]]:
        """The first programs, at most 64, in order of launch."""
        return [self.coordinates(i) for i in sorted(self.program_ids)[:_PROGRAMS_LISTED]]

    def coordinates(self, program_id: int) -> tuple[int, int, int]:
        """(x, y, z) of a program."""
        x, y, _ = self.grid
        return program_id % x, program_id // x % y, program_id // (x * y)


class Trace:
    """The incidents and the coverage of one run of a case, over all its launches. `ordered` says whether atomics order
    some of its programs, `retried` whether some had to take their turns in another way, for they waited.
    """

    def __init__(self) -> None:
        self.incidents: dict[tuple[str, Site, str, Site | None], Incident] = {}
        self.coverage: dict[Site, SiteCoverage] = {}
        self.ordered = self.retried = False
        self._other: dict[Any, Incident] = {}

    def add(
        self, kind: str, site: Site, region: Region | None, offsets: Array | None, programs: Array, grid: Any,
        against: tuple[Site, int | None] | None = None,
    ) -> None:  # fmt: skip
        """Count lanes. `offsets` are bytes from the start of the storage, `programs` linear ids of the same length."""
        key = (kind, site, region.name if region is not None else "", against[0] if against is not None else None)
        incident = self.incidents.get(key)
        if incident is None:
            incident = self.incidents[key] = Incident(kind, site, region, grid=grid, against=against)
        incident.lanes += len(programs)
        if offsets is not None:
            base = region.base if region is not None else 0
            low, high = int(offsets.min()) - base, int(offsets.max()) - base + site.element.width - 1
            incident.low = low if incident.low is None else min(incident.low, low)
            incident.high = high if incident.high is None else max(incident.high, high)
        incident.program_ids.update(np.unique(programs).tolist())

    def snapshot(self) -> dict[Any, Incident]:
        """The incidents so far, to go back to."""
        return _copied(self.incidents)

    def retry(self, snapshot: dict[Any, Incident]) -> None:
        """Go back to a snapshot: a launch begins again. What it did wrong by itself, on its way to where it waited, it
        may do on another device: `settle` adds it. A race may have been one with what comes in order otherwise.
        """
        self._other |= {key: seen for key, seen in self.incidents.items() if seen.kind not in ("race", "input-write")}
        self.incidents = _copied(snapshot)
        self.retried = True

    def settle(self) -> None:
        """The launch is at its end: what it did on other ways there, and not on this one, counts too."""
        self.incidents = self._other | self.incidents
        self._other = {}

    def of_kind(self, *kinds: str) -> list[Incident]:
        return [incident for incident in self.incidents.values() if incident.kind in kinds]


def _copied(incidents: dict[Any, Incident]) -> dict[Any, Incident]:
    return {key: replace(seen, program_ids=set(seen.program_ids)) for key, seen in incidents.items()}
