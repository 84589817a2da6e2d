"""Coverage of a search: what its runs tried, by place in the kernels' source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..sim import Site, SiteCoverage
from ..ttir import Location


class Coverage:
    """Coverage by place in the source: specialisations of a kernel share their lines."""

    def __init__(self) -> None:
        self.places: dict[tuple[Location, str], SiteCoverage] = {}

    def add(self, sites: Mapping[Site, SiteCoverage]) -> None:
        """Take in a run's."""
        for site, seen in sites.items():
            self._take((site.location, site.operation.name), seen)

    def merge(self, other: Coverage) -> None:
        """Take in what another case covered."""
        for place, seen in other.places.items():
            self._take(place, seen)

    def _take(self, place: tuple[Location, str], seen: SiteCoverage) -> None:
        if place in self.places:
            self.places[place].merge(seen)
        else:
            self.places[place] = replace(seen)

    @property
    def partial_masks(self) -> int:
        """How many masks were seen with some lanes on and some off: what a search should have more of."""
        return sum(seen.partly for seen in self.places.values())

    def masks(self) -> list[tuple[Location, SiteCoverage]]:
        """The places with a mask, in order of the source."""
        found = [(place, seen) for (place, _), seen in self.places.items() if seen.masked]
        return sorted(found, key=lambda item: (item[0].file, item[0].line, item[0].column))
