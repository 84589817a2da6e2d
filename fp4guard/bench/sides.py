"""The two sides of `fp4guard bench sim` and of `bench gluon`: one launch of a row, in Triton's interpreter, in the
simulator, and there in plain Triton or in Gluon.

    python -m fp4guard.bench.sides interpreter | simulator | triton | gluon

Requests are names of rows. What is timed is the launch with everything that happens for it (argument binding, the
cache of compiled kernels, all checks), not the making of its arguments.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from ..errors import UsageError
from ..fuzzing.case import Case
from ..fuzzing.memory import CaseMemory
from ..memory import ALL_ONES
from ..sim import Simulator
from ..ttir import parse_arch
from .duel import serve
from .rows import ROWS, Row

ARCH = "sm_90"


@cache
def _data(row: Row) -> dict[str, Any]:
    return {}


def memory_of(row: Row) -> CaseMemory:
    """Guarded memory for a row's arguments; what they hold is the same every time."""
    return CaseMemory(Case({}, seed=0, regime="exact", layout=0), ALL_ONES, _data(row))


def interpreter(row: Row) -> float:
    """Milliseconds of one launch; the process runs with TRITON_INTERPRET=1."""
    return _milliseconds(row.prepare(memory_of(row), *row.shape))


def simulator(row: Row) -> float:
    """Milliseconds of one launch in the simulator. UsageError when it finds something, which no row has."""
    return _simulated(row, ARCH)


def twin(side: str, row: Row) -> float:
    """As `simulator`, of a kernel that is there in plain Triton and in Gluon, compiled for an AMD GPU."""
    from . import gluon

    return _simulated(row, gluon.ARCH, module=gluon.SIDES[side])


def _simulated(row: Row, arch: str, **options: Any) -> float:
    memory = memory_of(row)
    simulator = Simulator(memory, parse_arch(arch))
    launch = row.prepare(memory, *row.shape, **options)
    with simulator.intercepting():
        found = _milliseconds(launch)
    if simulator.trace.incidents:
        raise UsageError(f"the simulator reports {', '.join(sorted({i[0] for i in simulator.trace.incidents}))}")
    return found


def _milliseconds(launch: Callable[[], object]) -> float:
    gc.disable()
    start = time.perf_counter()
    launch()
    found = (time.perf_counter() - start) * 1e3
    gc.enable()
    return found


def _median(side: Callable[[Row], float], row: Row) -> float:
    """Of as many launches as fit 50 ms, at least one: a single short one would time a processor that wakes up."""
    end, found = time.perf_counter() + 0.05, [side(row)]
    while time.perf_counter() < end:
        found.append(side(row))
    return statistics.median(found)


if __name__ == "__main__":
    sides = {"interpreter": interpreter, "simulator": simulator}
    side = sides.get(sys.argv[1]) or partial(twin, sys.argv[1])
    rows = {row.name: row for row in ROWS}
    serve(lambda request: _median(side, rows[request]))
