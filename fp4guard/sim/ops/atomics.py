"""tt.atomic_rmw and tt.atomic_cas, and what of them tt.descriptor_reduce shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...ttir import Operation
from .. import atomics
from ..atomics import Atomic
from ..elements import Array, round_to_bfloat16
from ..machine import Machine
from ..ordering import ACQUIRES
from ..trace import Site
from .undefined import Effect

#: Elements that hardware has atomics for, floats through fadd and exch alone.
_INTEGERS = ("i8", "i16", "i32", "i64")


def _unsigned(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    def apply(old: Array, value: Array) -> Array:
        kind = f"u{old.dtype.itemsize}"
        return function(old.view(kind), value.view(kind)).view(old.dtype)

    return apply


def _add_bfloat16(old: Array, value: Array) -> Array:
    return round_to_bfloat16(old + value)


def _without_subnormals(x: Array) -> Array:
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def _add_float32(old: Array, value: Array) -> Array:
    """PTX ISA, atom.add.f32: on global memory, subnormal inputs and results are zeros. Seen on an H200."""
    return _without_subnormals(_without_subnormals(old) + _without_subnormals(value))


def _far_from_subnormal(values: Array) -> bool:
    """No sum of such numbers is subnormal: they are all multiples of 2^-123."""
    magnitude = np.abs(values)
    return bool(((magnitude >= np.float32(2.0**-100)) | (magnitude == 0)).all())


#: By the name that TTIR prints; `fadd` of bf16 and f32 apart.
KINDS: dict[str, Atomic] = {
    "add": Atomic(np.add, np.add, sums=True),
    "fadd": Atomic(np.add, np.add),
    "max": Atomic(np.maximum, np.maximum),
    "min": Atomic(np.minimum, np.minimum),
    "umax": Atomic(_unsigned(np.maximum)),
    "umin": Atomic(_unsigned(np.minimum)),
    "and": Atomic(np.bitwise_and, np.bitwise_and),
    "or": Atomic(np.bitwise_or, np.bitwise_or),
    "xor": Atomic(np.bitwise_xor, np.bitwise_xor),
    "exch": Atomic(lambda old, value: value, reads=False),
}
_FADD = {
    "bf16": Atomic(_add_bfloat16),
    "f32": Atomic(_add_float32, np.add, _far_from_subnormal),
}


def kind_of(name: str, element: str, op: Operation) -> Atomic:
    """The row of KINDS; UnsupportedError for a kind or an element that has none."""
    if name == "fadd" and element in _FADD:
        return _FADD[element]
    if name not in KINDS or (element not in _INTEGERS and name not in ("fadd", "exch", "max", "min")):
        raise UnsupportedError(f"{op.name} {name} of {element}", op.location)
    return KINDS[name]


def _rmw(op: Operation) -> Callable[..., Any]:
    value = op.operands[1].type
    atomic = kind_of(op.words[0], value.element, op)
    semantics, shape, used = op.words[1], value.shape, op.attributes.get("used", True)
    unmasked = op.attributes.get("unmasked", False)

    def apply(m: Machine, site: Site, address: Array, operand: Array, mask: Array | None = None) -> Array:
        mask = None if unmasked else mask
        return atomics.update(m, site, atomic, address, (operand,), mask, shape, semantics, used)

    return apply


def _cas(op: Operation) -> Callable[..., Any]:
    semantics, shape, used = op.words[0], op.operands[1].type.shape, op.attributes.get("used", True)

    def apply(m: Machine, site: Site, address: Array, expected: Array, new: Array) -> Array:
        atomic = Atomic(atomics.element_bits(site.element))
        return atomics.update(m, site, atomic, address, (expected, new), None, shape, semantics, used)

    return apply


def acquires(op: Operation) -> bool:
    """Whether an operation is an atomic that acquires, and whose result tells from whom."""
    return op.name in EFFECTS and bool(op.attributes.get("used", True)) and not set(op.words).isdisjoint(ACQUIRES)


EFFECTS: dict[str, Effect] = {
    "tt.atomic_rmw": _rmw,
    "tt.atomic_cas": _cas,
    "amdg.buffer_atomic_rmw": _rmw,
    "amdg.buffer_atomic_cas": _cas,
}

#: Atomics that are told whether anyone reads their result.
ATOMICS = tuple(EFFECTS)
