"""The tensor data mover of gfx1250: descriptors that are moved, copies of the block where they stand, its barriers.

A descriptor that is moved keeps its bounds unless it is told to clamp them: what then lies within the bounds and not
within the tensor is accessed, and found. One whose predicate is 0 copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...ttir import Operation
from .. import access, shared
from ..elements import Array, element_of
from ..machine import Machine
from ..shared import Shared
from ..trace import Site
from .descriptors import BlockAccess, block_of, together
from .tma import predicated
from .undefined import Effect

#: In the last column of a descriptor, where others say what padding is: it copies nothing. AMD's pads with zeros only.
_OFF = 2


def _update(op: Operation) -> Callable[..., Any]:
    """`%desc add_offsets = [...] set_bounds = [...] pred = %p {clamp_bounds}`."""
    block = block_of(op.operands[0].type)[0]
    rank, width = len(block.shape), element_of(block).width
    roles, clamps = op.attributes["roles"][1:], op.attributes.get("clamp_bounds", False)

    def apply(m: Machine, site: Site, descriptor: Array, *fields: Array) -> Array:
        programs = max(map(len, (descriptor, *fields)))
        moved = np.array(np.broadcast_to(descriptor, (programs, descriptor.shape[1])))
        seen = {"add_offsets": 0, "set_bounds": 0}
        for role, value in zip(roles, fields):
            value = value.astype(np.int64)
            if role == "pred":
                moved[:, -1] = np.where(value == 0, _OFF, 0)
                continue
            dim = seen[role]
            seen[role] += 1
            if role == "set_bounds":
                moved[:, 1 + dim] = value
                continue
            moved[:, 0] += value * moved[:, 1 + rank + dim] * width
            if clamps:
                moved[:, 1 + dim] = np.maximum(moved[:, 1 + dim] - value, 0)
        return moved

    return apply


def _place(block: BlockAccess, descriptor: Array) -> tuple[Array, Array]:
    return block.lanes(descriptor, block.box([np.zeros(1, np.int64)] * len(block.type.shape)))


def _load(op: Operation) -> Callable[..., Any]:
    """`%desc into %shared`."""
    block, target = BlockAccess(op.operands[0].type), op.operands[1].type.shape

    def apply(m: Machine, site: Site, descriptor: Array, view: Shared) -> None:
        def copy() -> None:
            address, inside = np.broadcast_arrays(*_place(block, descriptor))
            value = access.load(m, site, address, inside, np.zeros((), block.element.held))
            shared.store(m, site, view, value.reshape(len(value), *target), block.element)

        predicated(m, descriptor[:, -1] != _OFF, copy)

    return apply


def _store(op: Operation) -> Callable[..., Any]:
    """`%desc from %shared`."""
    block = BlockAccess(op.operands[0].type)

    def apply(m: Machine, site: Site, descriptor: Array, view: Shared) -> None:
        def copy() -> None:
            value = shared.load(m, site, view)
            address, inside = _place(block, descriptor)
            access.store(m, site, *together(address, value.reshape(len(value), *block.type.shape), inside))

        predicated(m, descriptor[:, -1] != _OFF, copy)

    return apply


def _arrive(op: Operation) -> Callable[..., Any]:
    """On a barrier, which is nothing to do. The phase that it gives is not known."""
    if op.attributes.get("used", True):
        raise UnsupportedError(f"{op.name} whose result is used", op.location)
    return lambda m, site, barrier: None


EFFECTS: dict[str, Effect] = {
    "amdg.arrive_barrier": _arrive,
    "amdg.async_tdm_copy_global_to_local": _load,
    "amdg.async_tdm_copy_local_to_global": _store,
    "amdg.update_tensor_descriptor": _update,
}
