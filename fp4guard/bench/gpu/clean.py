"""The included kernels without defects on a GPU: nothing is found, and what they leave is what the simulator leaves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...checks.answered import Answered
from ...fuzzing.campaign import Budget, Options, Searcher, few_on
from ...fuzzing.case import Case
from ...fuzzing.examine import Report, examine_case
from ...fuzzing.loading import included_targets, load_target, spec_of
from ...fuzzing.profiles import PROFILES
from ...fuzzing.setting import Setting
from ...fuzzing.target import Target
from ...isolation import IsolatedExaminer
from ...isolation.examiners import gpu_arch
from ...ttir import Arch, parse_arch
from .pool import spread
from .table import Scale, Table

#: Where the cases run.
_GPU = Setting("cuda")
_SEED = 20_261_128

#: Cases of a target that one process tries in a row: a round that has few values of each list.
_AT_A_TIME = 50


@dataclass(frozen=True)
class Measured:
    """What became of a target's cases. Of the outputs' elements that are `certified`, each has one right answer, which
    it had, or the case would be in `findings`; in `unlike` are cases in which the simulator left other bits there. The
    others are `bounded`: in `within` are the cases in which the simulator left other bits there, within the bounds.
    What a target computes from such a tensor differs too, and counts as neither: its right answer is another one.

    `rate` is cases a second of one process, compilation included.
    """

    target: str
    cases: int
    findings: tuple[str, ...]
    certified: int
    unlike: tuple[str, ...]
    bounded: int
    within: int
    rate: float

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        numbers = (self.cases, len(self.findings), self.certified, len(self.unlike), self.bounded, self.within)
        return (self.target, *(str(number) for number in numbers), f"{self.rate:.1f}")


@dataclass
class _Part:
    """A process's share of a target's cases."""

    target: str
    counts: Counter[str]
    findings: list[str]
    unlike: list[str]
    seconds: float = 0.0


def _try_some(work: tuple[str, int, int]) -> _Part:
    """So many cases of a target, of its n-th round."""
    spec, turn, cases = work
    part = _Part(spec, Counter(), [], [])
    with IsolatedExaminer(_GPU) as examiner:
        _ = examiner.arch  # started: what is measured are cases

        def examine(target: Target, case: Case, arch: Arch | None, defect: str | None) -> Report:
            began = time.perf_counter()
            report = examiner.examine(target, case, None, defect)
            part.seconds += time.perf_counter() - began
            part.counts["cases"] += 1
            if report.findings:
                part.findings.append(f"{case!r}: {report.findings[0].message}")
                return replace(report, findings=())  # the others are tried all the same
            simulated = examine_case(target, case, parse_arch(report.arch))
            if simulated.findings:
                part.findings.append(f"{case!r}, in the simulator: {simulated.findings[0].message}")
            else:
                _hold_against(part, case, report.answered, simulated.answered)
            return report

        profile = replace(PROFILES["dev"], keep=False)
        options = Options(profile, None, _SEED, None, False, examine, few_on(_GPU), turn)
        search = Searcher(load_target(spec), options, Budget(cases=cases)).run()
    assert search.cases == part.counts["cases"]
    return part


def _hold_against(part: _Part, case: Case, here: Mapping[str, Answered], there: Mapping[str, Answered]) -> None:
    if len(here) != len(there):
        part.unlike.append(f"{case!r}: outputs {', '.join(here)} here, {', '.join(there)} in the simulator")
        return
    part.counts["certified"] += sum(one.certified for one in here.values())
    part.counts["bounded"] += sum(one.bounded for one in here.values())
    # In the order of `mem.expect`, which is that of the computation; names say where a tensor lies, and may differ.
    for name, one, other in zip(here, here.values(), there.values(), strict=True):
        if (one.certified, one.certified_bits) != (other.certified, other.certified_bits):
            part.unlike.append(f"{case!r}: {name}")
            return
        if one.bounded_bits != other.bounded_bits:
            part.counts["within"] += 1
            return


def _measure(scale: Scale) -> Iterator[Measured]:
    arch = gpu_arch(_GPU)
    targets = [spec_of(t) for t in included_targets() if t.arch is None or t.arch.name == arch]
    each = -(-scale.cases // len(targets))
    # The targets in turn, so that slow ones are not all left for the end.
    turns = [(turn, min(each - done, _AT_A_TIME)) for turn, done in enumerate(range(0, each, _AT_A_TIME))]
    work = [(spec, turn, cases) for turn, cases in turns for spec in targets]
    parts: dict[str, list[_Part]] = {spec: [] for spec in targets}
    for part in spread(_try_some, work, scale.jobs):
        parts[part.target].append(part)
        if len(parts[part.target]) == len(turns):
            yield _together(part.target, parts[part.target])


def _together(spec: str, parts: Sequence[_Part]) -> Measured:
    counts = sum((part.counts for part in parts), Counter[str]())
    return Measured(
        spec.removeprefix("kernels."),
        counts["cases"],
        tuple(text for part in parts for text in part.findings),
        counts["certified"],
        tuple(text for part in parts for text in part.unlike),
        counts["bounded"],
        counts["within"],
        counts["cases"] / sum(part.seconds for part in parts),
    )


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
    "has other bits there. Elements that are *bounded* may depend on the order in which a sum is taken, or on a "
    "function's last bits; `within` counts cases in which the simulator's differ, within the bounds. `cases/s` is a "
    "process's, compilation included.",
    ("target", "cases", "findings", "certified", "unlike", "bounded", "within", "cases/s"),
    _measure,
    _summary,
)
