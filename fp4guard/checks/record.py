"""What one run of a case left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..memory import DEFINED, Memory, Poison
from ..sim import Incident, Trace

#: Kinds of incidents that say where a kernel went.
ADDRESS_KINDS = ("int-overflow", "oob-write", "oob-read", "race")

#: Kinds that are findings whatever comes of them.
CERTAIN = (*ADDRESS_KINDS, "assert-failed")

#: Kinds that matter only when what they left undefined reaches an output, an address or a branch.
NEEDS_EFFECT = ("uninitialized-read", "undefined-lane", "undefined-value")


@dataclass(frozen=True)
class Checked:
    """A tensor that the target answers for, after the run: outputs, and whatever was given to `mem.expect`.

    `region` is the name of the region it lies in. `bits` are unsigned integers of the element's width [*shape];
    `unwritten` bool [*shape] are elements to which nothing defined was written, though they have to be. `left_open`
    has the bits set, as `bits` has them, that the expectation allows to be anything; None: there are none.
    """

    region: str
    dtype: torch.dtype
    bits: np.ndarray[Any, Any]
    unwritten: np.ndarray[Any, Any]
    left_open: np.ndarray[Any, Any] | None = None

    def differs(self, other: Checked) -> np.ndarray[Any, Any]:
        """Bool [*shape]: elements whose bits, as far as they matter, are not those of another run."""
        different = self.bits ^ other.bits
        return np.asarray((different if self.left_open is None else different & ~self.left_open) != 0)


@dataclass(frozen=True)
class Record:
    """One run: its poison, its memory as it was left, the simulator's trace, and an exception of the target's own."""

    poison: Poison
    memory: Memory
    trace: Trace
    checked: Mapping[str, Checked]
    expectations: Mapping[str, Any] = field(default_factory=dict)
    originals: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    error: BaseException | None = None

    def outcome(self) -> dict[tuple[str, str, str], tuple[int, int | None, int | None]]:
        """Where the kernel went that it should not have: differs between runs when poison became an address.

        Races are left out: whether two programs write the same value is a matter of values.
        """
        return {
            (i.kind, str(i.site.location), i.region.name if i.region else ""): (i.lanes, i.low, i.high)
            for i in self.trace.of_kind(*ADDRESS_KINDS)
            if i.kind != "race"
        }


def check_tensor(
    memory: Memory, name: str, tensor: torch.Tensor, left_open: Mapping[str, np.ndarray[Any, Any]] | None = None
) -> Checked:
    """Copy a tensor's bits and shadow; `name` is for the region of one that is not guarded.

    `left_open` has, by the region's name, the bits of its storage that may be anything.
    """
    region = memory.region_of(tensor, name)
    size = tensor.dtype.itemsize
    raw = np.ascontiguousarray(region.select(tensor, region.storage))
    bits = raw.view(f"u{size}").reshape(tuple(tensor.shape))
    missing = np.broadcast_to(np.False_, raw.shape)
    if not region.sealed:
        missing = region.select(tensor, region.shadow) != DEFINED
    if left_open is None or region.name not in left_open:
        return Checked(region.name, tensor.dtype, bits, np.asarray(missing.any(axis=-1)))
    free = np.ascontiguousarray(region.select(tensor, left_open[region.name]))
    open_bits = free.view(f"u{size}").reshape(tuple(tensor.shape))
    return Checked(region.name, tensor.dtype, bits, np.asarray((missing & (free != 0xFF)).any(axis=-1)), open_bits)


def differing(first: Record, second: Record) -> dict[str, np.ndarray[Any, Any]]:
    """Per checked tensor, bool [*shape]: elements whose bits differ. Tensors of different shapes differ wholly."""
    found = {}
    for name, one in first.checked.items():
        other = second.checked.get(name)
        if other is None or other.bits.shape != one.bits.shape:
            found[name] = np.ones(one.bits.shape, bool)
        elif (different := one.differs(other)).any():
            found[name] = different
    return found


def sides(incident: Incident) -> tuple[str, frozenset[Any]]:
    """What it is, and the operation; of a race the two, whichever comes first."""
    other = None if incident.against is None else incident.against[0]
    return incident.kind, frozenset((incident.site, other))


def suspicious(*records: Record) -> list[Incident]:
    """Incidents whose site left something undefined, each site once."""
    sites: dict[Any, Incident] = {}
    for record in records:
        for incident in record.trace.of_kind("uninitialized-read", "undefined-lane", "undefined-value", "oob-read"):
            sites.setdefault((incident.site, incident.kind), incident)
    return list(sites.values())
