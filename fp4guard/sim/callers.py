"""The line of host code that launches a kernel."""

from __future__ import annotations

import linecache
import sys
from functools import cache
from pathlib import Path
from types import FrameType

import torch
import triton

from ..ttir import Location


def launching_line() -> Location | None:
    """Of the innermost frame that is neither Triton's nor ours; the column is that of the line's first character."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file, number = frame.f_code.co_filename, frame.f_lineno
        if not _is_inner(file):
            line = linecache.getline(file, number)
            return Location(file, number, 1 + len(line) - len(line.lstrip()))
        frame = frame.f_back
    return None


_HERE = Path(__file__).parent
_INNER = [
    *(Path(str(package.__file__)).parent for package in (triton, torch)),
    *(_HERE.with_name(room) for room in ("sim", "session", "gpu")),
]


@cache
def _is_inner(file: str) -> bool:
    return file.startswith("<") or any(Path(file).is_relative_to(root) for root in _INNER)
