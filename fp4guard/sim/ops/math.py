"""The math dialect, and Triton's own elementwise functions.

Transcendental functions are computed as exactly as numpy and torch do; those of a GPU are off by a few ulp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from ...errors import UnsupportedError
from ...ttir import Operation
from ..elements import Array, round_to_bfloat16
from . import exact
from .arith import Rule


def rounded(op: Operation, function: Callable[..., Array]) -> Callable[..., Array]:
    """`function`, its result rounded to the operation's type."""
    if op.result.type.element == "bf16":
        return lambda *operands: round_to_bfloat16(function(*operands))
    return function


def _float(function: Callable[..., Array]) -> Rule:
    return lambda op: rounded(op, function)


def in_float64(function: Callable[..., Array]) -> Callable[..., Array]:
    """Computed in float64 and rounded to the type of the first operand."""

    def apply(*operands: Array) -> Array:
        return function(*(x.astype(np.float64) for x in operands)).astype(operands[0].dtype)

    return apply


def from_torch(function: Any) -> Callable[..., Array]:
    """A function that numpy lacks, computed by torch in float64."""

    def apply(*operands: Array) -> Array:
        with _disable_current_modes():  # what is computed here is no allocation or write of the user's
            tensors = [torch.from_numpy(np.array(x, np.float64)) for x in operands]
            return function(*tensors).numpy().astype(operands[0].dtype)

    return apply


def _fma(op: Operation) -> Callable[..., Array]:
    element = op.result.type.element
    return lambda a, b, c: exact.fma(a, b, c, element)


def multiply_high(a: Array, b: Array) -> Array:
    """The upper half of the product, unsigned or signed as the operands are; 64 bits from four products of 32."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = f"{a.dtype.kind}{2 * a.dtype.itemsize}"
        return (a.astype(wide) * b.astype(wide) >> bits).astype(a.dtype)
    low = (1 << 32) - 1
    a0, a1, b0, b1 = a & low, a >> 32, b & low, b >> 32
    middle = a1 * b0 + ((a0.view(np.uint64) * b0.view(np.uint64)) >> np.uint64(32)).view(a.dtype)
    other = a0 * b1 + (middle & low)
    return a1 * b1 + (middle >> 32) + (other >> 32)


def _mulhiui(op: Operation) -> Callable[..., Array]:
    def apply(a: Array, b: Array) -> Array:
        kind = f"u{a.dtype.itemsize}"
        return multiply_high(a.view(kind), b.view(kind)).view(a.dtype)

    return apply


def _extended(op: Operation) -> Callable[..., Array]:
    """arith.mulsi_extended and mului_extended: both halves of the product."""
    signed = op.name == "arith.mulsi_extended"

    def apply(a: Array, b: Array) -> tuple[Array, Array]:
        kind = f"{'i' if signed else 'u'}{a.dtype.itemsize}"
        return a * b, multiply_high(a.view(kind), b.view(kind)).view(a.dtype)

    return apply  # type: ignore[return-value]


def _clampf(op: Operation) -> Callable[..., Array]:
    """PTX `max` then `min`: of a number and NaN the number, or NaN with `propagateNan = all`."""
    propagate = "all" in op.words
    least, greatest = (np.minimum, np.maximum) if propagate else (np.fmin, np.fmax)
    return lambda x, low, high: least(greatest(x, low), high)


def _round_even(op: Operation) -> Callable[..., Array]:
    return np.rint


def _refuse_wide(function: Rule, *elements: str) -> Rule:
    """Operations that exist for some types only."""

    def rule(op: Operation) -> Callable[..., Array]:
        if op.result.type.element not in elements:
            raise UnsupportedError(f"{op.name} of {op.result.type.element}", op.location)
        return function(op)

    return rule


RULES: dict[str, Rule] = {
    "math.absf": _float(np.abs),
    "math.absi": lambda op: np.abs,
    "math.acos": _float(np.arccos),
    "math.asin": _float(np.arcsin),
    "math.atan": _float(np.arctan),
    "math.atan2": _float(np.arctan2),
    "math.ceil": _float(np.ceil),
    "math.copysign": _float(np.copysign),
    "math.cos": _float(in_float64(np.cos)),
    "math.cosh": _float(np.cosh),
    "math.erf": _float(from_torch(torch.erf)),
    "math.exp": _float(np.exp),
    "math.exp2": _float(in_float64(np.exp2)),  # so that 2^127 is: numpy's float32 is an ulp off
    "math.expm1": _float(np.expm1),
    "math.floor": _float(np.floor),
    "math.fma": _fma,
    "math.log": _float(np.log),
    "math.log10": _float(np.log10),
    "math.log1p": _float(np.log1p),
    "math.log2": _float(np.log2),
    "math.powf": _float(np.power),
    "math.roundeven": _round_even,
    "math.rsqrt": _float(in_float64(lambda x: 1 / np.sqrt(x))),
    "math.sin": _float(in_float64(np.sin)),
    "math.sinh": _float(np.sinh),
    "math.sqrt": _float(np.sqrt),
    "math.tan": _float(in_float64(np.tan)),
    "math.tanh": _float(np.tanh),
    "math.trunc": _float(np.trunc),
    "tt.approx_divf": _float(np.divide),
    "tt.precise_divf": _refuse_wide(_float(np.divide), "f32"),
    "tt.precise_sqrt": _refuse_wide(_float(np.sqrt), "f32"),
    "tt.mulhiui": _mulhiui,
    "tt.clampf": _clampf,
    "arith.mulsi_extended": _extended,
    "arith.mului_extended": _extended,
}
