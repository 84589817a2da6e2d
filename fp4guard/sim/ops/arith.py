"""Arithmetic: integer, floating point, comparison, selection, and the math dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ttir import Operation
from ..elements import Array, round_to_bfloat16
from ..shared import Shared, merged

Rule = Callable[[Operation], Callable[..., Array]]


def _plain(function: Callable[..., Array]) -> Rule:
    return lambda op: function


def _float(function: Callable[..., Array]) -> Rule:
    """A floating-point result: bfloat16 is computed in float32 and rounded back."""

    def rule(op: Operation) -> Callable[..., Array]:
        if op.result.type.element == "bf16":
            return lambda *operands: round_to_bfloat16(function(*operands))
        return function

    return rule


def _unsigned(function: Callable[[Array, Array], Array]) -> Rule:
    """Both operands and the result reinterpreted as unsigned."""

    def apply(a: Array, b: Array) -> Array:
        unsigned = f"u{a.dtype.itemsize}"
        return function(a.view(unsigned), b.view(unsigned)).view(a.dtype)

    return lambda op: apply


def _as_signed(x: Array) -> Array:
    """A one-bit integer that is set is -1 where signs matter; numpy's bool knows no arithmetic."""
    return -x.view(np.int8) if x.dtype == bool else x


def _signed(function: Callable[..., Array]) -> Rule:
    """Two's complement arithmetic, modulo 2 for one bit."""

    def rule(op: Operation) -> Callable[..., Array]:
        if op.result.type.element == "i1":
            return lambda *operands: (function(*map(_as_signed, operands)) & 1).astype(bool)
        return function

    return rule


def signed_zeros(function: Callable[[Array, Array], Array], sign: int) -> Callable[[Array, Array], Array]:
    """A minimum (sign -1) or maximum (1) for which -0 is less than +0, as it is for the hardware."""

    def apply(a: Array, b: Array) -> Array:
        found = function(a, b)
        zeros = found == 0
        if not zeros.any():
            return found
        both = zeros & (a == b)
        return np.where(both, a + b if sign > 0 else -(-a - b), found)

    return apply


def _divide(a: Array, b: Array) -> Array:
    """Division toward zero. A zero divisor, undefined in TTIR, gives 0."""
    return (a - np.fmod(a, b)) // b


#: Signed predicates; the unsigned ones compare the same bits as unsigned.
_INTEGER_PREDICATES: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "slt": np.less,
    "sle": np.less_equal,
    "sgt": np.greater,
    "sge": np.greater_equal,
}

_UNSIGNED_PREDICATES = {f"u{name[1:]}": f for name, f in _INTEGER_PREDICATES.items() if name.startswith("s")}


def _unordered(a: Array, b: Array) -> Array:
    return (a != a) | (b != b)


#: Ordered predicates are false when an operand is NaN, unordered ones true.
_FLOAT_PREDICATES: dict[str, Callable[[Array, Array], Array]] = {
    "oeq": np.equal,
    "ogt": np.greater,
    "oge": np.greater_equal,
    "olt": np.less,
    "ole": np.less_equal,
    "one": lambda a, b: (a < b) | (a > b),
    "ord": lambda a, b: ~_unordered(a, b),
    "ueq": lambda a, b: ~((a < b) | (a > b)),
    "ugt": lambda a, b: ~(a <= b),
    "uge": lambda a, b: ~(a < b),
    "ult": lambda a, b: ~(a >= b),
    "ule": lambda a, b: ~(a > b),
    "une": np.not_equal,
    "uno": _unordered,
}


def _compare_integers(op: Operation) -> Callable[..., Array]:
    predicate = op.words[0]
    if predicate in _INTEGER_PREDICATES:
        signed = _INTEGER_PREDICATES[predicate]
        if op.operands[0].type.element == "i1":
            return lambda a, b: signed(_as_signed(a), _as_signed(b))
        return signed
    function = _UNSIGNED_PREDICATES[predicate]

    def apply(a: Array, b: Array) -> Array:
        unsigned = f"u{a.dtype.itemsize}"
        return function(a.view(unsigned), b.view(unsigned))

    return apply


def _compare_floats(op: Operation) -> Callable[..., Array]:
    return _FLOAT_PREDICATES[op.words[0]]


def _select_memory(condition: Array, yes: Shared, no: Shared) -> Shared:
    if condition.all():
        return yes
    return merged(condition, yes, no) if condition.any() else no


def _select(op: Operation) -> Callable[..., Any]:
    if op.result.type.element == "memdesc":
        return _select_memory
    # A scalar condition that chooses between tensors lacks their dimensions.
    missing = len(op.result.type.shape) - len(op.operands[0].type.shape)

    def apply(condition: Array, yes: Array, no: Array) -> Array:
        if missing:
            condition = condition.reshape(condition.shape + (1,) * missing)
        return np.where(condition, yes, no)

    return apply


RULES: dict[str, Rule] = {
    # integers
    "arith.addi": _signed(np.add),
    "arith.subi": _signed(np.subtract),
    "arith.muli": _signed(np.multiply),
    "arith.divsi": _signed(_divide),
    "arith.remsi": _signed(np.fmod),
    "arith.divui": _unsigned(np.floor_divide),
    "arith.remui": _unsigned(np.remainder),
    "arith.andi": _plain(np.bitwise_and),
    "arith.ori": _plain(np.bitwise_or),
    "arith.xori": _plain(np.bitwise_xor),
    "arith.shli": _signed(np.left_shift),
    "arith.shrsi": _signed(np.right_shift),
    "arith.shrui": _unsigned(np.right_shift),
    "arith.maxsi": _signed(np.maximum),
    "arith.minsi": _signed(np.minimum),
    "arith.maxui": _unsigned(np.maximum),
    "arith.minui": _unsigned(np.minimum),
    "arith.cmpi": _compare_integers,
    # floats
    "arith.addf": _float(np.add),
    "arith.subf": _float(np.subtract),
    "arith.mulf": _float(np.multiply),
    "arith.divf": _float(np.divide),
    "arith.remf": _float(np.fmod),
    "arith.negf": _float(np.negative),
    "arith.maxnumf": _float(signed_zeros(np.fmax, 1)),
    "arith.minnumf": _float(signed_zeros(np.fmin, -1)),
    "arith.maximumf": _float(signed_zeros(np.maximum, 1)),
    "arith.minimumf": _float(signed_zeros(np.minimum, -1)),
    "arith.cmpf": _compare_floats,
    "arith.select": _select,
}
