"""Cutting up what MLIR prints: brackets, lists, attributes."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MARK = re.compile(r"[()\[\]{}<>,:]")


def brackets(text: str) -> Iterator[tuple[int, str, int]]:
    """Each bracket, comma, colon with the depth of the brackets around it; the `>` of an arrow is none."""
    depth = 0
    for match in _MARK.finditer(text):
        i, char = match.start(), match[0]
        closes = char in ")]}" or (char == ">" and text[i - 1] != "-")
        depth -= closes
        yield i, char, depth
        depth += char in "([{<"


def split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    parts, start = [], 0
    for i, char, depth in brackets(text):
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def unparenthesised(text: str) -> str:
    """Without the parentheses around all of it, if there are any."""
    text = text.strip()
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def split_types(text: str) -> tuple[str, str]:
    """Split `operands : types` at the first ` : ` outside brackets."""
    for i, char, depth in brackets(text):
        if char == ":" and depth == 0 and text[i - 1 : i + 2] == " : ":
            return text[:i].strip(), text[i + 1 :].strip()
    return text.strip(), ""


def split_attributes(text: str) -> tuple[str, dict[str, object]]:
    """`%x {axis = 1 : i32}` -> what stands before the braces, and what they hold."""
    for i, char, depth in brackets(text):
        if char == "{" and depth == 0:
            return text[:i], parse_attributes(text[i + 1 : text.rindex("}")])
    return text, {}


def until_attributes(text: str) -> str:
    """An argument's type, without the attributes and the location behind it."""
    return text.split(" {")[0].split(" loc(")[0].rstrip(" ,")


def parse_attributes(text: str) -> dict[str, object]:
    """`axis = 1 : i32, order = array<i32: 1, 0>, fast` -> {"axis": 1, "order": (1, 0), "fast": True}."""
    found: dict[str, object] = {}
    for part in split(text):
        key, equals, value = part.partition(" = ")
        if key:
            found[key] = parse_attribute(value) if equals else True
    return found


def parse_attribute(text: str) -> object:
    """An integer, a tuple of integers, a truth, or the text as it is."""
    if match := re.match(r"^(-?\d+)(?: : \w+)?$", text):
        return int(match[1])
    if match := re.match(r"^array<\w+(?:: (.*))?>$", text):
        return tuple(int(n) for n in (match[1] or "").split(", ") if n)
    if text in ("true", "false"):
        return text == "true"
    return text.strip('"')
