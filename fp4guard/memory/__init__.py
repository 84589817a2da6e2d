"""Guarded memory: regions, red zones, poison, layouts, and the interception of torch's allocations."""

from .alive import Storages
from .intercept import GuardAllocations
from .layouts import CONTIGUOUS, PLAIN, ROWS, STRIDED, Layout
from .memory import Memory, Snapshot
from .placement import unwatched
from .poison import ALL_ONES, EXTREMES, ORDINARY, SET_FLAG, Poison, mixed
from .region import ADDRESSABLE, DEFINED, INITIALISED, Region, Role

__all__ = [
    "ADDRESSABLE",
    "ALL_ONES",
    "CONTIGUOUS",
    "DEFINED",
    "EXTREMES",
    "INITIALISED",
    "ORDINARY",
    "PLAIN",
    "ROWS",
    "SET_FLAG",
    "STRIDED",
    "GuardAllocations",
    "Layout",
    "Memory",
    "Poison",
    "Region",
    "Role",
    "Snapshot",
    "Storages",
    "mixed",
    "unwatched",
]
