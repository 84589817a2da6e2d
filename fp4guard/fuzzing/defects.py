"""Planted defects and controls: small, named changes to an included kernel's source, kept as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DefectError


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `before`, which must stand exactly once in `file` of the kernel's folder, by `after`."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Defect:
    """A real bug. `kinds` are the kinds of finding that are true of it; `provenance` is where it was fixed upstream."""

    id: str
    edits: tuple[Edit, ...]
    kinds: tuple[str, ...]
    provenance: str
    summary: str


@dataclass(frozen=True, slots=True)
class Control:
    """A legitimate trick, which must stay clean.

    `present` are (file, text) that must stand in the source, and `exercised` says of a case's arguments whether the
    trick matters in it: a control can be neither gone nor untried.
    """

    id: str
    present: tuple[tuple[str, str], ...]
    exercised: Callable[[Mapping[str, Any]], bool]
    summary: str


def apply(edits: Iterable[Edit], folder: Path) -> dict[str, str]:
    """The changed sources by file name.

    Raises DefectError when an edit's text is not there exactly once: the source has moved on without it.
    """
    sources: dict[str, str] = {}
    for edit in edits:
        text = sources.get(edit.file) or (folder / edit.file).read_text()
        if (count := text.count(edit.before)) != 1:
            raise DefectError(f"{edit.file} has {count} times, not once, the text of an edit:\n{edit.before}")
        sources[edit.file] = text.replace(edit.before, edit.after)
    return sources


def check_present(control: Control, folder: Path) -> None:
    """Raise DefectError when the source no longer holds what a control is about."""
    for file, text in control.present:
        if text not in (folder / file).read_text():
            raise DefectError(f"the control {control.id} is about text that {file} no longer has:\n{text}")
