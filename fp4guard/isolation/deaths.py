"""Findings from workers that did not answer: how they died, or that they did not come to an end."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..checks import Finding
from ..errors import UsageError
from ..fuzzing.blame import is_library

#: Lines of a worker's output that a finding tells.
_LINES = 12

#: A frame as faulthandler prints it, the innermost first.
_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+) in ', re.MULTILINE)
#: What faulthandler prints besides: it is told as the place, or of no use.
_DUMPED = re.compile(r'\s*File ".+", line \d+ in |Extension modules: |Timeout \(|Thread 0x|Current thread 0x')


def crash(status: int, output: str, journal: Mapping[str, Any]) -> Finding:
    """The worker died; `status` is what wait() says of it."""
    return _finding("crash", f"the process running the case {_how(status)}", output, journal)


def hang(timeout: float, output: str, journal: Mapping[str, Any]) -> Finding:
    """The worker was killed because a case took too long."""
    return _finding("hang", f"the case did not end within {timeout:g} s", output, journal)


def not_loaded(spec: str, status: int | None, patience: float, output: str) -> UsageError:
    """The worker died before a case began, or was killed (`status` None) because none began within `patience`."""
    how = f"has not done it within {patience:g} s" if status is None else _how(status)
    file, line = _blamed(output, {})
    at = "" if file is None else f", at {file}:{line}"
    said = "".join(f"\n  {text}" for text in _last_lines(output))
    return UsageError(f"{spec}: the process that loads it {how}{at}{said}")


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {one.value: one.name for one in signal.Signals}  # not of every real-time signal
        return f"was ended by {names.get(number, f'signal {number}')}"
    return f"ended itself, exit status {os.waitstatus_to_exitcode(status)}"


def with_output(finding: Finding, output: str, journal: Mapping[str, Any]) -> Finding:
    """A finding with the launch that the journal names, and the end of what the process wrote."""
    rows = list(finding.rows)
    if "kernel" in journal:
        rows.append(("launch", f"number {journal['launches']}: {journal['kernel']}, launched at {journal['line']}"))
    if lines := _last_lines(output):
        rows.append(("output", "\n".join(lines)))
    return replace(finding, rows=tuple(rows))


def _last_lines(output: str) -> list[str]:
    return [text for text in output.splitlines() if text.strip() and not _DUMPED.match(text)][-_LINES:]


def _finding(kind: str, headline: str, output: str, journal: Mapping[str, Any]) -> Finding:
    file, line = _blamed(output, journal)
    rows = () if file is None else (("at", f"{file}:{line}"),)
    return with_output(Finding(kind, headline, file=file, line=line, rows=rows), output, journal)


def _blamed(output: str, journal: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The innermost line of Python that is no library's; else the line that launched last."""
    for frame in _FRAME.finditer(output):
        if not is_library(frame["file"]) and not frame["file"].startswith("<"):
            return frame["file"], int(frame["line"])
    file, _, line = str(journal.get("line", "")).rpartition(":")
    return (file, int(line)) if file and line.isdigit() else (None, None)
