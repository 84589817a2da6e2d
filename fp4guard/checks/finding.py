"""Findings: one thing wrong, and the exception that carries it through pytest and hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Every kind of finding, causes before what follows from them, with the name of its exception class. Hypothesis tells
#: bugs apart by the exception's type.
KINDS = {
    "int-overflow": "IntegerOverflow",
    "undefined-lane": "UndefinedLane",
    "undefined-value": "UndefinedValue",
    "uninitialized-read": "UninitializedRead",
    "oob-write": "OutOfBoundsWrite",
    "oob-read": "OutOfBoundsRead",
    "race": "Race",
    "assert-failed": "AssertFailed",
    "unwritten-output": "UnwrittenOutput",
    "padding-content": "PaddingContent",
    "input-modified": "InputModified",
    "wrong-value": "WrongValue",
    "poison-dependent": "PoisonDependent",
    "nondeterministic": "Nondeterministic",
    "crash": "Crash",
    "hang": "Hang",
}


@dataclass(frozen=True)
class Finding:
    """One thing wrong in one case.

    `tensor` is the region's name; `file`, `line`, `column` (from 1) the operation in the kernel's source, where one is
    to blame; `programs` the (x, y, z) ids of programs that did it, at most 64; `offset` the first offending byte,
    counted from the tensor's first element. `rows` are the labelled lines of the message below its headline.
    """

    kind: str
    headline: str
    tensor: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    programs: tuple[tuple[int, int, int], ...] = ()
    offset: int | None = None
    rows: tuple[tuple[str, str], ...] = ()

    @property
    def message(self) -> str:
        """The headline and its rows, aligned."""
        return "\n".join([f"{KINDS[self.kind]}: {self.headline}", *format_rows(self.rows)])

    @property
    def key(self) -> tuple[str, str | None, int | None, str | None]:
        """What makes two findings the same bug: kind and place, or tensor where there is no place."""
        return self.kind, self.file, self.line, None if self.file else self.tensor


def format_rows(rows: tuple[tuple[str, str], ...]) -> list[str]:
    """`  label   text`, further lines of a text under its first."""
    return [f"  {label:<8}" + text.replace("\n", "\n" + " " * 10) for label, text in rows]


class FindingError(AssertionError):
    """A finding, raised. The subclass is the kind's; `report` is the `fp4guard.Report` of the case."""

    def __init__(self, finding: Finding, message: str, report: Any) -> None:
        super().__init__(message)
        self.finding, self.report = finding, report


_CLASSES = {
    kind: type(name, (FindingError,), {"__doc__": f"A finding of kind {kind}.", "__module__": __name__})
    for kind, name in KINDS.items()
}


def error_class(kind: str) -> type[FindingError]:
    """The exception class of a kind: `error_class("oob-read").__name__ == "OutOfBoundsRead"`."""
    return _CLASSES[kind]
