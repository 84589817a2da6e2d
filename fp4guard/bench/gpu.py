"""`fp4guard bench gpu`: what guards cost on a GPU, beside plain launches and compute-sanitizer's memcheck."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from ..errors import UsageError
from ..fuzzing.case import Case
from ..fuzzing.loading import load_target
from ..fuzzing.target import Target
from ..gpu.allocators import Arena
from ..gpu.device import current_gpu
from ..gpu.examine import Examination
from ..gpu.guards import check_kernel, fill_kernel
from ..gpu.plain import PlainMemory
from .gpu_cases import CASES
from .launches import launches_of, unanswered

#: Names of the guards' own kernels.
_GUARDS = (fill_kernel.fn.__name__, check_kernel.fn.__name__)


@dataclass(frozen=True)
class Measured:
    """A row of the result, in milliseconds.

    On the device: `plain_ms` the target's kernels in one run without guards; `kernels_ms` the same in the two runs of a
    guarded case; `guards_ms` filling, comparing and copying on the device. `ratio` is theirs to two plain runs; the
    inputs' upload and the results' download are `transfers_ms`. `case_ms` is the whole case with its oracle, wall time.

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


def compare() -> Iterator[Measured]:
    """Measure every case; UsageError where there is no GPU."""
    gpu = current_gpu()
    for place, (spec, arguments) in enumerate(CASES):
        target = load_target(spec)
        case = Case({name: arguments[name] for name in target.recipes})
        arenas, cache = (Arena(gpu.device), Arena(gpu.device)), dict[str, Any]()
        whole = Examination(target, case, gpu.device, arenas, cache)
        if whole.findings():  # compiles, and makes the data
            raise UsageError(f"{spec}: the case has findings; what is wrong is not measured")
        began = time.perf_counter()
        whole.findings()
        spent = (time.perf_counter() - began) * 1e3
        with unanswered():
            launches = launches_of(spec)
            plain = _device_times(partial(_run_plain, launches, case, cache, gpu.device))
            guarded = _device_times(Examination(launches, case, gpu.device, arenas, cache).findings)
        alone, checked = _launches(place, ()), _launches(place, ("compute-sanitizer", "--tool", "memcheck"))
        assert alone is not None
        yield Measured(
            spec.split("::")[1],
            plain["kernels"],
            guarded["kernels"],
            guarded["guards"],
            (guarded["kernels"] + guarded["guards"]) / (2 * plain["kernels"]),
            guarded["transfers"],
            spent,
            alone["launch_ms"],
            None if checked is None else checked["launch_ms"],
            alone["first_ms"],
        )


def _run_plain(launches: Target, case: Case, cache: dict[str, Any], device: torch.device) -> None:
    launches.function(PlainMemory(case, cache, device), **case.arguments)


def as_json(rows: list[Measured]) -> dict[str, Any]:
    """{"gpu": {"device", "rows": [{"kernel", ...}]}}, the fields of `Measured`."""
    return {"gpu": {"device": torch.cuda.get_device_name(), "rows": [asdict(row) for row in rows]}}


def as_markdown(rows: list[Measured]) -> str:
    """A table of the device's times and of memcheck's, and what they were measured on."""
    lines = [
        "| kernel | plain ms | two guarded runs ms | guards ms | guarded / two plain | case ms | memcheck / plain |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        slower = "" if row.memcheck_ms is None else f"{row.memcheck_ms / row.launch_ms:.1f}"
        lines.append(
            f"| {row.kernel} | {row.plain_ms:.3f} | {row.kernels_ms:.3f} | {row.guards_ms:.3f} | {row.ratio:.2f} | "
            f"{row.case_ms:.0f} | {slower} |"
        )
    versions = ", ".join(f"{name} {version(name)}" for name in ("fp4guard", "triton", "torch"))
    return "\n".join([*lines, "", f"{torch.cuda.get_device_name()}, {date.today()}, {versions}."]) + "\n"


def _device_times(work: Any) -> Mapping[str, float]:
    """Milliseconds that the device spent, by what on."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    spent = {"kernels": 0.0, "guards": 0.0, "transfers": 0.0}
    for event in profile.events():
        if event.device_type.name == "CUDA":
            spent[_sort(event.name)] += event.time_range.elapsed_us() / 1e3
    if not spent["kernels"]:
        raise UsageError("the profiler of torch saw no kernel on this device; it needs CUPTI's access to it")
    return spent


def _sort(name: str) -> str:
    if name.startswith(("Memcpy HtoD", "Memcpy DtoH")):
        return "transfers"
    if name in _GUARDS or name.startswith(("Memcpy", "Memset")):
        return "guards"
    return "kernels"


def _launches(place: int, tool: tuple[str, ...]) -> Mapping[str, float] | None:
    """What `fp4guard.bench.plain` prints, below a tool; None where the tool is not there."""
    if tool and shutil.which(tool[0]) is None:
        return None
    command = [*tool, sys.executable, "-m", "fp4guard.bench.plain", str(place)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise UsageError(f"{' '.join(command)} ended with status {ended.returncode}: {ended.stderr[-2000:]}")
    return dict(json.loads(lines[-1]))
