"""One case, examined on a GPU: the runs that differ in poison, and every check over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from hypothesis.errors import UnsatisfiedAssumption
from triton.runtime.jit import JITFunction

from ..checks import KINDS, Finding, Record, outputs
from ..checks.answered import Answered, answers_of
from ..checks.coverage import Coverage
from ..checks.record import check_tensor, differing
from ..errors import UsageError
from ..fuzzing.blame import ends_the_case, failure, is_ours, placed
from ..fuzzing.case import Case
from ..fuzzing.examine import Report, one_thread, seeded, written_by_none
from ..fuzzing.target import Target
from ..memory import ALL_ONES, ORDINARY, GuardAllocations, Memory, Poison
from ..sim import Trace
from ..sim.callers import launching_line
from ..sim.hooks import Hooks
from . import guards
from .allocators import Allocator, TorchAllocator
from .arguments import GuardedArguments
from .check import Verdict, compare, counterpart, mirror, note_written
from .device import current_gpu
from .guard_pages import ENDS, GuardPages
from .memory import DeviceMemory
from .region import DeviceRegion

#: Told of every launch before it begins: the kernel's name, and the line of host code.
Announce = Callable[[str, str], None]


def examine_on_gpu(
    target: Target, case: Case, defect: str | None, guard_pages: bool, announce: Announce
) -> tuple[Report, bool]:
    """Run one case on the current GPU and check it; and whether the process can go on using the GPU.

    With `guard_pages`, twice: with buffers that end at a page that is not mapped, then with such that begin at one.
    Raises UsageError for a target that is written for another architecture.
    """
    gpu = current_gpu()
    if target.arch is not None and target.arch.name != gpu.arch:
        raise UsageError(f"device: it is {gpu.arch}, and {target.name} is written for {target.arch.name}")
    placements = [_pages(gpu.device, end) for end in ENDS] if guard_pages else [TorchAllocator(gpu.device)]
    findings: list[Finding] = []
    answers: Mapping[str, Answered] = {}
    runs, usable = 0, True
    with one_thread(), _LAUNCHES.telling(_announce, announce):
        for allocator in placements:
            examination = Examination(target, case, gpu.device, allocator)
            findings = examination.findings()
            runs, usable, answers = runs + examination.runs, examination.usable, examination.answered
            if findings:
                break
    found = tuple(sorted(findings, key=lambda finding: list(KINDS).index(finding.kind)))
    return Report(target, case, gpu.arch, found, runs, defect, Coverage(), answered=answers), usable


@dataclass(frozen=True)
class Run:
    """One run of the target: its memory, still on the device, and an exception of the target's own."""

    memory: DeviceMemory
    error: BaseException | None


class Examination:
    """The checks of one case on one device; `usable` turns False when the device's context is lost to a fault.

    `cache` keeps the data of the case, for other examinations of it. `answered` is what a case without findings left.
    """

    def __init__(
        self, target: Target, case: Case, device: torch.device, allocator: Allocator,
        cache: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._target, self._case, self._device, self._allocator = target, case, device, allocator
        self._cache: dict[str, Any] = {} if cache is None else cache
        self.runs, self.usable = 0, True
        self.answered: Mapping[str, Answered] = {}

    def findings(self) -> list[Finding]:
        """Everything that is wrong with the case."""
        try:
            return self._checked()
        except DeviceError as fault:
            self.usable = False
            return [fault.finding]
        except torch.OutOfMemoryError as error:
            self.usable = False
            return [Finding("crash", f"the device is out of memory: {str(error).splitlines()[0]}")]

    def _checked(self) -> list[Finding]:
        try:
            runs = []
            for poison in (ALL_ONES, ORDINARY):
                runs.append(self._run(poison))
                if (error := runs[-1].error) is not None:
                    return [failure(error)]
            first, second = runs
            verdict = compare(first.memory, second.memory, self._device)
            return self._wrong(second) if verdict.clean else self._all(first, second, verdict)
        except (DeviceError, torch.OutOfMemoryError):
            raise
        except BaseException:  # a test that is skipped, too
            self._wait()  # whatever it was, the device's own error comes first, or the next case would be blamed for it
            raise

    def _run(self, poison: Poison) -> Run:
        self.runs += 1
        memory = DeviceMemory(self._case, poison, self._cache, self._allocator)
        with seeded(self._case.seed):
            if self._device.type != "cpu":
                torch.cuda.manual_seed(self._case.seed)
            try:
                with GuardAllocations(memory), GuardedArguments(memory).active():
                    self._target.function(memory, **self._case.arguments)
            except (UnsatisfiedAssumption, torch.OutOfMemoryError):
                raise
            except BaseException as raised:
                if not ends_the_case(raised):
                    raise
                self._wait()
                if is_ours(raised):
                    raise placed(raised, self._case) from raised
                return Run(memory, raised)
        return Run(memory, None)

    def _wait(self) -> None:
        """Wait for the device; DeviceError when it has failed, which no later call of this process survives."""
        if self._device.type == "cpu":
            return
        try:
            torch.cuda.synchronize(self._device)
        except Exception as error:
            raise DeviceError(str(error)) from None

    def _wrong(self, second: Run) -> list[Finding]:
        """Nothing was touched that must not be, and nothing depends on poison: what is left are the values."""
        answered = second.memory.expectations.items()
        names = {second.memory.region_of(tensor, name).name for name, (tensor, _) in answered}
        host = mirror(second.memory, names)
        for region in host:
            region.seal()
        record = _record(second, host, dict(second.memory.expectations))
        wrong = outputs.wrong_values(record, {})
        if not wrong:
            self.answered = answers_of(record)
        return wrong

    def _all(self, first: Run, second: Run, verdict: Verdict) -> list[Finding]:
        records = self._records(first, second)
        one, other = records
        unstable = differing(one, other)
        random = {}
        if unstable:
            again = self._run(second.memory.poison)
            if again.error is not None:
                return [failure(again.error)]
            random = differing(other, self._records(again, again)[0])
        disturbed = outputs.disturbed_red_zones(one, other)
        if verdict.guards and not disturbed:
            raise RuntimeError(f"{verdict.guards} bytes of red zones changed on the device, and none in its copy")
        findings = outputs.unwritten(one, other) + [_by_kernel(finding) for finding in disturbed]
        findings += outputs.modified_inputs(one) or outputs.modified_inputs(other)
        findings += outputs.wrong_values(other, unstable)
        unexplained = {name: mask for name, mask in unstable.items() if not written_by_none(one, name, mask)}
        if random:
            findings += outputs.poison_dependent(other, random, "nondeterministic")
        elif unexplained:
            findings += outputs.poison_dependent(other, unexplained, "poison-dependent")
        if not findings:
            self.answered = answers_of(other)
        return findings

    def _records(self, first: Run, second: Run) -> tuple[Record, Record]:
        """Both runs, in the host's memory."""
        hosts = [mirror(run.memory) for run in (first, second)]
        note_written(*hosts)
        one, other = (
            _record(run, host, {**{n: (t, None) for n, t in run.memory.outputs.items()}, **run.memory.expectations})
            for run, host in zip((first, second), hosts)
        )
        return one, other


def _record(run: Run, host: Memory, answered: dict[str, tuple[torch.Tensor, Any]]) -> Record:
    memory = run.memory
    checked = {
        name: check_tensor(host, name, counterpart(tensor, memory.region_of(tensor, name), host), memory.left_open)
        for name, (tensor, _) in answered.items()
    }
    originals = {
        region.name: region.bits()
        for region in memory
        if isinstance(region, DeviceRegion) and region.given is not None and region.name in host
    }
    expected = {name: value for name, (_, value) in memory.expectations.items()}
    return Record(memory.poison, host, Trace(), checked, expected, originals, run.error)


def _by_kernel(finding: Finding) -> Finding:
    """On a device it cannot be told who writes outside: a kernel, or what torch ran there."""
    return replace(finding, headline=f"something writes `{finding.tensor}` outside its elements")


class DeviceError(Exception):
    """The device has failed; `finding` says how."""

    #: The kind of finding by what the device says, the first that fits.
    KINDS = (("device-side assert triggered", "assert-failed"), ("", "crash"))

    def __init__(self, message: str) -> None:
        lines = [line for line in message.splitlines() if line.strip()] or ["the device says nothing"]
        kind = next(kind for words, kind in self.KINDS if words in message)
        super().__init__(lines[0])
        self.finding = Finding(kind, lines[0])


_pages = cache(GuardPages)


_announce: ContextVar[Announce | None] = ContextVar("announce", default=None)


def _run_hook(original: Callable[..., Any]) -> Callable[..., Any]:
    def run(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        announce = _announce.get()
        if announce is not None and kernel.fn.__module__ != guards.__name__:
            announce(kernel.fn.__name__, _plain(launching_line()))
        return original(kernel, *args, **kwargs)

    return run


def _plain(location: Any) -> str:
    return "?" if location is None else f"{location.file}:{location.line}"


_LAUNCHES = Hooks((JITFunction, "run", _run_hook))
