"""Arithmetic: integer, floating point, comparison, selection, and the math dialect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...ttir import Operation
from ..elements import Array, round_to_bfloat16

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
        return _INTEGER_PREDICATES[predicate]
    function = _UNSIGNED_PREDICATES[predicate]

    def apply(a: Array, b: Array) -> Array:
        unsigned = f"u{a.dtype.itemsize}"
        return function(a.view(unsigned), b.view(unsigned))

    return apply


def _compare_floats(op: Operation) -> Callable[..., Array]:
    return _FLOAT_PREDICATES[op.words[0]]


def _select(op: Operation) -> Callable[..., Array]:
    # A scalar condition that chooses between tensors lacks their dimensions.
    missing = len(op.result.type.shape) - len(op.operands[0].type.shape)

    def apply(condition: Array, yes: Array, no: Array) -> Array:
        if missing:
            condition = condition.reshape(condition.shape + (1,) * missing)
        return np.where(condition, yes, no)

    return apply


RULES: dict[str, Rule] = {
    # integers
    "arith.addi": _plain(np.add),
    "arith.subi": _plain(np.subtract),
    "arith.muli": _plain(np.multiply),
    "arith.divsi": _plain(_divide),
    "arith.remsi": _plain(np.fmod),
    "arith.divui": _unsigned(np.floor_divide),
    "arith.remui": _unsigned(np.remainder),
    "arith.andi": _plain(np.bitwise_and),
    "arith.ori": _plain(np.bitwise_or),
    "arith.xori": _plain(np.bitwise_xor),
    "arith.shli": _plain(np.left_shift),
    "arith.shrsi": _plain(np.right_shift),
    "arith.shrui": _unsigned(np.right_shift),
    "arith.maxsi": _plain(np.maximum),
    "arith.minsi": _plain(np.minimum),
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
    "arith.maxnumf": _float(np.fmax),
    "arith.minnumf": _float(np.fmin),
    "arith.maximumf": _float(np.maximum),
    "arith.minimumf": _float(np.minimum),
    "arith.cmpf": _compare_floats,
    "arith.select": _select,
    # math
    "math.absf": _float(np.abs),
    "math.absi": _plain(np.abs),
    "math.exp": _float(np.exp),
    "math.exp2": _float(np.exp2),
    "math.log": _float(np.log),
    "math.log2": _float(np.log2),
    "math.sqrt": _float(np.sqrt),
    "math.rsqrt": _float(lambda x: 1 / np.sqrt(x)),
    "math.floor": _float(np.floor),
    "math.ceil": _float(np.ceil),
}
