"""`python -m fp4guard.bench.gpu.plain`: launches of every case of `cost_cases` without guards, timed."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from ...fuzzing.case import Case
from ...fuzzing.loading import load_target
from ...gpu.device import current_gpu
from ...gpu.plain import PlainMemory
from ...sim.hooks import Hooks
from .cost_cases import CASES
from .launches import launches_of, unanswered

#: Runs that are timed, behind one that compiles.
_RUNS = 10


def launch_times(spec: str, arguments: dict[str, Any]) -> list[float]:
    """Milliseconds of wall time from launch to end, the launches of a run of the target added up, for each run."""
    device = current_gpu().device
    target = launches_of(load_target(spec))
    case = Case({name: arguments[name] for name in target.recipes})
    cache: dict[str, Any] = {}
    spent: list[float] = []

    def timed(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            torch.cuda.synchronize(device)
            began = time.perf_counter()
            result = original(kernel, *args, **kwargs)
            torch.cuda.synchronize(device)
            spent[-1] += (time.perf_counter() - began) * 1e3
            return result

        return run

    with unanswered(), Hooks((JITFunction, "run", timed)).installed():
        for _ in range(1 + _RUNS):
            spent.append(0.0)
            target.function(PlainMemory(case, cache, device), **case.arguments)
    return spent


def main() -> None:
    """Print the time of the first run and the median of the others, a line of JSON for each case."""
    for spec, arguments in CASES:
        first, *others = launch_times(spec, arguments)
        print(json.dumps({"first_ms": first, "launch_ms": statistics.median(others)}), flush=True)


if __name__ == "__main__":
    main()
