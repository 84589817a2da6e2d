"""What fp4guard raises when it cannot do what it was asked. Findings are not errors: see `fp4guard.checks`."""

from __future__ import annotations

from typing import Protocol


class Fp4guardError(Exception):
    """The base of all errors of use and of limits."""


class UsageError(Fp4guardError):
    """An argument is not what it may be; the message names it, its value and what is allowed."""


class _Place(Protocol):
    """A location in a kernel's source: prints as file:line:column, and knows the line's text."""

    @property
    def source(self) -> str: ...


class UnsupportedError(Fp4guardError):
    """A kernel uses something that the simulator does not execute: refused by name, never guessed."""

    def __init__(self, what: str, location: _Place | None = None, detail: str = "") -> None:
        self.what, self.detail = what, detail
        self.location = location
        where = f"\n  at {location}   {location.source}" if location is not None else ""
        super().__init__(f"not supported by the simulator: {what}{where}" + (f"\n  {detail}" if detail else ""))


class DefectError(Fp4guardError):
    """A planted defect or a control no longer matches the source that it changes."""
