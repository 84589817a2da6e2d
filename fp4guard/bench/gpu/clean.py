"""The included kernels without defects on a GPU: nothing is found, and what they leave is what the simulator leaves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ...checks.answered import Answered
from ...fuzzing.campaign import Budget, Options, Searcher, few_on
from ...fuzzing.case import Case
from ...fuzzing.examine import Report, examine_case
from ...fuzzing.loading import included_targets, load_target, spec_of
from ...fuzzing.profiles import PROFILES
from ...fuzzing.setting import Setting
from ...fuzzing.target import Target
from ...isolation.examiners import gpu_arch
from ...ttir import Arch, parse_arch
from .pool import examiner_of, spread
from .table import Scale, Table, by_target

#: Where the cases run.
_GPU = Setting("cuda")
_SEED = 20_261_128

#: Cases of a target that one process tries in a row: a round that has few values of each list.
_AT_A_TIME = 50


@dataclass(frozen=True)
class Measured:
    """What became of a target's cases. Of the outputs' elements that are `certified`, each has one right answer, which
    it had, or the case would be in `findings`; in `unlike` are cases in which the simulator left other bits there. Of
    the `uncertified`, `within` counts the cases in which the simulator left other bits, within their bounds. What a
    target computes from such a tensor differs too, and counts as neither: its right answer is another one.

    `seconds` are those of one process, compilation included.
    """

    target: str
    cases: int
    findings: tuple[str, ...]
    certified: int
    unlike: tuple[str, ...]
    uncertified: int
    within: int
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        numbers = (self.cases, len(self.findings), self.certified, len(self.unlike), self.uncertified, self.within)
        return (
            self.target,
            *(str(number) for number in numbers),
            f"{self.cases / self.seconds:.1f}" if self.seconds else "",
        )


def _try_some(work: tuple[str, int, int]) -> Measured:
    """So many cases of a target, of its n-th round."""
    spec, turn, cases = work
    counts, findings, unlike = Counter[str](), list[str](), list[str]()
    seconds = 0.0
    examiner = examiner_of(_GPU)

    def examine(target: Target, case: Case, arch: Arch | None, defect: str | None) -> Report:
        nonlocal seconds
        began = time.perf_counter()
        report = examiner.examine(target, case, None, defect)
        seconds += time.perf_counter() - began
        counts["cases"] += 1
        if report.findings:
            findings.append(f"{case!r}: {report.findings[0].message}")
            return replace(report, findings=())  # the others are tried all the same
        simulated = examine_case(target, case, parse_arch(report.arch))
        if simulated.findings:
            findings.append(f"{case!r}, in the simulator: {simulated.findings[0].message}")
        elif differing := _compare(counts, report.answered, simulated.answered):
            unlike.append(f"{case!r}: {differing}")
        return report

    profile = replace(PROFILES["dev"], keep=False)
    options = Options(profile, None, _SEED, None, False, examine, few_on(_GPU), turn)
    try:
        _ = examiner.arch  # started: what is measured are cases
        Searcher(load_target(spec), options, Budget(cases=cases)).run()
    except Exception as error:  # of fp4guard's own: the other parts are none the worse
        findings.append(f"{type(error).__name__}: {error}")
    return Measured(
        spec.removeprefix("kernels."), counts["cases"], tuple(findings), counts["certified"], tuple(unlike),
        counts["uncertified"], counts["within"], seconds,
    )  # fmt: skip


def _compare(counts: Counter[str], here: Mapping[str, Answered], there: Mapping[str, Answered]) -> str | None:
    """Count what was compared with the simulator's; which tensor has certified elements that are not as there."""
    if len(here) != len(there):
        return f"outputs {', '.join(here)} here, {', '.join(there)} in the simulator"
    # In the order of `mem.expect`, which is that of the computation; names say where a tensor lies, and may differ.
    for name, one, other in zip(here, here.values(), there.values(), strict=True):
        if (one.certified, one.certified_bits) != (other.certified, other.certified_bits):
            return name
        counts["certified"] += one.certified
        counts["uncertified"] += one.uncertified
        if one.uncertified_bits != other.uncertified_bits:
            counts["within"] += 1
            break
    return None


def _measure(scale: Scale) -> Iterator[Measured]:
    arch = gpu_arch(_GPU)
    targets = [spec_of(t) for t in included_targets() if t.arch is None or t.arch.name == arch]
    each = -(-scale.cases // len(targets))
    turns = [(turn, min(each - done, _AT_A_TIME)) for turn, done in enumerate(range(0, each, _AT_A_TIME))]
    yield from spread(_try_some, [(spec, turn, cases) for turn, cases in turns for spec in targets], scale.jobs)


def _merged(rows: Sequence[Measured]) -> Measured:
    first, *others = rows
    for row in others:
        first = Measured(
            row.target, first.cases + row.cases, first.findings + row.findings, first.certified + row.certified,
            first.unlike + row.unlike, first.uncertified + row.uncertified, first.within + row.within,
            first.seconds + row.seconds,
        )  # fmt: skip
    return first


def _summary(rows: Sequence[Measured]) -> str:
    total: Any = Counter()
    for row in rows:
        total.update(cases=row.cases, findings=len(row.findings), unlike=len(row.unlike), certified=row.certified)
    return (
        f"{total['cases']} cases, {total['findings']} with findings; {total['certified']} certified elements, "
        f"{total['unlike']} cases in which one of them has other bits than in the simulator."
    )


TABLE = Table(
    "clean",
    "The included kernels, without defects",
    "Cases are drawn as `fp4guard fuzz --device cuda` draws them, and run on the GPU and in the simulator. Elements "
    "that are *certified* have one right answer, which the oracle knows; `unlike` counts cases in which the simulator "
    "has other bits there. Others may depend on the order in which a sum is taken, or on a function's last bits; "
    "`within` counts cases in which the simulator's differ, within the bounds or where nothing is certain: what is "
    "computed from them is neither compared nor counted. `cases/s` is a process's, compilation included.",
    ("target", "cases", "findings", "certified", "unlike", "uncertified", "within", "cases/s"),
    _measure,
    partial(by_target, merge=_merged),
    _summary,
)
