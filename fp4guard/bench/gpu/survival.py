"""Targets that end their process in one case of ten: every case is run, every death told, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

from ...fuzzing.case import Case
from ...fuzzing.loading import load_target
from ...fuzzing.setting import Setting
from ...isolation import examining
from ...report.reproducer import write_reproducer
from .deaths import DEATHS, dies
from .pool import spread
from .table import Scale, Table, by_target

_CASES = 200

#: Cases that one process tries in a row.
_AT_A_TIME = 20

#: Seconds for a case: with the start of a GPU, which follows a death, and compilation.
_TIMEOUT = 20.0

#: In the environment of every process that a share of the work starts.
_MARK = "FP4GUARD_SURVIVAL"


@dataclass(frozen=True)
class Measured:
    """What became of a target's cases: `deadly` are those that must be reported, `reported` those that were, each with
    a reproducer; `others` are reports of cases that are right, `reproduced` scripts that were run and say that the
    finding is still there, of as many as were `tried`. `left` are processes and files that remained.
    """

    target: str
    cases: int
    deadly: int
    reported: int
    others: int
    headline: str
    reproduced: int
    tried: int
    left: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        counts = (str(self.cases), str(self.deadly), str(self.reported), str(self.others))
        return (self.target, *counts, f"{self.reproduced} of {self.tried}", str(len(self.left)), self.headline)


def _try_some(work: tuple[str, range, Setting, str]) -> Measured:
    """Cases of some sizes, in a folder for whatever is written."""
    name, sizes, setting, below = work
    target = load_target(f"{Path(__file__).with_name('deaths.py')}::{name}")
    reported, others, headline, reproduced, tried = 0, 0, "", 0, 0
    mark = f"{name}-{sizes.start}-{os.getpid()}"
    with tempfile.TemporaryDirectory(dir=below) as folder:
        with _everything_below(folder, mark), examining(setting) as examine:
            for n in sizes:
                try:
                    report = examine(target, Case({"n": n}), None, None)
                except Exception as error:  # of fp4guard's own, which must not happen
                    others, headline = others + 1, f"{type(error).__name__}: {error}"
                    continue
                if report.findings and dies(n):
                    script = write_reproducer(report, Path(folder) / "repro")
                    headline = report.findings[0].headline
                    if not reported and sizes.start == 1:
                        tried += 1
                        reproduced += _reproduces(script)
                    reported += script.is_file()
                else:
                    others += bool(report.findings)
        left = (*_processes(mark), *(path.name for path in Path(folder).glob("fp4guard-*")))
    return Measured(name, len(sizes), sum(map(dies, sizes)), reported, others, headline, reproduced, tried, left)


@contextmanager
def _everything_below(folder: str, mark: str) -> Iterator[None]:
    """While active, what this process starts has the mark, and its temporary files are in the folder."""
    with patch.dict(os.environ, {_MARK: mark, "TMPDIR": folder}), patch.object(tempfile, "tempdir", folder):
        yield


def _reproduces(script: Path) -> bool:
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    return ended.returncode == 1 and ended.stdout.splitlines()[-1:] == ["reproduces"]


def _processes(mark: str) -> list[str]:
    """Processes whose environment has the mark, other than this one; what has just been killed gets a moment."""
    for _ in range(100):
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                inherited = f"{_MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0")
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
            if inherited and int(process.name) != os.getpid():
                found.append(f"process {process.name}")
        if not found:
            break
        time.sleep(0.1)
    return found


def measure(scale: Scale, setting: Setting | None = None, cases: int = _CASES) -> Iterator[Measured]:
    """Shares of each target's cases, as they are done."""
    setting = setting or Setting("cuda", timeout=_TIMEOUT)
    shares = [range(first, min(first + _AT_A_TIME, cases + 1)) for first in range(1, cases + 1, _AT_A_TIME)]
    with tempfile.TemporaryDirectory() as folder:
        work = [(target.name, sizes, setting, folder) for sizes in shares for target in DEATHS]
        yield from spread(_try_some, work, scale.jobs)


def _merged(parts: Sequence[Measured]) -> Measured:
    return Measured(
        parts[0].target,
        sum(part.cases for part in parts),
        sum(part.deadly for part in parts),
        sum(part.reported for part in parts),
        sum(part.others for part in parts),
        next((part.headline for part in parts if part.headline), ""),
        sum(part.reproduced for part in parts),
        sum(part.tried for part in parts),
        tuple(thing for part in parts for thing in part.left),
    )


TABLE = Table(
    "survival",
    "Targets that end their process",
    f"{_CASES} cases of each, of which one in ten ends the process that runs it, or does not end. Every case is run, "
    "and each of the deadly ones is reported, with a reproducer, the first of which is run as well. `left` counts "
    "processes and files that remain.",
    ("target", "cases", "deadly", "reported", "others reported", "reproduced", "left", "as"),
    measure,
    partial(by_target, merge=_merged),
)
