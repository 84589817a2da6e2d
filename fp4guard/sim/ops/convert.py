"""Constants and conversions between element types, rounded as the hardware rounds."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import numpy as np

from ...errors import UnsupportedError
from ...formats import codec
from ...ttir import Operation
from ..elements import FP8, Array, element_of, held, round_to_bfloat16
from .arith import Rule

_FORMATS = {"f16": ("<H", "<e"), "f32": ("<I", "<f"), "f64": ("<Q", "<d")}


def parse_literal(text: str, element: str) -> float | int | bool:
    """One element of a constant: decimal, `true`, or a float's bits in hexadecimal."""
    if text in ("true", "false"):
        return text == "true"
    if element.startswith("i"):
        return int(text, 0)
    if not text.startswith("0x"):
        return float(text)
    bits = int(text, 16)
    if element == "bf16":
        bits, element = bits << 16, "f32"
    if element not in _FORMATS:
        raise UnsupportedError(f"a constant of type {element}", detail=text)
    raw, decoded = _FORMATS[element]
    return struct.unpack(decoded, struct.pack(raw, bits))[0]


def constant(op: Operation) -> Array:
    """The value of arith.constant: a scalar, or a tensor that is the same everywhere."""
    type_ = op.result.type
    text = op.attributes["value"]
    splat = re.fullmatch(r"dense<([^\[\]]*)>", text)
    literal = splat[1] if splat else text
    if literal.startswith(("dense", '"')):
        raise UnsupportedError("a constant tensor whose elements differ", op.location, text)
    if type_.element in FP8:
        code = int(literal, 16) if literal.startswith("0x") else codec.encode(FP8[type_.element], float(literal))
        return held(type_, code)
    return held(type_, parse_literal(literal, type_.element))


def _integer_cast(op: Operation) -> Callable[..., Array]:
    """Truncation, and sign extension: an i1 that is set extends to -1."""
    target, source = element_of(op.result.type).held, op.operands[0].type.element
    if op.result.type.element == "i1":
        return lambda x: (x & 1).astype(bool)
    if source == "i1" and op.name == "arith.extsi":
        return lambda x: -x.astype(target)
    return lambda x: x.astype(target)


def _zero_extend(op: Operation) -> Callable[..., Array]:
    target, source = element_of(op.result.type).held, element_of(op.operands[0].type)
    unsigned = f"u{source.width}"
    return lambda x: x.view(unsigned).astype(target)


def _to_float(op: Operation) -> Callable[..., Array]:
    """Integer to float and float to float, ties to even."""
    target = element_of(op.result.type).held
    unsigned = op.name == "arith.uitofp" or op.operands[0].type.element == "i1"
    source = element_of(op.operands[0].type)

    def apply(x: Array) -> Array:
        x = x.view(f"u{source.width}") if unsigned else x
        return x.astype(target)

    if op.result.type.element == "bf16":
        if source.held == np.float64:
            return lambda x: round_to_bfloat16(_to_odd(x))
        return lambda x: round_to_bfloat16(apply(x))
    return apply


def _to_odd(x: Array) -> Array:
    """float64 to float32, where what is not exact gets a last bit of 1: rounding it again rounds only once."""
    near = x.astype(np.float32)
    wide = near.astype(np.float64)
    bits = near.view(np.uint32) - (np.abs(wide) > np.abs(x))
    return np.where((wide == x) | (x != x), near, (bits | 1).astype(np.uint32).view(np.float32))


def _to_integer(op: Operation) -> Callable[..., Array]:
    """Float to integer, toward zero.

    TTIR leaves open what becomes of a number out of range. Here it is what GPUs' instructions of 32 and 64 bits make
    of it: the nearest integer there is, and 0 of NaN; fewer bits are the low ones of 32.
    """
    target = element_of(op.result.type).held
    kind = "u" if op.name == "arith.fptoui" else "i"
    wide = np.iinfo(f"{kind}{max(target.itemsize, 4)}")

    def apply(x: Array) -> Array:
        whole = np.trunc(np.where(x != x, 0, x).astype(np.float64))
        below, above = whole < wide.min, whole > wide.max
        if wide.bits == 64:
            above = whole >= float(wide.max)  # which is one too many: float64 has no such odd number
        inside = np.where(below | above, 0, whole).astype(wide.dtype)
        limited = np.where(below, wide.min, np.where(above, wide.max, inside))
        return limited.astype(wide.dtype).astype(f"{kind}{target.itemsize}").view(target)

    return apply


def _bitcast(op: Operation) -> Callable[..., Array]:
    source, target = element_of(op.operands[0].type), element_of(op.result.type)
    if op.result.type.element == "ptr":
        return lambda x: x
    if source.width != target.width:
        raise UnsupportedError("a bitcast between types of different widths", op.location)
    return lambda x: target.load(source.store(x))


RULES: dict[str, Rule] = {
    "arith.extsi": _integer_cast,
    "arith.trunci": _integer_cast,
    "arith.extui": _zero_extend,
    "arith.index_cast": _integer_cast,
    "arith.extf": _to_float,
    "arith.truncf": _to_float,
    "arith.sitofp": _to_float,
    "arith.uitofp": _to_float,
    "arith.fptosi": _to_integer,
    "arith.fptoui": _to_integer,
    "arith.bitcast": _bitcast,
    "tt.bitcast": _bitcast,
}
