"""What guards cost on a GPU, beside plain launches and compute-sanitizer's memcheck."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from ...errors import UsageError
from ...fuzzing.case import Case
from ...fuzzing.loading import load_target
from ...fuzzing.target import Target
from ...gpu.allocators import TorchAllocator
from ...gpu.device import current_gpu
from ...gpu.examine import Examination
from ...gpu.guards import check_kernel, fill_kernel, return_kernel
from ...gpu.plain import PlainMemory
from ...sim.hooks import Hooks
from .cost_cases import CASES
from .launches import launches_of, unanswered
from .sanitizer import MEMCHECK, PLAIN, Tool, is_there, run_below
from .table import Scale, Table

#: Times that the device's part is measured, plain and guarded in turn: medians are told.
_ROUNDS = 5

#: Copies by how the profiler names them. Of those on the device, as many are the target's own as a plain run has.
_COPIES = {"Memcpy HtoD": "transfers", "Memcpy DtoH": "transfers", "Memcpy DtoD": "guards"}
_GUARDS = frozenset(kernel.fn.__name__ for kernel in (fill_kernel, check_kernel, return_kernel))


@dataclass(frozen=True)
class Measured:
    """A row of the result, in milliseconds.

    On the device: `plain_ms` the target's kernels in one run without guards; `kernels_ms` the same in the two runs of a
    guarded case; `guards_ms` filling, copying and comparing. `ratio` is theirs to two plain runs. What the target asks
    of torch is in none of them; the inputs' upload and the results' download are `transfers_ms`. `case_ms` is the whole
    case with its oracle, wall time.

    Wall time of the launches alone, each waited for: `launch_ms` plain, `memcheck_ms` below compute-sanitizer (None
    where that is not installed), `first_ms` with the compilation.
    """

    kernel: str
    plain_ms: float
    kernels_ms: float
    guards_ms: float
    ratio: float
    transfers_ms: float
    case_ms: float
    launch_ms: float
    memcheck_ms: float | None
    first_ms: float

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        slower = "" if self.memcheck_ms is None else f"{self.memcheck_ms / self.launch_ms:.1f}"
        times = (f"{time:.3f}" for time in (self.plain_ms, self.kernels_ms, self.guards_ms))
        return (self.kernel, *times, f"{self.ratio:.2f}", slower, f"{self.case_ms:.0f}", f"{self.first_ms:.0f}")


def _measure(scale: Scale) -> Iterator[Measured]:
    """Every case, one after the other: whatever runs beside it would be measured too."""
    gpu = current_gpu()
    alone, checked = _launches(PLAIN), _launches(MEMCHECK) if is_there() else [None] * len(CASES)
    for (spec, arguments), plainly, below in zip(CASES, alone, checked, strict=True):
        target = load_target(spec)
        case = Case({name: arguments[name] for name in target.recipes})
        allocator, cache = TorchAllocator(gpu.device), dict[str, Any]()
        with unanswered():
            launches = launches_of(target)
            names = _kernels(partial(_run_plain, launches, case, cache, gpu.device))  # compiles, and makes the data
            Examination(launches, case, gpu.device, allocator, cache).findings()
            rounds = []
            for _ in range(_ROUNDS):
                plain = _device_times(partial(_run_plain, launches, case, cache, gpu.device), names)
                guarded = _device_times(Examination(launches, case, gpu.device, allocator, cache).findings, names)
                rounds.append(_round(plain, guarded))
        plain_ms, kernels_ms, guards_ms, transfers_ms, ratio = map(statistics.median, zip(*rounds, strict=True))
        began = time.perf_counter()
        if found := Examination(target, case, gpu.device, allocator, cache).findings():
            raise UsageError(f"{spec}: {found[0].message}: what is wrong is not measured")
        spent = (time.perf_counter() - began) * 1e3
        yield Measured(
            spec.split("::")[1],
            plain_ms,
            kernels_ms,
            guards_ms,
            ratio,
            transfers_ms,
            spent,
            plainly["launch_ms"],
            None if below is None else below["launch_ms"],
            plainly["first_ms"],
        )


TABLE = Table(
    "cost",
    "What guards cost",
    "Milliseconds of the device for one run of the target without guards, and for the two guarded runs of a case: its "
    "own kernels, and filling, comparing and copying on the device for the guards; `ratio` is theirs to two plain "
    f"runs. What else the target asks of torch is in none of them. Medians of {_ROUNDS}, in turn. `memcheck` is how "
    "many times as long launches take below compute-sanitizer, wall time, each waited for; `case` the whole case with "
    "its oracle and `first launch` with its compilation, milliseconds of wall time.",
    ("kernel", "plain", "two guarded", "guards", "ratio", "memcheck", "case", "first launch"),
    _measure,
)


def _round(plain: Mapping[str, float], guarded: Mapping[str, float]) -> tuple[float, float, float, float, float]:
    """A plain run, then a guarded case's kernels, guards and transfers, in milliseconds; and their ratio.

    A plain run has no guards: what is counted as such there is copied by the target itself, in each run.
    """
    guards = guarded["guards"] - 2 * plain["guards"]
    ratio = (guarded["kernels"] + guards) / (2 * plain["kernels"])
    return plain["kernels"], guarded["kernels"], guards, guarded["transfers"], ratio


def _run_plain(launches: Target, case: Case, cache: dict[str, Any], device: torch.device) -> None:
    launches.function(PlainMemory(case, cache, device), **case.arguments)


def _kernels(work: Callable[[], object]) -> set[str]:
    """Names of the Triton kernels that are launched."""
    names = set[str]()

    def named(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            names.add(kernel.fn.__name__)
            return original(kernel, *args, **kwargs)

        return run

    with Hooks((JITFunction, "run", named)).installed():
        work()
    return names


def _device_times(work: Callable[[], object], names: set[str]) -> Mapping[str, float]:
    """Milliseconds that the device spent on kernels, guards and transfers; `names` are the target's own kernels."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    spent = {"kernels": 0.0, "guards": 0.0, "transfers": 0.0}
    for event in profile.events():
        if event.device_type.name == "CUDA":
            sort = _sort(event.name, names)
            if sort is not None:
                spent[sort] += event.time_range.elapsed_us() / 1e3
    if not spent["kernels"]:
        raise UsageError("the profiler of torch saw no kernel on this device; it needs CUPTI's access to it")
    return spent


def _sort(name: str, names: set[str]) -> str | None:
    if name in names:
        return "kernels"
    if name in _GUARDS:
        return "guards"
    return next((sort for begin, sort in _COPIES.items() if name.startswith(begin)), None)


def _launches(tool: Tool) -> list[dict[str, float]]:
    """What `fp4guard.bench.gpu.plain` prints of each case, below a tool."""
    ended = run_below(tool, "fp4guard.bench.gpu.plain")
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    if len(lines) != len(CASES):
        raise UsageError(f"{tool.name} ended with status {ended.returncode}: {ended.stderr[-2000:]}")
    return lines
