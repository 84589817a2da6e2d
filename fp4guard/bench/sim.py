"""`fp4guard bench sim`: the simulator beside Triton's own interpreter."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .duel import Side, duel
from .rows import ROWS


def compare(
    rounds: int, numbers: Sequence[int] = range(len(ROWS)), done: Callable[[dict[str, Any]], None] = lambda row: None
) -> dict[str, Any]:
    """Measure rows, by number; `done` is told each one as it is there.

    Returns {"sim": {"geomean": .., "rows": [{"kernel", "shape", "interpreter_ms", "sim_ms", "ratio"}]}}.
    """
    rows = []
    with _side("interpreter", interpret=True) as interpreter, _side("simulator", interpret=False) as simulator:
        for number in numbers:
            found = duel(interpreter, simulator, str(number), rounds)
            rows.append(
                {
                    "kernel": ROWS[number].kernel,
                    "shape": list(ROWS[number].shape),
                    "interpreter_ms": round(found.first_ms, 3),
                    "sim_ms": round(found.second_ms, 3),
                    "ratio": round(found.ratio, 2),
                }
            )
            done(rows[-1])
    geomean = math.exp(sum(math.log(row["ratio"]) for row in rows) / len(rows))
    return {"sim": {"geomean": round(geomean, 2), "rows": rows}}


def _side(name: str, *, interpret: bool) -> Side:
    return Side(name, (sys.executable, "-m", "fp4guard.bench.sides", name), interpret=interpret)
