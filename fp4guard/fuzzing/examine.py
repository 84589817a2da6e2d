"""One case, examined: the runs that differ in poison, and every check over them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from hypothesis.errors import UnsatisfiedAssumption
from threadpoolctl import ThreadpoolController

from ..checks import KINDS, Finding, Record, error_class, outputs
from ..checks.finding import format_rows
from ..checks.incidents import from_incident
from ..checks.record import check_tensor, differing, suspicious
from ..errors import Fp4guardError
from ..memory import ALL_ONES, ORDINARY, GuardAllocations, Poison
from ..sim import Incident, Simulator
from ..ttir import Arch, parse_arch
from .case import Case
from .memory import CaseMemory
from .target import Target

DEFAULT_ARCH = "sm_90"

#: A case with more suspicious operations than this has the effects of the first ones told apart, no more.
_SITES_TRIED = 8

#: Kinds that matter only when what they left undefined reaches an output, an address or a branch.
_NEEDS_EFFECT = ("uninitialized-read", "undefined-lane")


@dataclass(frozen=True)
class Report:
    """What one case showed, the worst finding first. `runs` counts how often the target was called."""

    target: Target
    case: Case
    arch: str
    findings: tuple[Finding, ...]
    runs: int
    defect: str | None = None

    def raise_first(self) -> None:
        """Raise the first finding, as its kind's exception; the message tells all of them."""
        __tracebackhide__ = True
        if self.findings:
            raise error_class(self.findings[0].kind)(self.findings[0], self.describe(), self)

    def describe(self, *more: tuple[str, str]) -> str:
        """Every finding with its evidence, and the case; `more` are further labelled lines."""
        messages = [finding.message for finding in self.findings]
        return "\n".join([*messages, *format_rows((("case", str(self.case)), *more))])


def examine(
    target: Any,
    *,
    arch: str = DEFAULT_ARCH,
    defect: str | None = None,
    seed: int = 0,
    regime: str = "exact",
    layout: int = 0,
    **arguments: Any,
) -> Report:
    """Run one case of a target (or of what a target's spec names) and every check. Raises nothing for a finding.

    `defect` plants a defect of an included kernel first. Raises UsageError for arguments that are not the target's,
    UnsupportedError for what the simulator does not execute.
    """
    from .loading import load_target, with_defect

    found = target if isinstance(target, Target) else load_target(str(target))
    if defect is not None:
        found = with_defect(found, defect)
    found.check_arguments(arguments)
    return examine_case(found, Case(arguments, seed, regime, layout), parse_arch(arch), defect)


def examine_case(target: Target, case: Case, arch: Arch, defect: str | None = None) -> Report:
    """As `examine`, for a case that is at hand."""
    # Tiles are small: threads of the BLAS cost far more than they save, the more so beside other processes.
    with _thread_pools().limit(limits=1, user_api="blas"):
        return _Examination(target, case, arch, defect).report()


@lru_cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's random numbers on the CPU are the case's, and the caller's are left as they were."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


class _Examination:
    def __init__(self, target: Target, case: Case, arch: Arch, defect: str | None) -> None:
        self._target, self._case, self._arch, self._defect = target, case, arch, defect
        self._cache: dict[str, Any] = {}
        self._runs = 0

    def report(self) -> Report:
        findings = sorted(self._findings(), key=lambda finding: list(KINDS).index(finding.kind))
        return Report(self._target, self._case, self._arch.name, tuple(findings), self._runs, self._defect)

    def _findings(self) -> list[Finding]:
        first = self._run(ALL_ONES)
        if first.error is not None:
            return [*self._incidents(first), _crash(first.error)]
        second = self._run(ORDINARY)
        if second.error is not None:
            return [*self._incidents(second), _crash(second.error)]
        unstable = differing(first, second)
        effects, blamed = self._effects(first, second, bool(unstable))
        findings = [from_incident(i, effects.get(i.site)) for i in self._relevant(first, second, blamed)]
        not_written = outputs.unwritten(first, second)
        findings += not_written
        findings += outputs.disturbed_red_zones(first)
        findings += outputs.modified_inputs(second)
        findings += outputs.wrong_values(second, unstable)
        unexplained = {name: mask for name, mask in unstable.items() if not _written_by_none(first, name, mask)}
        if unexplained and not blamed:
            findings += self._unexplained(second, unexplained)
        return findings

    def _run(self, poison: Poison) -> Record:
        self._runs += 1
        memory = CaseMemory(self._case, poison, self._cache)
        simulator = Simulator(memory, self._arch)
        error: BaseException | None = None
        with _seeded(self._case.seed):
            try:
                with GuardAllocations(memory), simulator.intercepting():
                    self._target.function(memory, **self._case.arguments)
            except (Fp4guardError, UnsatisfiedAssumption):
                raise
            except Exception as raised:
                error = raised
        checked = dict(check_tensor(memory, name, tensor) for name, tensor in memory.outputs.items())
        for name, (tensor, _) in memory.expectations.items():
            checked.update([check_tensor(memory, name, tensor)])
        expected = {name: value for name, (_, value) in memory.expectations.items()}
        return Record(poison, memory, simulator.trace, checked, expected, memory.originals, error)

    def _effects(self, first: Record, second: Record, unstable: bool) -> tuple[dict[Any, str], set[Any]]:
        """What each suspicious site does to the outputs, and the sites that do something.

        Found by giving that site alone other poison. When the two runs agree in everything, no site does anything.
        """
        incidents = suspicious(first, second)
        if not incidents:
            return {}, set()
        if not unstable and first.outcome() == second.outcome():
            return {i.site: "no output changes with the bytes that were read" for i in incidents}, set()
        effects, blamed = {}, set()
        for incident in incidents[:_SITES_TRIED]:
            effect = self._effect(incident, first, second)
            if effect is not None:
                blamed.add(incident.site)
            effects[incident.site] = effect or "no output changes with the bytes that were read"
        return effects, blamed

    def _effect(self, incident: Incident, first: Record, second: Record) -> str | None:
        # From ordinary poison: with all ones, the NaN of one site would hide another's.
        for base, pattern in ((second, "all ones"), (first, "ordinary numbers")):
            varied = self._run(base.poison.at(incident.site, pattern))
            if varied.error is not None:
                return f"the target fails when they hold {pattern}: {_last_line(varied.error)}"
            changed = differing(base, varied)
            if changed:
                return _describe_change(changed, varied, pattern)
            if varied.outcome() != base.outcome():
                return f"changes which addresses are accessed when they hold {pattern}"
        return None

    def _relevant(self, first: Record, second: Record, blamed: set[Any]) -> list[Incident]:
        """Incidents of both runs, each once; those that need an effect only when they have one."""
        merged: dict[Any, Incident] = {}
        for record in (second, first):
            for key, incident in record.trace.incidents.items():
                if incident.kind in _NEEDS_EFFECT and incident.site not in blamed:
                    continue
                if incident.kind != "input-write":
                    merged[key] = incident
        order = {kind: place for place, kind in enumerate(("undefined-lane", "uninitialized-read"))}
        # An undefined value that became an address is the cause of the access that it led to.
        return sorted(merged.values(), key=lambda i: order.get(i.kind, len(order)))

    def _incidents(self, record: Record) -> list[Finding]:
        """Of a run that ended in an exception: what it did wrong before."""
        return [from_incident(i, None) for i in record.trace.of_kind("oob-write", "oob-read", "race")]

    def _unexplained(self, second: Record, unstable: dict[str, Any]) -> list[Finding]:
        again = self._run(second.poison)
        random = differing(second, again)
        if random:
            return outputs.poison_dependent(second, random, "nondeterministic")
        return outputs.poison_dependent(second, unstable, "poison-dependent")


def _written_by_none(record: Record, name: str, mask: Any) -> bool:
    """Whether the elements that differ are those that nothing was written to: reported as unwritten already."""
    return bool((mask <= record.checked[name].unwritten).all())


def _describe_change(changed: dict[str, Any], varied: Record, pattern: str) -> str:
    parts = []
    for name, mask in changed.items():
        checked = varied.checked[name]
        nan = ""
        if checked.dtype.is_floating_point and checked.bits.shape == mask.shape:
            values = torch.from_numpy(checked.bits.view("u1")).view(checked.dtype).reshape(mask.shape)
            nan = " (NaN)" if bool(values[torch.from_numpy(mask)].isnan().all()) else ""
        parts.append(f"{int(mask.sum())} of {mask.size} elements of `{name}`{nan}")
    held = "0xFF" if pattern == "all ones" else pattern
    return f"changes {', '.join(parts)} when the bytes read are {held}"


def _crash(error: BaseException) -> Finding:
    """The target raised an exception of its own, on arguments that its strategies allow."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "fp4guard" not in f.filename and "/torch/" not in f.filename]
    frame = own[-1] if own else frames[-1]
    rows = (("raised", f"{frame.filename}:{frame.lineno}   {frame.line or ''}".rstrip()),)
    return Finding("crash", _last_line(error), file=frame.filename, line=frame.lineno, rows=rows)


def _last_line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
