"""A small interpreter of straight-line PTX: what kernels put into `inline_asm_elementwise`.

Registers hold bits: unsigned arrays of the register's width, one element per invocation of the snippet; predicates are
bool. INSTRUCTIONS has one row per mnemonic, CONVERSIONS one per pair of types that `cvt` packs or unpacks; a type says
how bits are read and written. Source of all semantics: PTX ISA 8.7, chapter 9. What has no row is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...formats import E2M1, E4M3, E5M2, NanElement, codec, e8m0
from ..elements import Array, round_to_bfloat16
from . import exact
from .arith import signed_zeros
from .libdevice import no_integer, saturated
from .math import in_float64

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_DECLARATION = re.compile(r"^\.reg\s+(?:\.v\d\s+)?\.(\w+)\s+(.*)$", re.S)
_RANGE = re.compile(r"^(\S+?)<(\d+)>$")
_GUARD = re.compile(r"^@(!?)([%\w]+)\s+")
_OPERANDS = re.compile(r"\{[^}]*\}|[^,\s][^,{]*")
_FLOAT_LITERAL = re.compile(r"^0([fFdD])([0-9a-fA-F]+)$")

#: Register widths by type or constraint letter, in bytes; a predicate has none.
_WIDTHS = {
    "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2,
    "b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8,
    "c": 1, "h": 2, "r": 4, "f": 4, "l": 8, "d": 8,
}  # fmt: skip


def width_of(letter: str) -> int:
    """Bytes of a register that a constraint such as `=r` asks for; KeyError for one that is not known."""
    return _WIDTHS[letter.lstrip("=&+")]


# -- types -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Type:
    """`read` gives values of bits, `write` bits of values; packed types have a last axis of two, the lower first."""

    read: Callable[[Array], Array]
    write: Callable[[Array], Array]


def _viewed(name: str) -> _Type:
    dtype = np.dtype(name)
    raw = np.dtype(f"u{dtype.itemsize}")
    # What an instruction of 16 or 32 bits makes that is NaN has all bits set but the sign.
    nan = np.array(np.iinfo(raw).max >> 1, raw) if name in ("f2", "f4") else None

    def write(v: Array) -> Array:
        bits = np.ascontiguousarray(v.astype(dtype)).view(raw)
        return bits if nan is None else np.where(np.isnan(v), nan, bits)

    return _Type(lambda x: x.astype(raw, copy=False).view(dtype), write)


def _pair(inner: _Type) -> _Type:
    return _Type(
        lambda x: inner.read(np.ascontiguousarray(x.astype(np.uint32))[..., None].view(np.uint16)),
        lambda v: np.ascontiguousarray(inner.write(v)).view(np.uint32)[..., 0],
    )


_BFLOAT16 = _Type(
    lambda x: (x.astype(np.uint32) << 16).view(np.float32),
    lambda v: np.where(np.isnan(v), 0x7FFF, np.ascontiguousarray(v).view(np.uint32) >> 16).astype(np.uint16),
)
_TYPES = {
    **{f"{k}{8 * n}": _viewed(f"{'i' if k == 's' else 'u'}{n}") for k in "bus" for n in (1, 2, 4, 8)},
    "f16": _viewed("f2"),
    "f32": _viewed("f4"),
    "f64": _viewed("f8"),
    "bf16": _BFLOAT16,
    "f16x2": _pair(_viewed("f2")),
    "bf16x2": _pair(_BFLOAT16),
    "pred": _Type(lambda x: x, lambda v: v.astype(bool)),
}


def _flushed(x: Array) -> Array:
    """Subnormals of float32 become zeros, their signs kept."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def _rounded(value: Array, type_: str) -> Array:
    """A result computed with more bits, rounded to the type."""
    if type_.startswith("bf16"):
        return round_to_bfloat16(value.astype(np.float32))
    return value


# -- instructions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instruction:
    """A mnemonic: `function` maps values to values of the type that the mnemonic ends in.

    `allowed` are the modifiers between the two that mean nothing here; any other is refused.
    """

    function: Callable[..., Any]
    allowed: tuple[str, ...] = ()
    integers: bool = False


def _fused(type_: str) -> Callable[..., Array]:
    element = type_.removesuffix("x2")
    return lambda a, b, c: exact.fma(a, b, c, element)


def _shift(function: Callable[..., Array], beyond: Callable[[Array], Array]) -> Callable[..., Array]:
    """Shifts by the width or more give what shifting all bits out gives; PTX clamps the count."""

    def apply(a: Array, count: Array) -> Array:
        bits = 8 * a.dtype.itemsize
        amount = count.astype(np.uint32)
        shifted = function(a, np.minimum(amount, bits - 1).astype(a.dtype))
        return np.where(amount >= bits, beyond(a), shifted)

    return apply


def _permute(a: Array, b: Array, selector: Array) -> Array:
    """prmt.b32 without a mode: each nibble of the selector picks a byte of {b, a}, its top bit that byte's sign."""
    whole = (b.astype(np.uint64) << np.uint64(32)) | a
    result = np.zeros(np.broadcast_shapes(a.shape, b.shape, selector.shape), np.uint32)
    for place in range(4):
        nibble = (selector >> np.uint32(4 * place)) & np.uint32(0xF)
        octet = (whole >> (np.uint64(8) * (nibble & 7).astype(np.uint64))) & np.uint64(0xFF)
        octet = np.where(nibble & 8, np.where(octet & np.uint64(0x80), 0xFF, 0), octet).astype(np.uint32)
        result = result | (octet << np.uint32(8 * place))
    return result


def _look_up(a: Array, b: Array, c: Array, table: Array) -> Array:
    """lop3.b32: any function of three bits."""
    result = np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape), np.uint32)
    for row in range(8):
        bits = [x if row & weight else ~x for x, weight in ((a, 4), (b, 2), (c, 1))]
        chosen = (table.astype(np.uint32) >> np.uint32(row)) & np.uint32(1)
        result = result | (bits[0] & bits[1] & bits[2] & (np.uint32(0) - chosen))
    return result


def _extract(a: Array, start: Array, length: Array) -> Array:
    """bfe.u32."""
    length = np.minimum(length & 0xFF, 32).astype(np.uint64)
    mask = (np.uint64(1) << length) - np.uint64(1)
    return ((a.astype(np.uint64) >> (start & 0xFF).astype(np.uint64)) & mask).astype(a.dtype)


_APPROXIMATE = ("approx", "ftz", "rn", "full")
_EXACT = ("rn", "ftz")

#: One row a mnemonic.
INSTRUCTIONS: dict[str, Instruction] = {
    "abs": Instruction(np.abs, ("ftz",)),
    "add": Instruction(np.add, _EXACT),
    "and": Instruction(np.bitwise_and),
    "bfe": Instruction(_extract),
    "cos": Instruction(np.cos, _APPROXIMATE),
    "div": Instruction(np.divide, _APPROXIMATE),
    "ex2": Instruction(in_float64(np.exp2), _APPROXIMATE),
    "lg2": Instruction(np.log2, _APPROXIMATE),
    "lop3": Instruction(_look_up),
    "max": Instruction(signed_zeros(np.fmax, 1), ("ftz",)),
    "min": Instruction(signed_zeros(np.fmin, -1), ("ftz",)),
    "mul": Instruction(np.multiply, (*_EXACT, "lo")),
    "neg": Instruction(np.negative, ("ftz",)),
    "not": Instruction(np.invert),
    "or": Instruction(np.bitwise_or),
    "prmt": Instruction(_permute),
    "rcp": Instruction(lambda x: 1 / x, _APPROXIMATE),
    "rsqrt": Instruction(lambda x: 1 / np.sqrt(x), _APPROXIMATE),
    "shl": Instruction(_shift(np.left_shift, np.zeros_like)),
    "shr": Instruction(_shift(np.right_shift, lambda a: np.where(a < 0, -1, 0).astype(a.dtype))),
    "sin": Instruction(np.sin, _APPROXIMATE),
    "sqrt": Instruction(np.sqrt, _APPROXIMATE),
    "sub": Instruction(np.subtract, _EXACT),
    "tanh": Instruction(np.tanh, ("approx",)),
    "xor": Instruction(np.bitwise_xor),
}

_COMPARISONS: dict[str, Callable[..., Array]] = {
    "eq": np.equal, "ne": lambda a, b: (a < b) | (a > b), "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
    "neu": np.not_equal, "equ": lambda a, b: ~((a < b) | (a > b)), "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b), "gtu": lambda a, b: ~(a <= b), "geu": lambda a, b: ~(a < b),
    "num": lambda a, b: (a == a) & (b == b), "nan": lambda a, b: (a != a) | (b != b),
}  # fmt: skip

#: Instructions that order or hint, and change no register.
_NOTHING = ("griddepcontrol.wait", "griddepcontrol.launch_dependents", "bar.sync", "membar.gl", "nanosleep.u32")

_ROUND_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


# -- cvt -------------------------------------------------------------------------------------------------------


def _codes_e2m1(x: Array) -> Array:
    """PTX: a NaN becomes the largest value, positive."""
    return codec.encode(E2M1, x, nan=NanElement.MAX)


def _pack(encode: Callable[[Array], Array], bits: int, dtype: Any) -> Callable[..., Array]:
    """Two operands: the first goes to the upper half."""
    return lambda a, b: (encode(a).astype(dtype) << dtype(bits)) | encode(b).astype(dtype)


def _pack_pair(encode: Callable[[Array], Array], bits: int, dtype: Any) -> Callable[..., Array]:
    """One operand of two values."""
    return lambda x: (encode(x[..., 1]).astype(dtype) << dtype(bits)) | encode(x[..., 0]).astype(dtype)


def _unpack(decode: Callable[[Array], Array], bits: int) -> Callable[[Array], Array]:
    """Two codes to two values, the lower first."""
    mask = (1 << bits) - 1
    return lambda x: np.stack([decode((x & mask).astype(np.uint8)), decode((x >> bits & mask).astype(np.uint8))], -1)


def _e8m0(codes: Array) -> Array:
    return e8m0.decode(codes).astype(np.float32)


def _halves(a: Array, b: Array) -> Array:
    return np.stack([b, a], axis=-1)


#: cvt's packed forms, by (destination, source): from values of the source type to bits or values of the destination's.
CONVERSIONS: dict[tuple[str, str], Callable[..., Array]] = {
    ("e2m1x2", "f32"): _pack(_codes_e2m1, 4, np.uint8),
    ("e4m3x2", "f32"): _pack(lambda x: codec.encode(E4M3, x), 8, np.uint16),
    ("e5m2x2", "f32"): _pack(lambda x: codec.encode(E5M2, x), 8, np.uint16),
    ("e4m3x2", "f16x2"): _pack_pair(lambda x: codec.encode(E4M3, x), 8, np.uint16),
    ("e5m2x2", "f16x2"): _pack_pair(lambda x: codec.encode(E5M2, x), 8, np.uint16),
    ("f16x2", "e2m1x2"): _unpack(lambda codes: codec.decode(E2M1, codes), 4),
    ("f16x2", "e4m3x2"): _unpack(lambda codes: codec.decode(E4M3, codes), 8),
    ("f16x2", "e5m2x2"): _unpack(lambda codes: codec.decode(E5M2, codes), 8),
    ("bf16x2", "ue8m0x2"): _unpack(_e8m0, 8),
    ("f16x2", "f32"): _halves,
    ("bf16x2", "f32"): lambda a, b: round_to_bfloat16(_halves(a, b)),
}

#: Types of cvt that are codes: their registers are read and written as bits.
_CODES = {"e2m1x2": "b8", "e4m3x2": "b16", "e5m2x2": "b16", "ue8m0x2": "b16"}


def _convert(target: str, source: str, modifiers: Sequence[str], operands: Sequence[Array]) -> Array:
    values = [_TYPES[_CODES.get(source, source)].read(x) for x in operands]
    result: Array
    if (target, source) in CONVERSIONS:
        if target in _CODES and ("rn" not in modifiers or "satfinite" not in modifiers):
            raise UnsupportedError(f"cvt.{'.'.join(modifiers)}.{target}.{source}")
        if "relu" in modifiers:
            values = [np.where(x > 0, x, np.where(x != x, x, 0)) for x in values]
        result = CONVERSIONS[target, source](*values)
        if target in _CODES:
            return result
        if target == "f16x2":
            result = result.astype(np.float16)
        return _TYPES[target].write(result)
    (x,) = values
    if "relu" in modifiers or "satfinite" in modifiers or target not in _TYPES:
        raise UnsupportedError(f"cvt.{'.'.join(modifiers)}.{target}.{source}")
    if target[0] in "us" and source.startswith(("f", "bf")):
        whole = next((f for name, f in _ROUND_TO_INTEGER.items() if name in modifiers), None)
        if whole is None:
            raise UnsupportedError(f"cvt.{target}.{source} without a rounding")
        dtype = np.dtype(f"{'i' if target[0] == 's' else 'u'}{_WIDTHS[target]}")
        return _TYPES[target].write(saturated(whole(x.astype(np.float64)), dtype, no_integer(source, dtype)))
    if {"rz", "rm", "rp", "rna"} & set(modifiers):
        raise UnsupportedError(f"cvt.{'.'.join(modifiers)}.{target}.{source}")
    if target.startswith(("f", "bf")):
        for name, function in _ROUND_TO_INTEGER.items():
            if name in modifiers:
                x = function(x)
        if source[0] in "us":
            return _TYPES[target].write(_rounded(x.astype(np.float32 if target == "bf16" else _float(target)), target))
        x = exact.narrow(x.astype(np.float64), target)
        if "sat" in modifiers:
            x = (np.where(x != x, 0, np.clip(x, 0, 1)) + 0.0).astype(x.dtype)  # -0 becomes +0
    return _TYPES[target].write(x)


def _float(type_: str) -> Any:
    return {"f16": np.float16, "f32": np.float32, "f64": np.float64}[type_]


# -- programs --------------------------------------------------------------------------------------------------


class Snippet:
    """A parsed snippet. Raises UnsupportedError for what has no row here."""

    def __init__(self, code: str, constraints: Sequence[str]) -> None:
        self._widths: dict[str, int | None] = {}
        for place, constraint in enumerate(c for c in constraints if not c.startswith("~")):
            try:
                self._widths[f"${place}"] = width_of(constraint)
            except KeyError:
                raise UnsupportedError(f"inline assembly with the constraint {constraint!r}") from None
        self._statements: list[tuple[str, list[str], tuple[str, bool] | None]] = []
        plain = _COMMENT.sub(" ", code).replace("$$", "$")
        # Scopes, { ... } around statements, rename nothing here; braces of operands hold commas only.
        for text in re.split(r";", plain):
            statement = re.sub(r"^[\s{}]+|\s+$", "", text)
            if statement:
                self._add(statement)

    def _add(self, statement: str) -> None:
        if declared := _DECLARATION.match(statement):
            for name in declared[2].split(","):
                width = _WIDTHS.get(declared[1])
                if match := _RANGE.match(name.strip()):
                    self._widths.update({f"{match[1]}{i}": width for i in range(int(match[2]))})
                else:
                    self._widths[name.strip()] = width
            return
        guard = _GUARD.match(statement)
        body = statement[guard.end() :] if guard else statement
        mnemonic, rest = (*body.split(None, 1), "")[:2]
        operands = [text.strip() for text in _OPERANDS.findall(rest)]
        if mnemonic in _NOTHING:
            return
        self._check(mnemonic)
        self._statements.append((mnemonic, operands, (guard[2], guard[1] == "!") if guard else None))

    def _check(self, mnemonic: str) -> None:
        root, *parts = mnemonic.split(".")
        if root in ("mov", "selp", "setp", "cvt", "fma", "mad") and parts:
            return
        row = INSTRUCTIONS.get(root)
        if row is None or not parts or parts[-1] not in _TYPES or set(parts[:-1]) - set(row.allowed):
            raise UnsupportedError(f"the inline assembly `{mnemonic}`")

    def run(self, inputs: Sequence[Array], outputs: int, shape: tuple[int, ...]) -> list[Array]:
        """Bits of the input registers, behind those of the outputs in number, to bits of the output registers."""
        registers: dict[str, Array] = {f"${outputs + i}": x for i, x in enumerate(inputs)}
        for mnemonic, operands, guard in self._statements:
            before = dict(registers) if guard is not None else registers
            self._execute(registers, mnemonic, operands)
            if guard is not None:
                chosen = registers[guard[0]] != guard[1]
                for name, value in registers.items():
                    if name in before and before[name] is not value:
                        registers[name] = np.where(chosen, value, before[name])
        missing = [i for i in range(outputs) if f"${i}" not in registers]
        if missing:
            raise UnsupportedError(f"inline assembly that does not write ${missing[0]}")
        return [np.broadcast_to(registers[f"${i}"], shape) for i in range(outputs)]

    def _read(self, registers: dict[str, Array], text: str, type_: str) -> Array:
        """An operand's bits."""
        if text.startswith("{"):
            return self._joined([self._read(registers, part.strip(), "") for part in text[1:-1].split(",")])
        if text in registers:
            return registers[text]
        if match := _FLOAT_LITERAL.match(text):
            width = 4 if match[1] in "fF" else 8
            return np.array(int(match[2], 16), f"u{width}")
        try:
            number = int(text, 0)
        except ValueError:
            raise UnsupportedError(f"the inline assembly operand `{text}`") from None
        width = _WIDTHS.get(type_, 4)
        return np.array(number & ((1 << 8 * width) - 1), f"u{width}")

    @staticmethod
    def _joined(parts: Sequence[Array]) -> Array:
        width = parts[0].dtype.itemsize
        whole = np.dtype(f"u{width * len(parts)}")
        result = np.zeros((), whole)
        for place, part in enumerate(parts):
            result = result | (part.astype(whole) << whole.type(8 * width * place))
        return result

    def _write(self, registers: dict[str, Array], name: str, bits: Array) -> None:
        if name.startswith("{"):
            names = [part.strip() for part in name[1:-1].split(",")]
            width = bits.dtype.itemsize // len(names)
            for place, part in enumerate(names):
                shifted = bits >> bits.dtype.type(8 * width * place)
                self._write(registers, part, shifted.astype(f"u{width}"))
            return
        if name == "_":
            return
        known = self._widths.get(name)
        registers[name] = bits if known is None or bits.dtype == bool else bits.astype(f"u{known}")

    def _execute(self, registers: dict[str, Array], mnemonic: str, operands: Sequence[str]) -> None:
        root, *parts = mnemonic.split(".")
        type_ = parts[-1]
        target, *rest = operands
        if root == "cvt":
            bits = [self._read(registers, text, _CODES.get(type_, type_)) for text in rest]
            self._write(registers, target, _convert(parts[-2], type_, parts[:-2], bits))
            return
        if type_ not in _TYPES:
            raise UnsupportedError(f"the inline assembly `{mnemonic}`")
        kind = _TYPES[type_]
        raw = [self._read(registers, text, type_) for text in rest]
        if root == "mov":
            self._write(registers, target, raw[0])
            return
        if root == "selp":
            self._write(registers, target, np.where(raw[2], raw[0], raw[1]))
            return
        if root == "setp":
            if parts[0] not in _COMPARISONS or len(operands) != 3:
                raise UnsupportedError(f"the inline assembly `{mnemonic}`")
            self._write(registers, target, _COMPARISONS[parts[0]](*map(kind.read, raw)))
            return
        values = [x if root in ("shl", "shr") and i else kind.read(x) for i, x in enumerate(raw)]
        flush = "ftz" in parts and type_ == "f32"
        if flush:
            values = [_flushed(x) for x in values]
        if root in ("fma", "mad"):
            if type_.startswith(("f", "bf")):
                if set(parts[:-1]) - {"rn", "ftz"}:
                    raise UnsupportedError(f"the inline assembly `{mnemonic}`")
                result = _fused(type_)(*values)
            elif parts[:-1] == ["lo"]:
                result = values[0] * values[1] + values[2]
            else:
                raise UnsupportedError(f"the inline assembly `{mnemonic}`")
        else:
            result = _rounded(INSTRUCTIONS[root].function(*values), type_)
        result = np.asarray(_flushed(result) if flush else result)
        self._write(registers, target, kind.write(result))
