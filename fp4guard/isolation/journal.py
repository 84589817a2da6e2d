"""The journal of a worker: what it is doing, on disk before it does it, so that a death can be told about."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any


class Journal:
    """One record, written over and over: the case that is examined, and the launch that was begun last.

    It is handed to the operating system before the work begins, and so survives the process, whatever ends it.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._length = 0
        self._record: dict[str, Any] = {}

    def case(self, spec: str, case: str) -> None:
        """A case begins."""
        self._record = {"target": spec, "case": case, "launches": 0}
        self._write()

    def launch(self, kernel: str, line: str) -> None:
        """A launch begins, of a kernel, by a line of host code."""
        self._record |= {"launches": self._record.get("launches", 0) + 1, "kernel": kernel, "line": line}
        self._write()

    def _write(self) -> None:
        text = json.dumps(self._record).encode()
        # In one call, and blank where the record before was longer: a reader finds a whole record at any time.
        padded = text.ljust(self._length)
        self._length = len(text)
        self._file.seek(0)
        self._file.write(padded)


def read_journal(path: Path) -> dict[str, Any]:
    """The last record; an empty one where there is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    return dict(json.loads(text)) if text.strip() else {}
