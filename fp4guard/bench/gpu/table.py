"""A table of `fp4guard bench gpu`: its rows, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import torch


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is run: `jobs` processes at a time, about so many `cases` in a table of cases, over all targets."""

    jobs: int
    cases: int


class OfTarget(Protocol):
    """A row about a target."""

    @property
    def target(self) -> str: ...


T = TypeVar("T", bound=OfTarget)


class Row(Protocol):
    """A dataclass of plain values, which are its JSON."""

    def cells(self) -> Sequence[str]:
        """What stands below the columns."""


@dataclass(frozen=True, slots=True)
class Table:
    """`measure` gives rows as they come, and `together` makes one of those that are about the same; `summary` is told
    below them; `legend` says what the columns mean.
    """

    name: str
    title: str
    legend: str
    columns: tuple[str, ...]
    measure: Callable[[Scale], Iterator[Any]]
    together: Callable[[Sequence[Any]], list[Any]] = list
    summary: Callable[[Sequence[Any]], str] = lambda rows: ""

    def markdown(self, rows: Sequence[Row]) -> str:
        """Title, legend, rows and summary; numbers stand to the right."""
        cells = [row.cells() for row in rows]
        lines = [f"## {self.title}", "", self.legend, ""]
        lines.append(f"| {' | '.join(self.columns)} |")
        numeric = [all(_is_number(row[i]) for row in cells) for i in range(len(self.columns))]
        lines.append(f"|{'|'.join('--:' if right else '---' for right in numeric)}|")
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]
        summary = self.summary(rows)
        return "\n".join([*lines, *(["", summary] if summary else [])]) + "\n"


def environment() -> dict[str, str]:
    """What was measured on, when, and with which versions."""
    return {
        "device": torch.cuda.get_device_name(),
        "date": str(date.today()),
        "cuda": str(torch.version.cuda),
        **{name: version(name) for name in ("fp4guard", "triton", "torch")},
    }


def as_markdown(
    tables: Sequence[Table], measured: Mapping[str, Sequence[Any]], device: Mapping[str, str], unfinished: Sequence[str]
) -> str:
    """The tables, below what they were measured on, and which of them are `unfinished`."""
    where = ", ".join(f"{name} {value}" for name, value in device.items())
    lines = [f"{where[0].upper()}{where[1:]}.\n"]
    if unfinished:
        lines.append(f"Not measured to the end: {', '.join(unfinished)}.\n")
    return "\n".join([*lines, *(table.markdown(measured[table.name]) for table in tables)])


def as_json(
    measured: Mapping[str, Sequence[Any]], device: Mapping[str, str], unfinished: Sequence[str]
) -> dict[str, Any]:
    """{"gpu": {"device", "date", versions, "unfinished": [tables], tables: [rows]}}."""
    rows = {name: [asdict(row) for row in rows] for name, rows in measured.items()}
    return {"gpu": {**device, "unfinished": list(unfinished), **rows}}


def by_target(rows: Sequence[T], merge: Callable[[Sequence[T]], T]) -> list[T]:
    """One row for each `target`, by its name."""
    groups: dict[str, list[T]] = {}
    for row in rows:
        groups.setdefault(row.target, []).append(row)
    return [merge(groups[target]) for target in sorted(groups)]


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(".", "", 1).isdigit()
