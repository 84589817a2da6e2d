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
    """A kernel uses something that the simulator does not execute, or a target what a device has no room for: refused
    by name, never guessed.
    """

    def __init__(self, what: str, location: _Place | None = None, detail: str = "") -> None:
        self.what, self.detail = what, detail
        self.location = location
        where = f"\n  at {location}   {location.source}" if location is not None else ""
        super().__init__(f"not supported by fp4guard: {what}{where}" + (f"\n  {detail}" if detail else ""))

    def __reduce__(self) -> tuple[type[UnsupportedError], tuple[str, _Place | None, str]]:
        return type(self), (self.what, self.location, self.detail)


class DefectError(Fp4guardError):
    """A planted defect or a control no longer matches the source that it changes."""
