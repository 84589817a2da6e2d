"""Operations that see the machine: program ids, loads and stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...ttir import Operation
from .. import access
from ..elements import Array
from ..machine import Machine
from ..trace import Site

Effect = Callable[[Operation], Callable[..., Any]]

_AXES = {"x": 0, "y": 1, "z": 2}


def _program_id(op: Operation) -> Callable[..., Any]:
    axis = _AXES[op.words[0]]

    def apply(m: Machine, site: Site) -> Array:
        if m.grid[axis] == 1:
            return np.zeros(1, np.int32)
        below = int(np.prod(m.grid[:axis]))
        return (m.programs // below % m.grid[axis]).astype(np.int32)

    return apply


def _num_programs(op: Operation) -> Callable[..., Any]:
    axis = _AXES[op.words[0]]
    return lambda m, site: np.array([m.grid[axis]], np.int32)


def _refuse_block_pointer(op: Operation) -> None:
    if op.operands[0].type.element != "ptr":
        raise UnsupportedError(f"{op.name} through {op.operands[0].type}", op.location)


def _load(op: Operation) -> Callable[..., Any]:
    _refuse_block_pointer(op)

    def apply(m: Machine, site: Site, address: Array, mask: Array | None = None, other: Array | None = None) -> Array:
        return access.load(m, site, address, mask, other)

    return apply


def _store(op: Operation) -> Callable[..., Any]:
    _refuse_block_pointer(op)

    def apply(m: Machine, site: Site, address: Array, value: Array, mask: Array | None = None) -> None:
        access.store(m, site, address, value, mask)

    return apply


EFFECTS: dict[str, Effect] = {
    "tt.get_program_id": _program_id,
    "tt.get_num_programs": _num_programs,
    "tt.load": _load,
    "tt.store": _store,
    "amdg.buffer_load": _load,
    "amdg.buffer_store": _store,
    # What is left of the copies to and from shared memory: see `ttir.expand`.
    "amdg.async_copy_local_to_global": _store,
    "amdg.buffer_load_to_local": _load,
    "ttg.async_copy_global_to_local": _load,
}
