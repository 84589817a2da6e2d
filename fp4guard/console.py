"""What a person sees: progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import rich.console
import rich.progress

from .fuzzing.campaign import Search
from .fuzzing.loading import spec_of
from .fuzzing.selftest import ControlRow, DefectRow, Selftest
from .fuzzing.setting import Setting
from .fuzzing.target import Target
from .isolation.examiners import gpu_arch
from .sim.ops.catalogue import Supported

if TYPE_CHECKING:
    from .bench.comparison import Comparison
    from .bench.gpu.table import Table
    from .session import Session


class Progress(Protocol):
    """Is told how searches go."""

    def update(self, search: Search) -> None: ...

    def done(self, search: Search) -> None: ...


class Console:
    """Writes to standard output, or to standard error when that is for JSON."""

    def __init__(self, stderr: bool = False) -> None:
        # Highlighting and markup would colour and swallow parts of kernels' source lines.
        self._out = rich.console.Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)

    def runnable(self, targets: Sequence[Target], setting: Setting) -> list[Target]:
        """Those of several targets that can run there; what is written for another GPU is named."""
        if setting.device == "sim":
            return list(targets)
        arch = gpu_arch(setting)
        for target in targets:
            if target.arch is not None and target.arch.name != arch:
                self._out.print(f"not on {arch}: {spec_of(target)}, which is written for {target.arch.name}")
        return [target for target in targets if target.arch is None or target.arch.name == arch]

    @contextmanager
    def progress(self, targets: Sequence[Target], seconds: float | None, setting: Setting) -> Iterator[Progress]:
        """A live line on a terminal, a line per target elsewhere."""
        limit = f"{seconds:g} s" if seconds is not None else "no time limit"
        self._out.print(f"fuzzing {_count(len(targets), 'target')} on {_place(setting)}, {limit}")
        if not self._out.is_terminal:
            yield _PlainProgress(self._out)
            return
        columns = (
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.TimeElapsedColumn(),
        )
        with rich.progress.Progress(*columns, console=self._out, transient=True) as live:
            yield _LiveProgress(self._out, live)

    def report(self, text: str) -> None:
        """A report in full: headlines stand out from the rows below them."""
        self._out.print()
        for line in text.splitlines():
            self._out.print(line, style="" if line.startswith(" ") else "bold red")

    def summary(self, searches: Sequence[Search], interrupted: bool) -> None:
        """The last line."""
        cases, found = sum(s.cases for s in searches), sum(len(s.findings) for s in searches)
        outcome = _count(found, "finding") if found else "nothing found" if cases else "nothing tried"
        seconds = sum(s.seconds for s in searches)
        self._out.print()
        stop = "interrupted: " if interrupted else ""
        self._out.print(
            f"{stop}{outcome} in {_count(cases, 'case')}, {seconds:.0f} s", style="bold red" if found else "bold green"
        )

    def coverage(self, search: Search) -> None:
        """Which masks a search exercised, and which it did not."""
        masks = search.coverage.masks()
        if not masks:
            return
        done = sum(seen.exercised for _, seen in masks)
        never = [str(place) for place, seen in masks if not seen.exercised]
        missing = f"; never partly on: {', '.join(never)}" if never else ""
        self._out.print(f"{spec_of(search.target)}: {done} of {_count(len(masks), 'mask')} exercised{missing}")

    def session(self, session: Session, failure: str | None, interrupted: bool) -> None:
        """What `fp4guard run` found, and the last line."""
        for finding in session.findings:
            self.report(finding.message)
        if session.notes:
            self._out.print()
        for note in session.notes:
            self._out.print(f"note: {note}")
        found = _count(len(session.findings), "finding") if session.findings else "nothing found"
        own = f"; the script failed: {failure}" if failure is not None else ""
        self._out.print(
            f"\n{'interrupted: ' * interrupted}{found} in {_count(session.simulator.launches, 'launch')}{own}",
            style="bold red" if session.findings or failure else "bold green",
        )

    def listing(self, kernels: Sequence[dict[str, Any]]) -> None:
        """`fp4guard list`."""
        for kernel in kernels:
            self._out.print(kernel["target"], style="bold")
            self._out.print(f"  {kernel['summary']}")
            self._out.print(f"  arguments       {', '.join(kernel['arguments'])}")
            self._out.print(f"  configurations  {len(kernel['configurations'])}: {', '.join(kernel['configurations'])}")
            for defect in kernel["defects"]:
                self._out.print(f"  defect          {defect['id']}: {defect['summary']} [{defect['provenance']}]")
            for control in kernel["controls"]:
                self._out.print(f"  control         {control['id']}: {control['summary']}")

    def ops(self, rows: Sequence[Supported]) -> None:
        """`fp4guard ops`, by kind."""
        for kind in dict.fromkeys(row.what for row in rows):
            self._out.print(kind, style="bold")
            for row in rows:
                if row.what == kind:
                    self._out.print(f"  {row.name}   {row.notes}".rstrip())

    def comparison(self, comparison: Comparison, rounds: int) -> list[Any]:
        """A comparison of `fp4guard bench`, a line a row as it comes; gives the rows."""
        self._out.print(comparison.heading(), style="bold")
        done = []
        for row in comparison.measure(rounds):
            self._out.print(comparison.line(row.cells()))
            done.append(row)
        if (summary := comparison.summary(done)) is not None:
            self._out.print(f"\n{summary}", style="bold")
        return done

    def table(self, table: Table, rows: Iterator[Any], done: list[Any]) -> None:
        """A table of `fp4guard bench gpu`, a row as it comes; they are added to those that are done."""
        self._out.print(f"{table.title}: {' | '.join(table.columns)}", style="bold")
        for row in rows:
            self._out.print(" | ".join(row.cells()))
            done.append(row)
        together = table.together(done)
        if len(together) < len(done):
            self._out.print("in all", style="bold")
            for row in together:
                self._out.print(" | ".join(row.cells()))
        if summary := table.summary(together):
            self._out.print(summary)

    def row(self, row: DefectRow | ControlRow) -> None:
        """One line as a defect or control is done."""
        style = "" if row.passed else "bold red"
        self._out.print(f"{row.target}  {row.id}: {_verdict(row)}", style=style)

    def selftest(self, selftest: Selftest, interrupted: bool) -> None:
        """The last line of `fp4guard defects`."""
        rows = selftest.rows
        failed = sum(not row.passed for row in rows)
        outcome = f"{failed} of {len(rows)} failed" if failed else f"all {len(rows)} as they must be"
        self._out.print(f"\n{'interrupted: ' * interrupted}{outcome}", style="bold red" if failed else "bold green")


def _verdict(row: DefectRow | ControlRow) -> str:
    if isinstance(row, DefectRow):
        return f"found as {row.kind}, case {row.cases}, {row.seconds:.1f} s" if row.found else "NOT FOUND"
    if not row.clean:
        return "FALSE ALARM"
    return f"clean in {_count(row.cases, 'case')} that exercise it" if row.cases else "NEVER EXERCISED"


def _place(setting: Setting) -> str:
    return "the simulator" if setting.in_process else str(setting).replace("sim", "the simulator")


class _PlainProgress:
    def __init__(self, out: rich.console.Console) -> None:
        self._out = out

    def update(self, search: Search) -> None:
        pass

    def done(self, search: Search) -> None:
        self._out.print(_progress_line(search))


class _LiveProgress(_PlainProgress):
    def __init__(self, out: rich.console.Console, live: rich.progress.Progress) -> None:
        super().__init__(out)
        self._live, self._task = live, live.add_task("starting", total=None)

    def update(self, search: Search) -> None:
        self._live.update(self._task, description=_progress_line(search))


def _progress_line(search: Search) -> str:
    found = f", {_count(len(search.findings), 'finding')}" if search.found else ""
    return f"{spec_of(search.target)}: {_count(search.cases, 'case')}{found}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{('es' if noun.endswith('ch') else 's') * (number != 1)}"
