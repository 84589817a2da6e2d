"""A small interpreter of straight-line PTX: what kernels put into `inline_asm_elementwise`.

INSTRUCTIONS has one row per mnemonic: how many operands it takes, of which types and with which modifiers. Source of
all semantics: PTX ISA 8.7, chapter 9. What has no row, or is not as its row says, is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ..elements import Array
from . import exact
from .arith import signed_zeros
from .math import in_float64
from .ptx_cvt import convert, is_relaxed, operands_of, register_type
from .ptx_types import TYPES, WIDTHS, fits, flushed, rounded, spelt

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_DECLARATION = re.compile(r"^\.reg\s+\.(\w+)\s+(.*)$", re.S)
_RANGE = re.compile(r"^(\S+?)<(\d+)>$")
_GUARD = re.compile(r"^@(!?)([$%\w]+)\s+")
_OPERANDS = re.compile(r"\{[^}]*\}|[^,\s][^,{]*")
_FLOAT_LITERAL = re.compile(r"^0([fFdD])([0-9a-fA-F]+)$")

#: Bytes of the register that a constraint asks for.
_CONSTRAINTS = {"c": 1, "h": 2, "r": 4, "f": 4, "l": 8, "d": 8}


# -- instructions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instruction:
    """A mnemonic of `operands` sources: `function` maps values to values of the type that the mnemonic ends in.

    `forms` gives, by the types, the modifiers between the two, as `fits` reads them. With `by_type`, `function` gives
    the function of a type.
    """

    function: Callable[..., Any]
    operands: int
    forms: Mapping[str, str]
    by_type: bool = False


def _fused(type_: str) -> Callable[..., Array]:
    if type_[0] in "us":
        return lambda a, b, c: a * b + c
    element = type_.removesuffix("x2")
    return lambda a, b, c: exact.fma(a, b, c, element)


def _divide(a: Array, b: Array) -> Array:
    """Integers toward zero; by zero, which PTX leaves open, 0 as in TTIR."""
    return np.divide(a, b) if a.dtype.kind == "f" else (a - np.fmod(a, b)) // b


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


_SIGNED, _UNSIGNED, _BITS = "s16 s32 s64", "u16 u32 u64", "b16 b32 b64"
_INTEGERS = f"{_UNSIGNED} {_SIGNED}"
_HALVES = "f16 f16x2 bf16 bf16x2"
#: Not there: ftz of f16, which flushes subnormals of its own.
_ARITHMETIC = {"f32": "rn? ftz?", f"f64 {_HALVES}": "rn?"}
_ORDER = {_INTEGERS: "", "f32": "ftz?", f"f64 {_HALVES}": ""}
_SIGN = {_SIGNED: "", "f32": "ftz?", f"f64 {_HALVES}": ""}
_LOGIC = {f"{_BITS} pred": ""}
_APPROXIMATE = {"f32": "approx ftz?"}
_FUSED = {"f32": "rn ftz?", "f64": "rn"}

#: One row a mnemonic; `cvt` has rows of its own.
INSTRUCTIONS: dict[str, Instruction] = {
    "abs": Instruction(np.abs, 1, _SIGN),
    "add": Instruction(np.add, 2, {_INTEGERS: "", **_ARITHMETIC}),
    "and": Instruction(np.bitwise_and, 2, _LOGIC),
    "bfe": Instruction(_extract, 3, {"u32": ""}),
    "cos": Instruction(np.cos, 1, _APPROXIMATE),
    "div": Instruction(_divide, 2, {_INTEGERS: "", "f32": "approx|full|rn ftz?", "f64": "rn"}),
    "ex2": Instruction(in_float64(np.exp2), 1, {**_APPROXIMATE, "f16 f16x2": "approx", "bf16 bf16x2": "approx ftz"}),
    "fma": Instruction(_fused, 3, {**_FUSED, _HALVES: "rn"}, by_type=True),
    "lg2": Instruction(np.log2, 1, _APPROXIMATE),
    "lop3": Instruction(_look_up, 4, {"b32": ""}),
    "mad": Instruction(_fused, 3, {**_FUSED, _INTEGERS: "lo"}, by_type=True),
    "max": Instruction(signed_zeros(np.fmax, 1), 2, _ORDER),
    "min": Instruction(signed_zeros(np.fmin, -1), 2, _ORDER),
    "mov": Instruction(lambda x: x, 1, {f"{_BITS} {_INTEGERS} f32 f64 pred": ""}),
    "mul": Instruction(np.multiply, 2, {_INTEGERS: "lo", **_ARITHMETIC}),
    "neg": Instruction(np.negative, 1, _SIGN),
    "not": Instruction(np.invert, 1, _LOGIC),
    "or": Instruction(np.bitwise_or, 2, _LOGIC),
    "prmt": Instruction(_permute, 3, {"b32": ""}),
    "rcp": Instruction(lambda x: 1 / x, 1, {"f32": "approx|rn ftz?", "f64": "rn"}),
    "rsqrt": Instruction(lambda x: 1 / np.sqrt(x), 1, {"f32": "approx ftz?", "f64": "approx"}),
    "selp": Instruction(lambda a, b, p: np.where(p, a, b), 3, {f"{_BITS} {_INTEGERS} f32 f64": ""}),
    "shl": Instruction(_shift(np.left_shift, np.zeros_like), 2, {_BITS: ""}),
    "shr": Instruction(
        _shift(np.right_shift, lambda a: np.where(a < 0, -1, 0).astype(a.dtype)), 2, {f"{_BITS} {_INTEGERS}": ""}
    ),
    "sin": Instruction(np.sin, 1, _APPROXIMATE),
    "sqrt": Instruction(np.sqrt, 1, {"f32": "approx|rn ftz?", "f64": "rn"}),
    "sub": Instruction(np.subtract, 2, {_INTEGERS: "", **_ARITHMETIC}),
    "tanh": Instruction(np.tanh, 1, {f"f32 {_HALVES}": "approx"}),
    "xor": Instruction(np.bitwise_xor, 2, _LOGIC),
}

_COMPARISONS: dict[str, Callable[..., Array]] = {
    "eq": np.equal, "ne": lambda a, b: (a < b) | (a > b), "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
    "neu": np.not_equal, "equ": lambda a, b: ~((a < b) | (a > b)), "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b), "gtu": lambda a, b: ~(a <= b), "geu": lambda a, b: ~(a < b),
    "num": lambda a, b: (a == a) & (b == b), "nan": lambda a, b: (a != a) | (b != b),
}  # fmt: skip

_ALIKE, _ORDERED = "eq|ne", "eq|ne|lt|le|gt|ge"
_FLOATING = f"{_ORDERED}|equ|neu|ltu|leu|gtu|geu|num|nan"
#: Modifiers of setp, by the types.
_COMPARED = {
    _BITS: _ALIKE,
    _SIGNED: _ORDERED,
    _UNSIGNED: f"{_ORDERED}|lo|ls|hi|hs",
    "f16 bf16 f64": _FLOATING,
    "f32": f"{_FLOATING} ftz?",
}

#: Instructions that order or hint, and change no register.
_NOTHING = ("griddepcontrol.wait", "griddepcontrol.launch_dependents", "bar.sync", "membar.gl", "nanosleep.u32")


# -- programs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Statement:
    text: str
    mnemonic: str
    operands: tuple[str, ...]
    guard: tuple[str, bool] | None
    """A predicate, and the value of it for which nothing is done."""

    @property
    def parts(self) -> tuple[str, list[str], str]:
        """The root, the modifiers and the type."""
        root, *modifiers, type_ = self.mnemonic.split(".")
        return root, modifiers, type_

    def refused(self, why: str = "") -> UnsupportedError:
        return UnsupportedError(f"the inline assembly `{self.text}`{why and ': '}{why}")

    def check(self) -> None:
        """UnsupportedError for what has no row, and for another number of operands than the row has."""
        root, *parts = self.mnemonic.split(".")
        if root == "cvt" and len(parts) > 1:
            sources = operands_of(parts[-2], parts[-1], parts[:-2])
        else:
            row = INSTRUCTIONS.get(root)
            forms = _COMPARED if root == "setp" else row.forms if row else {}
            form = next((form for types, form in forms.items() if parts and parts[-1] in types.split()), None)
            if form is None:
                raise UnsupportedError(f"the inline assembly `{self.mnemonic}`")
            if not fits(form, parts[:-1]):
                raise UnsupportedError(f"the inline assembly `{self.mnemonic}`: allowed modifiers are {spelt(form)}")
            sources = row.operands if row else 2
        if len(self.operands) != sources + 1:
            raise self.refused(f"{len(self.operands)} operands; allowed are {sources + 1}")


@dataclass(frozen=True)
class _Registers:
    """Names and the bytes that each has, None of a predicate."""

    widths: Mapping[str, int | None]


class Snippet:
    """A parsed snippet. Raises UnsupportedError for what has no row here."""

    def __init__(self, code: str, constraints: Sequence[str]) -> None:
        self._constraints: dict[str, int] = {}
        for place, constraint in enumerate(c for c in constraints if not c.startswith("~")):
            width = _CONSTRAINTS.get(constraint.lstrip("=&+"))
            if width is None:
                raise UnsupportedError(f"inline assembly with the constraint {constraint!r}")
            self._constraints[f"${place}"] = width
        self._statements: list[_Statement | _Registers] = []
        plain = _COMMENT.sub(" ", code).replace("$$", "$")
        # Scopes, { ... } around statements, rename nothing here; braces of operands hold commas only.
        scopes: list[set[str]] = [set()]
        for text in plain.split(";"):
            statement = text.lstrip(" \t\r\n{}")
            for brace in re.findall(r"[{}]", text.removesuffix(statement)):
                scopes = [*scopes, set()] if brace == "{" else scopes[:-1] or [set()]
            if statement:
                self._add(statement.rstrip(), scopes)

    def _add(self, text: str, scopes: Sequence[set[str]]) -> None:
        if declared := _DECLARATION.match(text):
            registers = self._declared(text, declared[1], declared[2])
            for name in registers.widths:
                if any(name in scope for scope in scopes):
                    raise UnsupportedError(f"the inline assembly `{text}`: {name} again, where it is known")
            scopes[-1].update(registers.widths)
            self._statements.append(registers)
            return
        guard = _GUARD.match(text)
        body = text[guard.end() :] if guard else text
        mnemonic, rest = (*body.split(None, 1), "")[:2]
        if mnemonic in _NOTHING:
            return
        operands = tuple(operand.strip() for operand in _OPERANDS.findall(rest))
        statement = _Statement(text, mnemonic, operands, (guard[2], guard[1] == "!") if guard else None)
        statement.check()
        self._statements.append(statement)

    @staticmethod
    def _declared(text: str, type_: str, names: str) -> _Registers:
        if type_ not in (*WIDTHS, "pred"):
            raise UnsupportedError(f"the inline assembly `{text}`")
        widths: dict[str, int | None] = {}
        for name in names.split(","):
            ranged = _RANGE.match(name.strip())
            each = [f"{ranged[1]}{i}" for i in range(int(ranged[2]))] if ranged else [name.strip()]
            widths.update(dict.fromkeys(each, WIDTHS.get(type_)))
        return _Registers(widths)

    @property
    def widths(self) -> list[int]:
        """Bytes of the registers that the constraints ask for."""
        return list(self._constraints.values())

    def run(self, inputs: Sequence[Array], outputs: int, shape: tuple[int, ...]) -> list[Array]:
        """Bits of the input registers, behind those of the outputs in number, to bits of the output registers."""
        if len(self._constraints) != outputs + len(inputs):
            raise UnsupportedError(
                f"inline assembly with {len(self._constraints)} constraints for {outputs} output and "
                f"{len(inputs)} input registers"
            )
        machine = _Machine(self._constraints, inputs, outputs)
        for statement in self._statements:
            if isinstance(statement, _Registers):
                machine.widths.update(statement.widths)
            else:
                machine.execute(statement)
        missing = [i for i in range(outputs) if f"${i}" not in machine.registers]
        if missing:
            raise UnsupportedError(f"inline assembly that does not write ${missing[0]}")
        return [np.broadcast_to(machine.registers[f"${i}"], shape) for i in range(outputs)]


class _Machine:
    """Registers by name, as one run of a snippet changes them."""

    def __init__(self, constraints: Mapping[str, int], inputs: Sequence[Array], outputs: int) -> None:
        self.widths: dict[str, int | None] = {**constraints}
        self.registers: dict[str, Array] = {}
        for place, x in enumerate(inputs, outputs):
            self.registers[f"${place}"] = x.astype(f"u{constraints[f'${place}']}", copy=False)

    def execute(self, statement: _Statement) -> None:
        if statement.guard is None:
            self._execute(statement)
            return
        name, skipped = statement.guard
        predicate = self.registers.get(name)
        if predicate is None or predicate.dtype != bool:
            raise statement.refused(f"{name} is no predicate that was set")
        before = dict(self.registers)
        self._execute(statement)
        for name, value in self.registers.items():
            if name in before and before[name] is not value:
                self.registers[name] = np.where(predicate != skipped, value, before[name])

    def _execute(self, statement: _Statement) -> None:
        root, modifiers, type_ = statement.parts
        target, *sources = statement.operands
        if root == "cvt":
            result_type = modifiers.pop()
            held = register_type(type_)
            bits = [self._read(statement, text, held, wider=is_relaxed(type_)) for text in sources]
            result = convert(result_type, type_, modifiers, bits)
            self._write(statement, target, result, register_type(result_type), wider=is_relaxed(result_type))
            return
        kind = TYPES[type_]
        types = [_type_of(root, type_, place) for place in range(len(sources))]
        raw = [self._read(statement, text, t, parts=root == "mov") for text, t in zip(sources, types)]
        if root in ("mov", "selp"):  # bits, a NaN's as they are
            self._write(statement, target, INSTRUCTIONS[root].function(*raw), type_, parts=root == "mov")
            return
        values = [TYPES[t].read(x) for x, t in zip(raw, types)]
        flushes = "ftz" in modifiers
        if flushes:
            values = [flushed(x) for x in values]
        if root == "setp":
            comparison = next(name for name in modifiers if name in _COMPARISONS)
            self._write(statement, target, _COMPARISONS[comparison](*values), "pred")
            return
        row = INSTRUCTIONS[root]
        result = np.asarray(rounded((row.function(type_) if row.by_type else row.function)(*values), type_))
        self._write(statement, target, kind.write(flushed(result) if flushes else result), type_)

    def _read(self, statement: _Statement, text: str, type_: str, *, wider: bool = False, parts: bool = False) -> Array:
        """An operand's bits, as wide as the type, or wider."""
        width = WIDTHS.get(type_)
        if text.startswith("{"):
            names = [name.strip() for name in text[1:-1].split(",")]
            each = self._part(statement, text, width, len(names), parts)
            return _joined([self._read(statement, name, each) for name in names])
        if text in self.registers:
            bits = self.registers[text]
            self._check(statement, text, None if bits.dtype == bool else bits.dtype.itemsize, width, wider)
            return bits
        if match := _FLOAT_LITERAL.match(text):
            size = 4 if match[1] in "fF" else 8
            if type_ in (f"f{8 * size}", f"b{8 * size}") and len(match[2]) == 2 * size:
                return np.array(int(match[2], 16), f"u{size}")
        elif type_[0] in "bsu" and width is not None:
            try:
                return np.array(int(text, 0) & ((1 << 8 * width) - 1), f"u{width}")
            except ValueError:
                pass
        raise statement.refused(f"the operand {text}")

    def _write(
        self,
        statement: _Statement,
        text: str,
        bits: Array,
        type_: str,
        *,
        wider: bool = False,
        parts: bool = False,
    ) -> None:
        width = WIDTHS.get(type_)
        if text.startswith("{"):
            names = [name.strip() for name in text[1:-1].split(",")]
            each = self._part(statement, text, width, len(names), parts)
            for place, name in enumerate(names):
                shifted = bits >> bits.dtype.type(8 * WIDTHS[each] * place)
                self._write(statement, name, shifted.astype(f"u{WIDTHS[each]}"), each)
            return
        if text == "_":
            return
        if text not in self.widths:
            raise statement.refused(f"the register {text}, which is not declared")
        held = self.widths[text]
        self._check(statement, text, held, width, wider)
        if held != width and type_[0] == "s":
            bits = bits.view(f"i{width}").astype(f"i{held}")
        self.registers[text] = bits if held is None else bits.astype(f"u{held}")

    @staticmethod
    def _check(statement: _Statement, name: str, held: int | None, width: int | None, wider: bool) -> None:
        if held == width or (wider and held is not None and width is not None and held > width):
            return
        known, asked = ("a predicate" if bytes_ is None else f"{8 * bytes_} bits" for bytes_ in (held, width))
        raise statement.refused(f"{name} is {known}; allowed is {asked}{' or more' * wider}")

    @staticmethod
    def _part(statement: _Statement, text: str, width: int | None, count: int, parts: bool) -> str:
        """The type of each register of {a, b}."""
        each = f"b{8 * width // count}" if width is not None and width % count == 0 else ""
        if not parts or count < 2 or each not in WIDTHS:
            raise statement.refused(f"the operand {text}")
        return each


def _type_of(root: str, type_: str, place: int) -> str:
    """The type of a source, where it is not the instruction's."""
    if root in ("shl", "shr") and place == 1:
        return "u32"
    return "pred" if root == "selp" and place == 2 else type_


def _joined(parts: Sequence[Array]) -> Array:
    width = parts[0].dtype.itemsize
    whole = np.dtype(f"u{width * len(parts)}")
    result = np.zeros((), whole)
    for place, part in enumerate(parts):
        result = result | (part.astype(whole) << whole.type(8 * width * place))
    return result
