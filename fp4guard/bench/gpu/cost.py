"""What guards cost on a GPU, beside plain launches and compute-sanitizer's memcheck."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from ...errors import UsageError
from ...fuzzing.case import Case
from ...fuzzing.loading import load_target
from ...gpu.allocators import TorchAllocator
from ...gpu.device import current_gpu
from ...gpu.examine import Examination
from ...gpu.guards import check_kernel, fill_kernel, return_kernel
from ...sim.hooks import Hooks
from .cost_cases import CASES
from .launches import launches_of, unanswered
from .plain import Times, plain_run, timed
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
    of torch is in none of them; the inputs' upload and the results' download are `transfers_ms`.

    Wall time of the whole: `whole_ms` a run without guards, `guarded_ms` a guarded case, its two runs and all checks;
    both from taking memory on, of data that the device has already, and without the oracle. `case_ms` is the case with
    its oracle.

    In processes of their own, the same runs without guards: `alone`, and `memcheck` below compute-sanitizer (None where
    that is not installed).
    """

    kernel: str
    plain_ms: float
    kernels_ms: float
    guards_ms: float
    ratio: float
    transfers_ms: float
    whole_ms: float
    guarded_ms: float
    case_ms: float
    alone: Times
    memcheck: Times | None

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        alone, below = self.alone, self.memcheck
        return (
            self.kernel,
            *(f"{time:.3f}" for time in (self.plain_ms, self.kernels_ms, self.guards_ms)),
            f"{self.ratio:.2f}",
            "" if below is None else f"{below.launch_ms / alone.launch_ms:.1f}",
            f"{self.whole_ms:.1f}",
            f"{self.guarded_ms / self.whole_ms:.1f}",
            "" if below is None else f"{below.whole_ms / alone.whole_ms:.1f}",
            f"{self.case_ms:.0f}",
            f"{alone.first_ms:.0f}",
        )


def _measure(scale: Scale) -> Iterator[Measured]:
    """Every case, one after the other: whatever runs beside it would be measured too."""
    device = current_gpu().device
    plain, checked = _times(PLAIN), _times(MEMCHECK) if is_there() else [None] * len(CASES)
    for (spec, arguments), alone, below in zip(CASES, plain, checked, strict=True):
        target = load_target(spec)
        case = Case({name: arguments[name] for name in target.recipes})
        examined = partial(Examination, case=case, device=device, allocator=TorchAllocator(device), cache={})
        run, launches = plain_run(spec, arguments, device), examined(launches_of(target))
        with unanswered():
            names = _kernels(run)  # compiles, and makes the data
            launches.findings()
            rounds = [
                _round(_device_times(run, names), _device_times(launches.findings, names)) for _ in range(_ROUNDS)
            ]
            whole = [(timed(run, device)[1], timed(launches.findings, device)[1]) for _ in range(_ROUNDS)]
        found, case_ms = timed(examined(target).findings, device)
        if found:
            raise UsageError(f"{spec}: {found[0].message}: what is wrong is not measured")
        plain_ms, kernels_ms, guards_ms, transfers_ms, ratio = _medians(rounds)
        whole_ms, guarded_ms = _medians(whole)
        yield Measured(
            spec.split("::")[1], plain_ms, kernels_ms, guards_ms, ratio, transfers_ms, whole_ms, guarded_ms, case_ms,
            alone, below,
        )  # fmt: skip


TABLE = Table(
    "cost",
    "What guards cost",
    "Milliseconds of the device for one run of the target without guards, and for the two guarded runs of a case: its "
    "own kernels, and filling, comparing and copying on the device for the guards; `ratio` is theirs to two plain "
    "runs. What else the target asks of torch is in none of them. `memcheck` is how many times as long the launches of "
    "a plain run take below compute-sanitizer, wall time, each waited for. `whole` is a plain run from taking its "
    "memory to the end of its last launch, with what the target does on the host, milliseconds of wall time; "
    "`guarded whole` is how many times as long a guarded case takes, its two runs and all checks, `memcheck whole` "
    "how many times as long a plain run does below memcheck. The device has their data already, and none of them asks "
    f"the oracle: `case` is a guarded case that does. Medians of {_ROUNDS}, plain and guarded in turn, and of 10 where "
    "a process of its own runs below memcheck, and one without. `first launch` is with its compilation.",
    (
        "kernel", "plain", "two guarded", "guards", "ratio", "memcheck", "whole", "guarded whole", "memcheck whole",
        "case", "first launch",
    ),
    _measure,
)  # fmt: skip


def _round(plain: Mapping[str, float], guarded: Mapping[str, float]) -> tuple[float, float, float, float, float]:
    """A plain run, then a guarded case's kernels, guards and transfers, in milliseconds; and their ratio.

    A plain run has no guards: what is counted as such there is copied by the target itself, in each run.
    """
    guards = guarded["guards"] - 2 * plain["guards"]
    ratio = (guarded["kernels"] + guards) / (2 * plain["kernels"])
    return plain["kernels"], guarded["kernels"], guards, guarded["transfers"], ratio


def _medians(rounds: Sequence[Sequence[float]]) -> Iterator[float]:
    return map(statistics.median, zip(*rounds, strict=True))


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


def _times(tool: Tool) -> list[Times]:
    """What `fp4guard.bench.gpu.plain` prints of each case, below a tool."""
    ended = run_below(tool, "fp4guard.bench.gpu.plain")
    lines = [Times(**json.loads(line)) for line in ended.stdout.splitlines() if line.startswith("{")]
    if len(lines) != len(CASES):
        raise UsageError(f"{tool.name} ended with status {ended.returncode}: {ended.stderr[-2000:]}")
    return lines
