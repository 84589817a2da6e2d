"""What a kernel was compiled for, held against what it is launched with.

A launch through `kernel[grid]` specialises anew, and promises only what is so. Host code that keeps the compiled kernel
launches what was made for other arguments: a pointer said to be a multiple of 16 that is none faults on a GPU, or reads
its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from ..ttir import Location, Operation
from .callers import launching_line
from .elements import ELEMENTS
from .trace import Site, Trace

#: By a parameter's name and its place in a tuple.
Promised = Mapping[tuple[str, tuple[int, ...]], frozenset[str]]


def report_broken(trace: Trace, kernel: str, promised: Promised, given: Promised) -> None:
    """Note, at the line of the launch, each promise about an argument that does not hold of the one it is given."""
    for (name, place), what in promised.items():
        for one in sorted(what - given.get((name, place), frozenset())):
            argument = name + "".join(f"[{i}]" for i in place)
            promise = f"`{argument}` is not {one}, which it was when {kernel} was compiled"
            where = launching_line() or Location("<unknown>", 0, 0)
            trace.add("assert-failed", _site(kernel, where, promise), None, None, np.zeros(1, np.int64), (1, 1, 1))


@cache
def _site(kernel: str, where: Location, promise: str) -> Site:
    """One site for all runs of a case: what is found in each of them is one finding."""
    return Site(kernel, Operation("launch", (), (), where, {"promise": promise}), ELEMENTS["i8"])
