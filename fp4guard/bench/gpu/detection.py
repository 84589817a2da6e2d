"""Every planted defect, shown to fp4guard in the simulator and on a GPU, and to the tools of compute-sanitizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from ... import included
from ...errors import UsageError
from ...fuzzing.campaign import few_on
from ...fuzzing.case import Case
from ...fuzzing.examine import Examine, Report, examine_case
from ...fuzzing.loading import defects_of, load_target, spec_of
from ...fuzzing.selftest import DefectRow, Selftest
from ...fuzzing.setting import Setting
from ...fuzzing.target import Target
from ...isolation import IsolatedExaminer
from ...isolation.examiners import gpu_arch
from ...isolation.request import Request
from ...ttir import Arch
from .pool import at_end, examiner_of, spread
from .sanitizer import TOOLS, EndedError, NothingRanError, Tool, Watched, is_there
from .table import Scale, Table

_SIMULATOR = "sim"
_GPUS = {"cuda": Setting("cuda", timeout=60), "guard pages": Setting("cuda", guard_pages=True, timeout=60)}

#: Cases in which the simulator looks for a defect, and a GPU for one that it does not see in the simulator's case.
_CASES, _CASES_ON_GPU = 2000, 20

_ONCE = "fp4guard.bench.gpu.once"


@dataclass(frozen=True)
class Seen:
    """What a detector says of a defect: `what`, None where it says nothing.

    `case` is the simulator's or, where it took one of the GPU's own, that one; None where none shows it.
    """

    what: str | None
    case: str | None = None


@dataclass(frozen=True)
class Measured:
    """What became of a defect; `seen` by detector. `arch`: the kernel is written for another GPU, where it is told."""

    target: str
    defect: str
    arch: str | None
    seen: dict[str, Seen]

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        return (self.target, f"`{self.defect}`", *(self._cell(detector) for detector in _DETECTORS))

    def _cell(self, detector: str) -> str:
        if detector != _SIMULATOR and self.arch is not None:
            return f"({self.arch})"
        seen = self.seen.get(detector)
        return "?" if seen is None else seen.what or "-"


class _Keeping:
    """An examine that keeps the report with findings that it gave last."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self.last: Report | None = None

    def __call__(self, target: Target, case: Case, arch: Arch | None, defect: str | None) -> Report:
        report = self._examine(target, case, arch, defect)
        if report.findings:
            self.last = report
        return report


def _show(work: tuple[str, str, str]) -> Measured:
    """A defect of a family to all detectors, on a GPU of an architecture."""
    family, defect, arch = work
    seen: dict[str, Seen] = {}
    found, report = _searched(family, defect, examine_case, None, _CASES)
    if report is None:
        return Measured(family, defect, None, {_SIMULATOR: Seen(None)})
    seen[_SIMULATOR] = Seen(found.kind, repr(report.case))
    own = report.target.arch
    if own is not None and own.name != arch:
        return Measured(family, defect, own.name, seen)
    shown = [report]
    detectors: dict[str, Callable[[list[Report]], Seen]] = {
        **{name: partial(_on_gpu, family, defect, name) for name in _GPUS},
        **{tool.name: partial(_below, tool) for tool in TOOLS if is_there()},
    }
    for name, detector in detectors.items():
        try:
            seen[name] = detector(shown)
        except Exception as error:  # of fp4guard's own: the other detectors are none the worse
            seen[name] = Seen(f"{type(error).__name__}: {error}".splitlines()[0])
    return Measured(family, defect, None, seen)


@cache
def _watched(tool: Tool) -> Watched:
    """The process's own, for all defects that it shows."""
    watched = Watched(tool, _ONCE)
    at_end(watched.close)
    return watched


def _searched(
    family: str, defect: str, examine: Examine, few: int | None, cases: int
) -> tuple[DefectRow, Report | None]:
    """A search for the defect, and the report that shows it; None where it was not found."""
    keeping = _Keeping(examine)
    (row,) = Selftest(family, (defect,), cases, 0, None).run(keeping, few)
    assert isinstance(row, DefectRow)
    return row, keeping.last if row.found else None


def _on_gpu(family: str, defect: str, name: str, shown: list[Report]) -> Seen:
    """What the GPU says of the cases that show the defect, or of others; one of its own is added to them."""
    examiner = examiner_of(_GPUS[name])
    for report in shown:
        here = examiner.examine(report.target, report.case, None, defect)
        if here.findings:
            return _unless_right_too(here.findings[0].kind, report, examiner)
    row, own = _searched(family, defect, examiner.examine, few_on(_GPUS["cuda"]), _CASES_ON_GPU)
    if own is None:
        return Seen(None)
    shown.append(own)
    return _unless_right_too(f"{row.kind} (search)", own, examiner)


def _unless_right_too(what: str, report: Report, examiner: IsolatedExaminer) -> Seen:
    """What the GPU says of a case, where it says nothing of the right kernel: the tools are held to the same."""
    right = examiner.examine(load_target(spec_of(report.target)), report.case, None, None)
    return Seen("without it too") if right.findings else Seen(what, repr(report.case))


def _below(tool: Tool, shown: Sequence[Report]) -> Seen:
    """What a tool says of the cases: it sees a defect where it is silent on the same case of the right kernel."""
    said = None
    for report in shown:
        wrong = Request.of(report.target, report.case, None, report.defect, _GPUS["cuda"])
        try:
            if not _watched(tool).errors(wrong):
                continue
            # And once more: what a tool says once, when its process starts, is about neither.
            if _alarmed(tool, replace(wrong, defect=None)):
                said = "without it too"
            elif _watched(tool).errors(wrong):
                return Seen("seen", repr(report.case))
        except EndedError:
            said = "crash"
        except UsageError as error:
            said = str(error).removeprefix(f"{tool.name}: ").splitlines()[0]
    return Seen(said)


def _alarmed(tool: Tool, right: Request) -> bool:
    """Whether a tool says anything of the right kernel, or its process ends. It may well refuse the case."""
    try:
        return bool(_watched(tool).errors(right))
    except NothingRanError:
        return False
    except EndedError:
        return True


def _measure(scale: Scale) -> Iterator[Measured]:
    arch = gpu_arch(_GPUS["cuda"])
    work = [(family, defect.id, arch) for family in included.families() for defect in defects_of(family)]
    yield from spread(_show, work, scale.jobs)


def _sorted(rows: Sequence[Measured]) -> list[Measured]:
    return sorted(rows, key=lambda row: (row.target, row.defect))


def _summary(rows: Sequence[Measured]) -> str:
    """How many defects each detector sees, by what the simulator says of them."""
    here = [row for row in rows if row.arch is None]
    kinds = Counter(row.seen[_SIMULATOR].what for row in here)
    lines = [
        f"How many of the {len(here)} defects that run on this GPU each sees, by the simulator's finding:",
        "",
        f"| finding | {' | '.join(_DETECTORS)} |",
        f"|---|{'|'.join('--:' for _ in _DETECTORS)}|",
    ]
    for kind, _ in kinds.most_common():
        of_kind = [row for row in here if row.seen[_SIMULATOR].what == kind]
        lines.append(_counts(str(kind), of_kind))
    return "\n".join([*lines, _counts("all", here)])


def _counts(what: str, rows: Sequence[Measured]) -> str:
    seen = (sum(row.seen.get(name, Seen(None)).case is not None for row in rows) for name in _DETECTORS)
    return f"| {what} | {' | '.join(map(str, seen))} |"


_DETECTORS = (_SIMULATOR, *_GPUS, *(tool.name for tool in TOOLS))

TABLE = Table(
    "defects",
    "Planted defects, and who sees them",
    "The simulator's search (`fp4guard defects`) finds a case that shows the defect. The same case is run on the GPU, "
    "in guarded memory and beside guard pages, and plainly below the tools of compute-sanitizer, with torch's caching "
    f"allocator and without. What the GPU does not show in that case is searched for in {_CASES_ON_GPU} others "
    "for each target of the kernel (`search`), and a case found so is shown to the tools as well. A defect is *seen* "
    "by whoever reports it, and nothing in the same case of the right kernel (or `without it too`). `crash` below a "
    "tool: the process ended, and the tool said nothing of it.",
    ("target", "defect", *_DETECTORS),
    _measure,
    _sorted,
    _summary,
)
