"""Blackwell's tensor memory, which is shared memory of another kind here, and the products that accumulate in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...ttir import Operation, Type, Value
from .. import shared
from ..elements import Array, element_of
from ..machine import Machine
from ..shared import Shared
from ..trace import Site
from . import dot, dot_scaled
from .shared import EFFECTS as SHARED
from .shared import changed
from .tma import predicated
from .undefined import Effect


def _load(op: Operation) -> Callable[..., Any]:
    if len(op.results) > 1:
        raise UnsupportedError(f"{op.name} with a reduction", op.location)
    return SHARED["ttg.local_load"](op)


def _store(op: Operation) -> Callable[..., Any]:
    """`%value, %memory, %predicate`."""

    def apply(m: Machine, site: Site, value: Array, view: Shared, predicate: Array) -> None:
        predicated(m, predicate, lambda: shared.store(m, site, view, value, site.element))

    return apply


def _subslice(op: Operation) -> Callable[..., Any]:
    """Columns, from one on."""
    start = int(op.attributes["offset" if "offset" in op.attributes else "N"])
    end = start + op.result.type.shape[-1]
    if not 0 <= start <= end <= op.operands[0].type.shape[-1]:
        raise UnsupportedError(f"{op.name} of columns {start} to {end}", op.location)
    return changed(lambda x, lead: x[..., start:end])


def _product(op: Operation) -> Callable[..., Any]:
    """`%a, %b, %d[], %accumulates, %predicate, %barrier[%true]`: d = a * b + d, or a * b."""
    held = _held(op, 3)
    return _accumulated(dot.RULES["tt.dot"](replace(op, operands=held, words=("tf32",))), held, (0, 1))


def _scaled_product(op: Operation) -> Callable[..., Any]:
    """`%a, %b, %d[], %a_scale, %b_scale, %accumulates, %predicate, %barrier[%true]`, scales one a group of K."""
    held = _held(op, 5)
    a, b, d, a_scale, b_scale = held
    attributes = {**op.attributes, "scaled": (True, True)}
    rule = dot_scaled.RULES["tt.dot_scaled"]
    product = rule(replace(op, operands=(a, a_scale, b, b_scale, d), attributes=attributes))
    return _accumulated(product, held, (0, 3, 1, 4))


def _accumulated(product: Callable[..., Array], held: tuple[Value, ...], order: tuple[int, ...]) -> Callable[..., Any]:
    """`product` gets the operands in that order, then what they are added to, which is operand 2."""
    elements = [element_of(value.type) for value in held]
    ones = (1,) * len(held[2].type.shape)

    def apply(m: Machine, site: Site, *operands: Any) -> None:
        accumulates, predicate = operands[len(held) : len(held) + 2]

        def read(place: int) -> Array:
            given = operands[place]
            return shared.load(m, site, given, elements[place]) if isinstance(given, Shared) else given

        def run() -> None:
            total = np.zeros((1, *ones), elements[2].held)
            if accumulates.any():
                total = np.where(accumulates.reshape(-1, *ones), read(2), total)
            shared.store(m, site, operands[2], product(*map(read, order), total), elements[2])

        predicated(m, predicate, run)

    return apply


def _held(op: Operation, count: int) -> tuple[Value, ...]:
    """The first operands as the tensors that they hold."""
    return tuple(replace(value, type=_tensor(value.type)) for value in op.operands[:count])


def _tensor(type_: Type) -> Type:
    return Type(type_.pointee or "", type_.shape) if type_.element == "memdesc" else type_


EFFECTS: dict[str, Effect] = {
    "ttng.tc_gen5_mma": _product,
    "ttng.tc_gen5_mma_scaled": _scaled_product,
    "ttng.tmem_alloc": SHARED["ttg.local_alloc"],
    "ttng.tmem_load": _load,
    "ttng.tmem_store": _store,
    "ttng.tmem_subslice": _subslice,
}
