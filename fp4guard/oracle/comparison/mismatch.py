"""What `compare` says of an output that is wrong, printable in the manner of torch.testing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fp4guard.oracle.comparison import pattern, picture
from fp4guard.oracle.operand import Bools

NEVER = np.iinfo(np.int64).max
"""The distance, in steps, between NaN and any number."""


@dataclass(frozen=True)
class Bound:
    """A value in the output's type, with its bits."""

    value: float
    bits: int
    width: int

    def __str__(self) -> str:
        return f"{self.value!r} ({self.bits:#0{self.width // 4 + 2}x})"


@dataclass(frozen=True)
class Element:
    """One output element that is wrong."""

    index: tuple[int, ...]
    actual: Bound
    exact: float
    """The exact result before the output's rounding; NaN where NaN is expected."""
    bound: float
    """How far a correct accumulator may be from `exact`, on the side where `actual` is."""
    certain: bool
    """Whether there is one right answer."""
    low: Bound
    high: Bound
    """The interval of results allowed; both are the one right answer where that is certified, or NaN."""
    ulps: int | None
    """Steps of the type from `actual` to the nearest allowed value, None where just one of them is NaN."""

    @property
    def distance(self) -> str:
        """How far it is from what is allowed."""
        return distance(self.ulps, "ulp")

    def __str__(self) -> str:
        if self.low == self.high:
            allowed = f"expected {self.low}, actual {self.actual}"
        else:
            allowed = f"expected {self.low} to {self.high}, actual {self.actual}"
        return f"{allowed}\n    {self._reason()}"

    def _reason(self) -> str:
        if np.isnan(self.exact):
            return "a NaN takes part in this element, so it must be NaN"
        nan = "no NaN takes part in this element; " if np.isnan(self.actual.value) else ""
        if self.certain:
            sole = f"the one right answer is {self.exact!r}, rounded once"
            return f"{nan}{sole}: certified, or given as exact; bits must match"
        error = "" if nan else f"differs by {abs(self.actual.value - self.exact):.6g}, "
        return f"{nan}exact {self.exact!r}; {error}a correct accumulator by at most {self.bound:.6g}"


@dataclass(frozen=True)
class CodeElement:
    """One wrong code of a quantized output."""

    index: tuple[int, ...]
    """Its logical index, in codes."""
    expected: Bound
    actual: Bound
    """The bits are all that the code's place holds; the value is that of the format's bits among them."""
    steps: int | None
    """Codes from the one to the other, by value; None where just one of them is NaN."""
    place: str
    """Where the code is stored, and what it belongs to."""
    rule: str
    """What was broken."""

    @property
    def distance(self) -> str:
        """How far it is from what is expected."""
        return distance(self.steps, "step")

    def __str__(self) -> str:
        place = f"; {self.place}" if self.place else ""
        return f"expected {self.expected}, actual {self.actual}{place}\n    {self.rule}"


@dataclass(frozen=True)
class Mismatch:
    """Elements, or codes, that are not as expected."""

    dtype_name: str
    count: int
    total: int
    """Elements compared, those of which nothing is known included."""
    first: Element | CodeElement
    """The first wrong element in row-major order."""
    worst: Element | CodeElement
    """The wrong element farthest from what is allowed; a NaN on one side only is farther than any number."""
    explanation: str | None = None
    """A sentence on what all wrong codes look like, None where no simple rule fits all."""
    pattern: str | None = None
    """A sentence on where all wrong elements are, None where that shows no pattern."""
    picture: str | None = None
    """A map of where they are, None where it would tell nothing."""

    def __str__(self) -> str:
        noun = "codes" if isinstance(self.first, CodeElement) else "elements"
        lines = [f"Mismatched {noun}: {share(self.count, self.total)}"]
        lines.append(f"Greatest difference: {self.worst.distance} at index {self.worst.index} [{self.dtype_name}]")
        lines.append(f"    {self.worst}")
        if self.first.index != self.worst.index:  # a NaN in them would differ from itself
            lines.append(f"First difference: {self.first.distance} at index {self.first.index}")
            lines.append(f"    {self.first}")
        lines += [text for text in (self.explanation, self.pattern, self.picture) if text is not None]
        return "\n".join(lines)


@dataclass(frozen=True)
class PaddingMismatch:
    """Padding of a quantized output that does not hold what it has to."""

    count: int
    total: int
    """Bytes of padding."""
    index: tuple[int, ...]
    """The first wrong byte, in the stored buffer."""
    position: tuple[int, int]
    """The row and the column of the padded matrix that it stands for, in bytes."""
    padded: tuple[int, ...]
    """The shape of the padded matrix."""
    data: tuple[int, ...]
    """The shape of the matrix without padding."""
    expected: int
    actual: int
    contents: tuple[tuple[int, int], ...]
    """What the padding holds: bytes, and how often each, the most frequent first."""

    def __str__(self) -> str:
        row, column = self.position
        held = [f"{byte:#04x} {times}x" for byte, times in self.contents[:4]]
        more = [f"{len(self.contents) - 4} other bytes"] if len(self.contents) > 4 else []
        return "\n".join(
            [
                f"Mismatched padding: {share(self.count, self.total)} bytes",
                f"First at index {self.index}: row {row}, column {column} of the {_by(self.padded)} padded matrix, "
                f"{_by(self.data)} without padding",
                f"    expected {self.expected:#04x}, actual {self.actual:#04x}",
                f"The padding holds {', '.join(held + more)}.",
            ]
        )


@dataclass(frozen=True)
class CodesMismatch:
    """What is wrong with a quantized output: its codes, or what is between them, or both."""

    codes: Mismatch | None
    padding: PaddingMismatch | None

    def __str__(self) -> str:
        return "\n".join(str(part) for part in (self.codes, self.padding) if part is not None)


AnyMismatch: TypeAlias = "Mismatch | CodesMismatch"


def places(wrong: Bools) -> tuple[str | None, str | None]:
    """`pattern` and `picture` of a Mismatch."""
    return pattern.describe(wrong), picture.draw(wrong)


def share(count: int, total: int) -> str:
    """`3 / 12 (25.0%)`."""
    return f"{count} / {total} ({100 * count / total:.1f}%)"


def distance(steps: int | None, unit: str) -> str:
    """`2 ulps`; None is the distance of a NaN from a number."""
    if steps is None:
        return "NaN on one side only"
    return f"{steps} {unit}" if steps == 1 else f"{steps} {unit}s"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
