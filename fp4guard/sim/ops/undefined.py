"""Arithmetic that is undefined for some operands: such lanes become the site's poison.

MLIR's arith dialect leaves these open (LangRef of LLVM, "poison values" and undefined behaviour): a divisor of zero,
the least integer divided by -1, a shift by the width or more, a float converted to an integer that cannot hold it, a
negative float to an unsigned one. What a GPU happens to give (most conversions saturate) is no promise: compilers fold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ttir import Operation
from ..elements import Array, element_of
from ..machine import Machine
from ..trace import Site

Effect = Callable[[Operation], Callable[..., Any]]


def poisoned(m: Machine, site: Site, value: Array, undefined: Array) -> Array:
    """`value`, with the site's poison in the lanes of the mask `undefined`, which are noted."""
    if not undefined.any():
        return value
    live = undefined if m.active is None else undefined & m.spread(m.active, undefined.ndim)
    if live.any():
        m.report("undefined-value", site, None, None, np.nonzero(live)[0])
    return np.where(undefined, m.poison(site), value)


def _checked(function: Callable[[Array, Array], Array], undefined: Callable[[Array, Array], Array]) -> Effect:
    """`function` sees 1 in place of a second operand that is undefined."""

    def apply(m: Machine, site: Site, a: Array, b: Array) -> Array:
        bad = undefined(a, b)
        if not bad.any():
            return function(a, b)
        return poisoned(m, site, function(a, np.where(bad, np.ones((), b.dtype), b)), bad)

    return lambda op: _one_bit(apply) if op.result.type.element == "i1" else apply


def _one_bit(apply: Callable[..., Array]) -> Callable[..., Array]:
    """Of one bit, 1 is -1 where signs matter, and numpy's bool has no arithmetic."""

    def narrow(m: Machine, site: Site, a: Array, b: Array) -> Array:
        return (apply(m, site, a.view(np.int8), b.view(np.int8)) & 1).astype(bool)

    return narrow


def _no_divisor(a: Array, b: Array) -> Array:
    bad: Array = b == 0
    minus = b == -1
    if minus.any():
        bad = bad | (minus & (a == np.iinfo(a.dtype).min))
    return bad


def _zero(a: Array, b: Array) -> Array:
    return np.equal(b, 0)


def _too_far(a: Array, b: Array) -> Array:
    return b.view(f"u{b.dtype.itemsize}") >= 8 * a.dtype.itemsize


def _unsigned(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    def apply(a: Array, b: Array) -> Array:
        kind = f"u{a.dtype.itemsize}"
        return function(a.view(kind), b.view(kind)).view(a.dtype)

    return apply


def _divide(a: Array, b: Array) -> Array:
    """Toward zero."""
    return (a - np.fmod(a, b)) // b


def _divide_up(a: Array, b: Array) -> Array:
    quotient = a // b
    return quotient + (quotient * b != a).astype(a.dtype)


def _to_integer(op: Operation) -> Callable[..., Array]:
    """Float to integer, toward zero: arith.fptosi, arith.fptoui."""
    target = element_of(op.result.type).held
    bits = 1 if op.result.type.element == "i1" else 8 * target.itemsize
    signed = op.name == "arith.fptosi"
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1)) if signed else (0.0, 2.0**bits)
    wide = np.int64 if signed else np.uint64

    def apply(m: Machine, site: Site, x: Array) -> Array:
        whole = np.trunc(x.astype(np.float64))
        good = (whole >= low) & (whole < high)
        if good.all():
            return whole.astype(wide).astype(target)
        value = np.where(good, whole, 0).astype(wide).astype(target)
        return poisoned(m, site, value, ~good)

    return apply


def _poison(op: Operation) -> Callable[..., Array]:
    """ub.poison: a value that no one may use."""
    ones = (1,) * (1 + len(op.result.type.shape))

    def apply(m: Machine, site: Site) -> Array:
        return np.broadcast_to(m.poison(site), ones)

    return apply


EFFECTS: dict[str, Effect] = {
    "arith.divsi": _checked(_divide, _no_divisor),
    "arith.remsi": _checked(np.fmod, _no_divisor),
    "arith.divui": _checked(_unsigned(np.floor_divide), _zero),
    "arith.remui": _checked(_unsigned(np.remainder), _zero),
    "arith.floordivsi": _checked(np.floor_divide, _no_divisor),
    "arith.ceildivsi": _checked(_divide_up, _no_divisor),
    "arith.ceildivui": _checked(_unsigned(_divide_up), _zero),
    "arith.shli": _checked(np.left_shift, _too_far),
    "arith.shrsi": _checked(np.right_shift, _too_far),
    "arith.shrui": _checked(_unsigned(np.right_shift), _too_far),
    "arith.fptosi": _to_integer,
    "arith.fptoui": _to_integer,
    "ub.poison": _poison,
}
