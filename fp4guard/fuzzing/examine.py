"""One case, examined: the runs that differ in poison, and every check over them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from hypothesis.errors import HypothesisDeprecationWarning, UnsatisfiedAssumption
from threadpoolctl import ThreadpoolController

from ..checks import KINDS, Finding, Record, error_class, outputs
from ..checks.answered import Answered, answers_of
from ..checks.coverage import Coverage
from ..checks.finding import format_rows
from ..checks.incidents import from_incident
from ..checks.record import CERTAIN, NEEDS_EFFECT, check_tensor, differing, sides, suspicious
from ..errors import Fp4guardError, UsageError
from ..memory import ALL_ONES, EXTREMES, ORDINARY, SET_FLAG, GuardAllocations, Poison, mixed
from ..sim import Incident, Simulator
from ..sim.host import Emulation, patched
from ..ttir import Arch
from .blame import ends_the_case, failure, is_ours, placed, summary
from .case import Case
from .memory import CaseMemory
from .setting import SIMULATED, Setting
from .target import Target

#: A case with more suspicious operations than this has the effects of the first ones told apart, no more.
_SITES_TRIED = 64

#: As many may be tried as the causes of a failure; each may take as long as a loop that does not end.
_CAUSES_TRIED = 8


#: How a case of a target is examined, for an architecture (None: the target's, the device's or the default) and with a
#: defect planted already.
Examine = Callable[["Target", "Case", "Arch | None", "str | None"], "Report"]


@dataclass(frozen=True)
class Report:
    """What one case showed, the worst finding first.

    `runs` counts how often the target was called; `coverage` says what the loads and stores of its kernels were seen to
    do, in the simulator. `setting` and `arch` say where it ran, and what was compiled for. `answered` is what the case
    left where it has to: of a case without findings, to be compared with another device's. `lost`: the process that ran
    the case has died or was ended, and how is the finding.
    """

    target: Target
    case: Case
    arch: str
    findings: tuple[Finding, ...]
    runs: int
    defect: str | None = None
    coverage: Coverage = field(default_factory=Coverage, compare=False)
    setting: Setting = SIMULATED
    answered: Mapping[str, Answered] = field(default_factory=dict, compare=False)
    lost: bool = False

    def raise_first(self) -> None:
        """Raise the first finding, as its kind's exception; the message tells all of them."""
        __tracebackhide__ = True
        if self.findings:
            raise error_class(self.findings[0].kind)(self.findings[0], self.describe(), self)

    def describe(self, *more: tuple[str, str]) -> str:
        """Every finding with its evidence, and the case; `more` are further labelled lines."""
        messages = [finding.message for finding in self.findings]
        return "\n".join([*messages, *format_rows((("case", str(self.case)), *more))])


def examine_alone(
    target: Target, case: Case, arch: Arch | None, defect: str | None = None, examine: Examine | None = None
) -> Report:
    """As `examine_case`, or another way to examine, outside of hypothesis: UsageError for a case that the target
    assumes away.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using `assume` outside", HypothesisDeprecationWarning)
            return (examine or examine_case)(target, case, arch, defect)
    except UnsatisfiedAssumption:
        raise UsageError(f"{target.name} assumes that there is no such case: {case}") from None


def examine_case(target: Target, case: Case, arch: Arch | None, defect: str | None = None) -> Report:
    """Run one case in the simulator, and every check; hypothesis.assume is let through."""
    with one_thread(), patched():
        return _Examination(target, case, target.arch_for(arch), defect).report()


@contextmanager
def one_thread() -> Iterator[None]:
    """For products of tiles, which are small: threads of the BLAS cost far more than they save, the more so beside
    other processes.
    """
    with _thread_pools().limit(limits=1, user_api="blas"):
        yield


@lru_cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The CPU's random numbers of torch are the case's, and the caller's are left as they were."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


class _Examination:
    def __init__(self, target: Target, case: Case, arch: Arch, defect: str | None) -> None:
        self._target, self._case, self._arch, self._defect = target, case, arch, defect
        self._host = Emulation(arch)
        self._cache: dict[str, Any] = {}
        self._runs = 0
        self._coverage = Coverage()
        self._answered: Mapping[str, Answered] = {}

    def report(self) -> Report:
        found = tuple(sorted(self._findings(), key=lambda finding: list(KINDS).index(finding.kind)))
        return Report(
            self._target, self._case, self._arch.name, found, self._runs, self._defect, self._coverage,
            answered=self._answered,
        )  # fmt: skip

    def _findings(self) -> list[Finding]:
        first = self._run(ALL_ONES)
        if first.error is not None:
            return self._ended(first, first.error)
        second = self._run(ORDINARY)
        if second.error is not None:
            return self._ended(second, second.error)
        unstable = differing(first, second)
        random = differing(second, self._run(second.poison)) if unstable else {}
        # What is another value every time says nothing about what it depends on.
        effects, blamed = self._effects(first, second, bool(unstable)) if not random else ({}, set())
        findings = [from_incident(i, effects.get(i.site)) for i in self._relevant(first, second, blamed)]
        findings += self._backwards(first, second, None if random else blamed)
        findings += outputs.unwritten(first, second)
        findings += outputs.disturbed_red_zones(first, second)
        findings += outputs.modified_inputs(second)
        findings += outputs.wrong_values(second, unstable)
        unexplained = {name: mask for name, mask in unstable.items() if not written_by_none(first, name, mask)}
        if random:
            findings += outputs.poison_dependent(second, random, "nondeterministic")
        elif unexplained and not blamed and not _overflowed(first, second):
            findings += outputs.poison_dependent(second, unexplained, "poison-dependent")
        if not findings:
            self._answered = answers_of(second)
        return findings

    def _run(self, poison: Poison, backwards: bool = False) -> Record:
        self._runs += 1
        memory = CaseMemory(self._case, poison, self._cache)
        simulator = Simulator(memory, self._arch, backwards)
        error: BaseException | None = None
        with seeded(self._case.seed):
            try:
                guarding = GuardAllocations(memory, self._host.again)
                with self._host.active(), guarding, simulator.intercepting():
                    self._target.function(memory, **self._case.arguments)
            except UnsatisfiedAssumption:
                raise
            except BaseException as raised:
                if not ends_the_case(raised):
                    raise
                # What a kernel did before comes first: it would be hidden until the use of fp4guard is mended.
                if is_ours(raised) and not simulator.trace.of_kind(*CERTAIN):
                    raise placed(raised, self._case) from raised
                error = raised
        self._coverage.add(simulator.trace.coverage)
        tensors = {**memory.outputs, **{name: tensor for name, (tensor, _) in memory.expectations.items()}}
        checked = {name: check_tensor(memory, name, tensor, memory.left_open) for name, tensor in tensors.items()}
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
            others = (*_further(first, second), *mixed(list(dict.fromkeys(i.site for i in incidents))))
            if all(_same(second, self._run(poison)) for poison in others):
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
        tried = [(second, "all ones"), (first, "ordinary numbers")]
        tried += [(second, other.pattern) for other in _further(first, second)]
        return next(filter(None, (self._change(incident, base, pattern) for base, pattern in tried)), None)

    def _change(self, incident: Incident, base: Record, pattern: str, backwards: bool = False) -> str | None:
        """What becomes another when the site has another poison than in a run; None when nothing does."""
        varied = self._run(base.poison.at(incident.site, pattern), backwards)
        if varied.error is not None:
            return f"the target fails when they hold {pattern}: {summary(varied.error)[0]}"
        changed = differing(base, varied)
        if changed:
            return _describe_change(changed, varied, pattern)
        if varied.outcome() != base.outcome():
            return f"changes which addresses are accessed when they hold {pattern}"
        return None

    def _relevant(self, first: Record, second: Record, blamed: set[Any]) -> list[Incident]:
        """Incidents of both runs, each once; those that need an effect only when they have one."""
        merged: dict[Any, Incident] = {}
        beyond = _beyond(first, second)
        for record in (second, first):
            for key, incident in record.trace.incidents.items():
                if incident.kind in NEEDS_EFFECT and incident.site not in blamed:
                    continue
                if incident.kind == "undefined-lane" and incident.site in beyond:
                    continue
                if incident.kind != "input-write":
                    merged[key] = incident
        order = {kind: place for place, kind in enumerate(("undefined-lane", "undefined-value", "uninitialized-read"))}
        # An undefined value that became an address is the cause of the access that it led to.
        return sorted(merged.values(), key=lambda i: order.get(i.kind, len(order)))

    def _ended(self, failed: Record, error: BaseException) -> list[Finding]:
        """Of a run that ended in an exception: what it did wrong before, what it read that led there, and the end."""
        findings = [from_incident(incident, None) for incident in failed.trace.of_kind(*CERTAIN)]
        if is_ours(error):
            return findings
        other = ORDINARY if failed.poison.pattern == ALL_ONES.pattern else ALL_ONES
        read = _causes(failed)
        if read and self._run(failed.poison).error is not None:  # it does not fail by chance
            for incident in read[:_CAUSES_TRIED]:
                with suppress(Fp4guardError):
                    if self._run(failed.poison.at(incident.site, other.pattern)).error is None:
                        effect = f"the target fails when they hold {failed.poison.pattern}"
                        findings.append(from_incident(incident, effect))
        return [*findings, failure(error)]

    def _backwards(self, first: Record, second: Record, blamed: set[Any] | None) -> list[Finding]:
        """Where atomics order programs: what shows only when they take their turns the other way round.

        `blamed` are sites whose effect is known; None where nothing can be told of any, for equal runs differ.
        """
        if not (first.trace.ordered or second.trace.ordered):
            return []
        other = self._run(second.poison, backwards=True)
        known = {sides(i) for record in (first, second) for i in record.trace.of_kind(*CERTAIN)}
        findings = [from_incident(i, None) for i in other.trace.of_kind(*CERTAIN) if sides(i) not in known]
        if blamed is None or other.error is not None:
            return findings
        for incident in [i for i in _causes(other) if i.site not in blamed][:_SITES_TRIED]:
            if effect := self._change(incident, other, ALL_ONES.pattern, backwards=True):
                findings.append(from_incident(incident, effect))
        return findings


def _beyond(*records: Record) -> set[Any]:
    """Sites that read beyond an end. Such lanes and those masked off hold the same poison: which of them matter cannot
    be told.
    """
    return {incident.site for record in records for incident in record.trace.of_kind("oob-read")}


def _causes(record: Record) -> list[Incident]:
    """What left something undefined; of lanes at one site that hold the same poison, those that are sure to."""
    others = {incident.site for incident in record.trace.of_kind("oob-read", "uninitialized-read")}
    return [i for i in record.trace.of_kind(*NEEDS_EFFECT) if i.kind != "undefined-lane" or i.site not in others]


def _further(*records: Record) -> list[Poison]:
    """Poisons to tell effects by, behind those of the two runs."""
    return [*EXTREMES, *([SET_FLAG] if any(record.trace.retried for record in records) else [])]


def _overflowed(*records: Record) -> bool:
    """Whether an access overflowed: it gave poison, and its finding accounts for what that led to."""
    return any(record.trace.of_kind("int-overflow") for record in records)


def _same(one: Record, other: Record) -> bool:
    """Whether two runs came to the same."""
    return other.error is None and not differing(one, other) and one.outcome() == other.outcome()


def written_by_none(record: Record, name: str, mask: Any) -> bool:
    """Whether the elements that differ are those that nothing was written to: reported as unwritten already."""
    return bool((mask <= record.checked[name].unwritten).all())


def _describe_change(changed: dict[str, Any], varied: Record, pattern: str) -> str:
    parts = []
    for name, mask in changed.items():
        checked = varied.checked[name]
        nan = ""
        if checked.dtype.is_floating_point and checked.bits.shape == mask.shape:
            values = torch.from_numpy(checked.bits.reshape(-1).view("u1")).view(checked.dtype).reshape(mask.shape)
            nan = " (NaN)" if bool(values[torch.from_numpy(mask)].isnan().all()) else ""
        parts.append(f"{int(mask.sum())} of {mask.size} elements of `{name}`{nan}")
    held = "0xFF" if pattern == "all ones" else pattern
    return f"changes {', '.join(parts)} when the bytes read are {held}"
