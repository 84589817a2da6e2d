"""A comparison of `fp4guard bench`: what it times beside what, and how its rows are told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol


class Measured(Protocol):
    """A row of the result: a dataclass of plain values, which are its JSON. `ratio` is the median of the rounds'."""

    @property
    def ratio(self) -> float: ...

    def cells(self) -> Sequence[str]:
        """What stands below the columns."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`measure` gives rows as they come, each of so many rounds in which both sides are timed in turn.

    `columns` are headings with the format of what stands below them. `averaged`: all rows compare with the same, and
    their ratios have a mean.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    measure: Callable[[int], Iterator[Any]]
    averaged: bool = False

    def heading(self) -> str:
        """The first line."""
        return self.line([heading for heading, _ in self.columns])

    def line(self, cells: Sequence[str]) -> str:
        """The cells of a row, each in its column."""
        return "".join(format(cell, form) for cell, (_, form) in zip(cells, self.columns, strict=True))

    def summary(self, rows: Sequence[Measured]) -> str | None:
        """The last line, where there is one."""
        return f"geometric mean of the ratios: {geomean(rows):.1f}" if self.averaged and rows else None

    def as_json(self, rows: Sequence[Any]) -> dict[str, Any]:
        """{name: {"rows": [rows]}}, with "geomean" where the ratios have a mean."""
        mean = {"geomean": geomean(rows)} if self.averaged and rows else {}
        return {self.name: mean | {"rows": [asdict(row) for row in rows]}}


def geomean(rows: Sequence[Measured]) -> float:
    """Of the ratios."""
    return math.exp(sum(math.log(row.ratio) for row in rows) / len(rows))
