"""What a run tried: for each load and store, whether its mask was seen with all, some and no lanes on, and its reach.

Bugs of bounds hide where a mask never did anything. A clean run is evidence only for what it exercised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .elements import Array


@dataclass(slots=True)
class SiteCoverage:
    """How one site was seen, over programs and iterations.

    `everything`, `partly`, `nothing`: a program with all, some, no lanes on. `last`: an access to the tensor's last
    element. `overshoot`: bytes by which a lane, masked or not, pointed beyond the tensor's end at most.
    """

    masked: bool
    everything: bool = False
    partly: bool = False
    nothing: bool = False
    last: bool = False
    overshoot: int = 0

    @property
    def exercised(self) -> bool:
        """Whether the mask made a difference between lanes, or between programs."""
        return self.partly or (self.everything and self.nothing)

    def see(self, mask: Array, active: Array | None) -> None:
        """Take in a mask [programs, ...] of the active programs, as long as it can tell something new."""
        if self.everything and self.partly and self.nothing:
            return
        if active is not None:
            mask = np.broadcast_to(mask, (len(active), *mask.shape[1:]))[active]
        lanes = mask.reshape(mask.shape[0], -1)
        full, some = lanes.all(axis=1), lanes.any(axis=1)
        self.everything = self.everything or bool(full.any())
        self.nothing = self.nothing or not bool(some.all())
        self.partly = self.partly or bool((some & ~full).any())

    def merge(self, other: SiteCoverage) -> None:
        """Take in what another run, or another specialisation of the kernel, saw."""
        self.masked |= other.masked
        self.everything |= other.everything
        self.partly |= other.partly
        self.nothing |= other.nothing
        self.last |= other.last
        self.overshoot = max(self.overshoot, other.overshoot)
