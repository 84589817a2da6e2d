"""The location table of a printed module: `#loc12 = loc(...)`."""

from __future__ import annotations

import linecache
import re
from functools import lru_cache
from pathlib import Path

from .ir import UNKNOWN_LOCATION, Location

_DEFINITION = re.compile(r"^#(loc\d*) = loc\((.*)\)$", re.M)
_FILE = re.compile(r'^"((?:[^"\\]|\\.)*)":(\d+):(\d+)$')
_NAMED = re.compile(r'^"(?:[^"\\]|\\.)*"\((.*)\)$')


class Locations:
    """Resolves a location to the innermost line of the user's own code.

    A call into Triton's library (`tl.cdiv`, `tl.sum`) is reported where the user calls it. A helper of the user's is
    reported at the helper's line, which is where the access stands.
    """

    def __init__(self, module_text: str, first_column: int) -> None:
        """`first_column` is 0 or 1: what the Triton version that printed the module counts from."""
        self._definitions = dict(_DEFINITION.findall(module_text))
        self._shift = 1 - first_column
        self._resolved: dict[str, Location] = {}

    def __getitem__(self, text: str) -> Location:
        if text not in self._resolved:
            frames = self._frames(text)
            own = [frame for frame in frames if not _is_triton_library(frame.file)]
            self._resolved[text] = (own or frames or [UNKNOWN_LOCATION])[0]
        return self._resolved[text]

    def _frames(self, text: str) -> list[Location]:
        """Innermost first."""
        text = text.strip()
        if text.startswith("#"):
            return self._frames(self._definitions.get(text[1:], "unknown"))
        if match := _FILE.match(text):
            return [Location(unescaped(match[1]), int(match[2]), int(match[3]) + self._shift)]
        if text.startswith("callsite("):
            callee, caller = _split_at(text[len("callsite(") : -1], " at ")
            return self._frames(callee) + self._frames(caller)
        if text.startswith("fused"):
            inner = text[text.index("[") + 1 : text.rindex("]")]
            return self._frames(_split_at(inner, ", ")[0])
        if match := _NAMED.match(text):
            return self._frames(match[1])
        return []


def call_within(function: Location, name: str) -> Location:
    """The first call of a function by that name from a line on: Triton says of some operations only whose they are."""
    lines = linecache.getlines(function.file)
    for number, line in enumerate(lines[function.line - 1 :], function.line):
        if f"{name}(" in line:
            return Location(function.file, number, line.index(f"{name}(") + 1)
    return function


def _split_at(text: str, separator: str) -> tuple[str, str]:
    """Split at the first `separator` that stands in no bracket and in no file name."""
    depth = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|.', text):
        i, char = match.start(), match[0]
        depth += (char in ("(", "[")) - (char in (")", "]"))
        if depth == 0 and text.startswith(separator, i):
            return text[:i], text[i + len(separator) :]
    return text, ""


def unescaped(name: str) -> str:
    r"""MLIR prints a quote, a backslash, and bytes that are no ASCII as `\\` and two hexadecimal digits."""
    if "\\" not in name:
        return name
    raw = re.sub(r"\\([0-9A-F]{2}|.)", lambda m: chr(int(m[1], 16)) if len(m[1]) == 2 else m[1], name)
    return raw.encode("latin-1").decode(errors="replace")


@lru_cache
def _library_root() -> Path:
    import triton

    return Path(triton.__file__).parent


@lru_cache(maxsize=1024)
def _is_triton_library(file: str) -> bool:
    return Path(file).is_relative_to(_library_root())
