"""`python -m fp4guard.bench.gpu.plain`: runs of every case of `cost_cases` without guards, timed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeVar

import torch
from triton.runtime.jit import JITFunction

from ...fuzzing.case import Case
from ...fuzzing.loading import load_target
from ...gpu.device import current_gpu
from ...gpu.plain import PlainMemory
from ...sim.hooks import Hooks
from .cost_cases import CASES
from .launches import launches_of, unanswered

T = TypeVar("T")

#: Runs that are timed, behind one that compiles.
_RUNS = 10


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of wall time: of the launches of a run, each waited for; of the whole run, from taking its memory to
    the end of its last launch; and of the launches of the first run, which are compiled.
    """

    launch_ms: float
    whole_ms: float
    first_ms: float


def timed(work: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """What it returns, and the milliseconds of wall time until the device is done with it."""
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    result = work()
    torch.cuda.synchronize(device)
    return result, (time.perf_counter() - began) * 1e3


def plain_run(spec: str, arguments: dict[str, Any], device: torch.device) -> Callable[[], None]:
    """A run of a target up to its first question to the oracle, to be called within `unanswered`; its data are drawn
    once.
    """
    target = launches_of(load_target(spec))
    case = Case({name: arguments[name] for name in target.recipes})
    cache: dict[str, Any] = {}
    return lambda: target.function(PlainMemory(case, cache, device), **case.arguments)


def times_of(spec: str, arguments: dict[str, Any]) -> Times:
    """Medians of ten runs behind the first."""
    device = current_gpu().device
    run = plain_run(spec, arguments, device)
    launches: list[float] = []
    whole: list[float] = []

    def waited_for(original: Callable[..., Any]) -> Callable[..., Any]:
        def launch(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            result, spent = timed(lambda: original(kernel, *args, **kwargs), device)
            launches[-1] += spent
            return result

        return launch

    with unanswered(), Hooks((JITFunction, "run", waited_for)).installed():
        for _ in range(1 + _RUNS):
            launches.append(0.0)
            whole.append(timed(run, device)[1])
    return Times(median(launches[1:]), median(whole[1:]), launches[0])


def main() -> None:
    """Print `Times` of each case, a line of JSON each."""
    for spec, arguments in CASES:
        print(json.dumps(asdict(times_of(spec, arguments))), flush=True)


if __name__ == "__main__":
    main()
