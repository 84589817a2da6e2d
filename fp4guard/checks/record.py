"""What one run of a case left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..memory import DEFINED, Memory, Poison
from ..sim import Incident, Trace

#: Kinds of incidents that are findings whatever they do to the outputs.
ADDRESS_KINDS = ("int-overflow", "oob-write", "oob-read", "race")


@dataclass(frozen=True)
class Checked:
    """A tensor that the target answers for, after the run: outputs, and whatever was given to `mem.expect`.

    `region` is the name of the region it lies in. `bits` are unsigned integers of the element's width [*shape];
    `unwritten` bool [*shape] are elements to which nothing defined was written.
    """

    region: str
    dtype: torch.dtype
    bits: np.ndarray[Any, Any]
    unwritten: np.ndarray[Any, Any]


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
        """What the kernel did to memory that it should not have: differs between runs when poison became an address."""
        return {
            (i.kind, str(i.site.location), i.region.name if i.region else ""): (i.lanes, i.low, i.high)
            for i in self.trace.of_kind(*ADDRESS_KINDS)
        }


def check_tensor(memory: Memory, name: str, tensor: torch.Tensor) -> Checked:
    """Copy a tensor's bits and shadow; `name` is for the region of one that is not guarded."""
    region = memory.region_of(tensor, name)
    size = tensor.dtype.itemsize
    raw = np.ascontiguousarray(region.select(tensor, region.storage))
    bits = raw.view(f"u{size}").reshape(tuple(tensor.shape))
    if region.sealed:
        unwritten = np.zeros(tuple(tensor.shape), bool)
    else:
        unwritten = (region.select(tensor, region.shadow) != DEFINED).any(axis=-1)
    return Checked(region.name, tensor.dtype, bits, unwritten)


def differing(first: Record, second: Record) -> dict[str, np.ndarray[Any, Any]]:
    """Per checked tensor, bool [*shape]: elements whose bits differ. Tensors of different shapes differ wholly."""
    found = {}
    for name, one in first.checked.items():
        other = second.checked.get(name)
        if other is None or other.bits.shape != one.bits.shape:
            found[name] = np.ones(one.bits.shape, bool)
        elif (different := one.bits != other.bits).any():
            found[name] = different
    return found


def suspicious(*records: Record) -> list[Incident]:
    """Incidents whose site left something undefined, each site once."""
    sites: dict[Any, Incident] = {}
    for record in records:
        for incident in record.trace.of_kind("uninitialized-read", "undefined-lane", "undefined-value", "oob-read"):
            sites.setdefault((incident.site, incident.kind), incident)
    return list(sites.values())
