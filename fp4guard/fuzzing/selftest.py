"""Does fp4guard find what it must, and nothing else? Every planted defect and every control, fuzzed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

from .. import included
from ..errors import UsageError
from ..ttir import Arch, parse_arch
from .campaign import Budget, Options, Search, Searcher
from .case import Case
from .defects import Control, Defect, check_present
from .examine import Examine, examine_case
from .loading import controls_of, defects_of, folder_of, load_targets, with_defect
from .profiles import PROFILES
from .target import Target

#: Cases for each target of a family before the next one has its turn; twice as many in each round.
_FIRST_TURN = 20

#: Cases of a family without defects, shared by its targets, in which nothing may be found.
_CONTROL_CASES = 300


@dataclass(frozen=True)
class DefectRow:
    """What became of a defect. `kind` is the finding's, `cases` how many it took."""

    id: str
    target: str
    found: bool
    kind: str | None
    cases: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether it came out as it must."""
        return self.found


@dataclass(frozen=True)
class ControlRow:
    """What became of a control. `cases` counts those in which its trick mattered."""

    id: str
    target: str
    clean: bool
    cases: int

    @property
    def passed(self) -> bool:
        """Whether it came out as it must: clean, and tried."""
        return self.clean and self.cases > 0


@dataclass
class Selftest:
    """The run of `fp4guard defects`; `rows` grow as it goes.

    Raises UsageError when `family` or one of `ids` names nothing.
    """

    family: str | None
    ids: tuple[str, ...]
    max_cases: int
    seed: int
    arch: str | None
    rows: list[DefectRow | ControlRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._examine: Examine = examine_case
        self._few: int | None = None
        self._arch: Arch | None = None if self.arch is None else parse_arch(self.arch)
        families = included.families()
        if self.family is not None:
            wanted = self.family.removeprefix("kernels.")
            if wanted not in families:
                raise UsageError(f"--target {self.family!r}: allowed are {', '.join(families)}")
            families = [wanted]
        chosen: list[tuple[str, Defect | Control]] = []
        for family in families:
            chosen += [(family, defect) for defect in defects_of(family)]
            chosen += [(family, control) for control in controls_of(family)]
        known = [item.id for _, item in chosen]
        if unknown := [i for i in self.ids if i not in known]:
            raise UsageError(f"--id {unknown[0]!r}: allowed are {', '.join(dict.fromkeys(known))}")
        self._correct: dict[str, tuple[bool, list[Case]]] = {}
        self._chosen = [(family, item) for family, item in chosen if not self.ids or item.id in self.ids]

    @property
    def passed(self) -> bool:
        """Whether every row came out as it must."""
        return len(self.rows) == len(self._chosen) and all(row.passed for row in self.rows)

    def run(self, examine: Examine = examine_case, few: int | None = None) -> Iterator[DefectRow | ControlRow]:
        """Fuzz one defect or control after the other; `examine` and `few` as in `Options`."""
        self._examine, self._few = examine, few
        for family, item in self._chosen:
            row = self._defect(family, item) if isinstance(item, Defect) else self._control(family, item)
            self.rows.append(row)
            yield row

    def _defect(self, family: str, defect: Defect) -> DefectRow:
        cases, seconds, kind = 0, 0.0, None
        targets = load_targets(f"kernels.{family}")
        turns = _turns(self.max_cases) if len(targets) > 1 else [self.max_cases]
        for (turn, most), target in product(enumerate(turns), targets):
            search = self._search(with_defect(target, defect.id), defect.id, most, turn)
            cases, seconds = cases + search.cases, seconds + search.seconds
            # A GPU sees what a defect does, and seldom where: whatever it finds counts.
            kinds = (
                finding.kind
                for report in search.found
                for finding in report.findings
                if finding.kind in defect.kinds or report.setting.device != "sim"
            )
            kind = next(kinds, None)
            if kind is not None:
                break
        return DefectRow(defect.id, family, kind is not None, kind, cases, round(seconds, 3))

    def _control(self, family: str, control: Control) -> ControlRow:
        check_present(control, folder_of(family))
        if family not in self._correct:
            self._correct[family] = self._search_correct(family)
        clean, tried = self._correct[family]
        exercised = sum(control.exercised(case.arguments) for case in tried)
        return ControlRow(control.id, family, clean, exercised)

    def _search_correct(self, family: str) -> tuple[bool, list[Case]]:
        """Whether a family without defects is clean, and the cases tried: one search for all of its controls."""
        tried: list[Case] = []
        targets = load_targets(f"kernels.{family}")
        each = -(-min(self.max_cases, _CONTROL_CASES) // len(targets))
        searches = [self._search(_recording(target, tried), None, each) for target in targets]
        return not any(search.found for search in searches), tried

    def _search(self, target: Target, defect: str | None, most: int, turn: int = 0) -> Search:
        # Not derandomized, but seeded: a row of the table can be had again. Not shrunk: what counts is how soon.
        profile = replace(PROFILES["dev"], keep=False)
        options = Options(profile, self._arch, self.seed, defect, False, self._examine, self._few, turn)
        return Searcher(target, options, Budget(cases=most)).run()

    def as_json(self) -> dict[str, Any]:
        """`{"defects": [...], "controls": [...]}`."""
        return {
            "defects": [asdict(row) for row in self.rows if isinstance(row, DefectRow)],
            "controls": [asdict(row) for row in self.rows if isinstance(row, ControlRow)],
        }

    def as_markdown(self) -> str:
        """Two tables: defects and controls, in the order in which they were run."""
        found = [row for row in self.rows if isinstance(row, DefectRow)]
        provenance = {(family, item.id): item.provenance for family, item in self._chosen if isinstance(item, Defect)}
        lines = ["| kernel | defect | provenance | found as | cases |", "|---|---|---|---|--:|"]
        for defect in found:
            kind = f"`{defect.kind}`" if defect.kind else "**not found**"
            upstream = _cell(provenance[defect.target, defect.id])
            lines.append(f"| {defect.target} | `{defect.id}` | {upstream} | {kind} | {defect.cases} |")
        lines += ["", "| kernel | control | reported | cases that exercise it |", "|---|---|---|--:|"]
        for row in self.rows:
            if isinstance(row, ControlRow):
                verdict = "nothing" if row.clean else "**something**"
                lines.append(f"| {row.target} | `{row.id}` | {verdict} | {row.cases} |")
        if found:
            median = statistics.median_high(row.cases for row in found)
            number = f"{len(found)} defect{'s' * (len(found) != 1)}"
            lines += ["", f"{number}, median {median} cases, most {max(row.cases for row in found)}."]
        return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A text that no character ends the cell of."""
    return text.replace("|", "\\|").replace("\n", " ")


def _turns(cases: int) -> list[int]:
    """Cases for each turn of a family's targets, all together `cases`: a defect of the last is found soon too."""
    turns: list[int] = []
    while cases > 0:
        turns.append(min(_FIRST_TURN * 2 ** len(turns), cases))
        cases -= turns[-1]
    return turns


def _recording(target: Target, tried: list[Case]) -> Target:
    """The same target, which keeps the cases that it is run with."""

    def function(mem: Any, **arguments: Any) -> None:
        if mem.case not in tried[-1:]:
            tried.append(mem.case)
        target.function(mem, **arguments)

    return replace(target, function=function)
