"""Types as MLIR prints them, and the layouts that they name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .ir import Type
from .text import split

_TENSOR = re.compile(r"^tensor<((?:\d+x)*)(.*)>$")
_DESCRIPTOR = re.compile(r"^!?(?:tt\.tensordesc)?<(?:tensor<)?([^<>]*)>?>$")
_MEMDESC = re.compile(r"^(?:!ttg\.memdesc)<((?:\d+x)*)(.*)>$")
_ALIAS = re.compile(r"^#([a-zA-Z]\w*) = (#(?:ttg|ttng)\..*)$", re.M)
_USE = re.compile(r"#([a-zA-Z]\w*)(?![\w.])")

#: Names of layouts, as a module defines them at its top: `#blocked` -> `#ttg.blocked<{...}>`.
Aliases = Mapping[str, str]


def layout_aliases(module_text: str) -> dict[str, str]:
    """The names that a module gives to layouts; those inside of others are spelled out."""
    found: dict[str, str] = {}
    for name, text in _ALIAS.findall(module_text):
        found[name] = spelled_out(text, found)
    return found


def spelled_out(text: str, aliases: Aliases) -> str:
    """A layout with the names in it replaced by what they stand for."""
    return _USE.sub(lambda use: aliases.get(use[1], use[0]), text)


def parse_type(text: str, aliases: Aliases | None = None) -> Type:
    """Parse `i32`, `!tt.ptr<f16>`, `tensor<4x8xbf16>`, `!ttg.memdesc<4x8xf16, #shared, ...>`, with or without a layout.

    >>> parse_type("tensor<32x64x!tt.ptr<i8>>")
    Type(element='ptr', shape=(32, 64), pointee='i8', layout='')
    """
    text = text.strip()
    if match := _TENSOR.match(text):
        element, *layout = split(match[2])
        inner = parse_type(element)
        return Type(inner.element, _sizes(match[1]), inner.pointee, spelled_out("".join(layout), aliases or {}))
    if match := _MEMDESC.match(text):
        element, *layout = split(match[2])
        return Type("memdesc", _sizes(match[1]), element, spelled_out(", ".join(layout), aliases or {}))
    if text.startswith("!tt.tensordesc") and (match := _DESCRIPTOR.match(text)):
        return Type("tensordesc", (), f"tensor<{match[1]}>")  # the block's type, which Triton 3.8 prints in short
    if text.startswith("!tt.ptr<"):
        return Type("ptr", (), split(text[len("!tt.ptr<") : -1])[0])
    return Type("token" if text == "!ttg.async.token" else text)


def _sizes(printed: str) -> tuple[int, ...]:
    return tuple(int(n) for n in printed.split("x")[:-1])
