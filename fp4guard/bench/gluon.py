"""`fp4guard bench gluon`: launches of Gluon kernels beside those of their twins in plain Triton, in the simulator."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import gluon_kernels, kernels
from .comparison import Comparison
from .duel import Side, duel
from .rows import ROWS, Row

#: What both are compiled for.
ARCH = "gfx950"

#: The rows of `fp4guard bench sim` whose kernel has a twin.
TWINS = tuple(row for row in ROWS if row.kernel in ("vector add", "softmax", "matmul fp16", "paged gather"))

#: What the preparation of a row launches, by side.
SIDES = {"triton": kernels, "gluon": gluon_kernels}


@dataclass(frozen=True)
class Measured:
    """A row of the result: medians of milliseconds, and the median of the rounds' ratios, Gluon's time to Triton's."""

    kernel: str
    shape: tuple[int, ...]
    triton_ms: float
    gluon_ms: float
    ratio: float

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        times = f"{self.triton_ms:.2f}", f"{self.gluon_ms:.2f}", f"{self.ratio:.2f}"
        return (self.kernel, "x".join(map(str, self.shape)), *times)


def compare(rounds: int, rows: Sequence[Row] = TWINS) -> Iterator[Measured]:
    """Measure rows, each as often as there are rounds, both sides in turn."""
    with _side("Gluon", "gluon") as first, _side("plain Triton", "triton") as second:
        for row in rows:
            found = duel(first, second, row.name, rounds)
            yield Measured(row.kernel, row.shape, found.second_ms, found.first_ms, found.ratio)


def _side(name: str, side: str) -> Side:
    return Side(name, (sys.executable, "-m", "fp4guard.bench.sides", side), interpret=False)


COMPARISON = Comparison(
    "gluon",
    (("kernel", "<18"), ("shape", ">14"), ("plain Triton ms", ">17"), ("Gluon ms", ">15"), ("ratio", ">8")),
    compare,
)
