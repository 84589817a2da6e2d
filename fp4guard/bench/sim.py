"""`fp4guard bench sim`: the simulator beside Triton's own interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..ttir.compiler import VERSION
from .comparison import Comparison
from .duel import Side, duel
from .rows import ROWS, Row

#: The first Triton whose interpreter knows tl.dot_scaled.
_FIRST_VERSION = (3, 8)


@dataclass(frozen=True)
class Measured:
    """A row of the result: medians of milliseconds, and the median of the rounds' ratios."""

    kernel: str
    shape: tuple[int, ...]
    interpreter_ms: float
    sim_ms: float
    ratio: float

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        times = f"{self.interpreter_ms:.1f}", f"{self.sim_ms:.2f}", f"{self.ratio:.1f}"
        return (self.kernel, "x".join(map(str, self.shape)), *times)


def interpreter_side() -> Side:
    """Triton's interpreter. UsageError when the Triton at hand is too old for the rows."""
    if VERSION < _FIRST_VERSION:
        now, first = (".".join(map(str, version)) for version in (VERSION, _FIRST_VERSION))
        raise UsageError(f"the interpreter of Triton {now} has no tl.dot_scaled; allowed are {first} and later")
    return Side("Triton's interpreter", _command("interpreter"), interpret=True)


def compare(rounds: int, rows: Sequence[Row] = ROWS) -> Iterator[Measured]:
    """Measure rows, each as often as there are rounds, both sides in turn."""
    with interpreter_side() as interpreter, Side("the simulator", _command("simulator"), interpret=False) as simulator:
        for row in rows:
            found = duel(interpreter, simulator, row.name, rounds)
            yield Measured(row.kernel, row.shape, found.first_ms, found.second_ms, found.ratio)


def _command(side: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "fp4guard.bench.sides", side)


COMPARISON = Comparison(
    "sim",
    (("kernel", "<18"), ("shape", ">14"), ("interpreter ms", ">17"), ("simulator ms", ">15"), ("ratio", ">8")),
    compare,
    averaged=True,
)
