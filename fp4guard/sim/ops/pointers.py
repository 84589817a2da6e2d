"""Pointers as integers: tt.int_to_ptr and tt.ptr_to_int.

A pointer's integer is the simulator's own address (see `addresses`). A smaller integer is a machine address, which code
on the host made with `data_ptr()`, in a table of pointers say: it is looked up in the memory. One that is in no region
stays as it is, and an access through it is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...memory import Region
from ...ttir import Operation
from ..addresses import REGION_SHIFT, base_address
from ..elements import Array
from ..machine import Machine
from ..trace import Site
from .undefined import Effect


def _int_to_ptr(op: Operation) -> Callable[..., Any]:
    def apply(m: Machine, site: Site, number: Array) -> Array:
        number = number.astype(np.int64)
        machine = (number > 0) & (number >> REGION_SHIFT == 0)
        if not machine.any():
            return number
        found, places = np.unique(number[machine], return_inverse=True)
        result = number.copy()
        result[machine] = _translated(m, found.tolist())[places.reshape(-1)]
        return result

    return apply


def _translated(m: Machine, addresses: list[int]) -> Array:
    """Pointers of machine addresses; those that are in no tensor stay as they are."""
    return np.array([_pointer(address, m.memory.pointed_to(address, m.alive)) for address in addresses], np.int64)


def _pointer(address: int, region: Region | None) -> int:
    return address if region is None else base_address(region.number) + address - region.address


EFFECTS: dict[str, Effect] = {
    "tt.int_to_ptr": _int_to_ptr,
    "tt.ptr_to_int": lambda op: lambda m, site, address: address,
}
