"""A case: everything that a run depends on besides the target. Small, frozen, printable, replayable."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import UsageError
from ..oracle import REGIMES

#: Layout variants are drawn below this number; 0 is plain contiguous tensors.
LAYOUT_SEEDS = 64

_LITERALS = (int, float, str, bool, type(None))


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """One set of drawn arguments, a data seed, a data regime, and how the tensors lie in memory.

    Two cases are equal when they print the same source, whatever the order of their arguments: True is not 1.

    Raises UsageError for an argument that is no literal: a case must be printable as source code. Draw the name of a
    configuration, and look it up in the target. Also for an unknown regime, and a seed or layout below 0.
    """

    arguments: Mapping[str, Any] = field(compare=False)
    seed: int = field(default=0, compare=False)
    regime: str = field(default="exact", compare=False)
    layout: int = field(default=0, compare=False)
    _key: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name, value in self.arguments.items():
            if not _is_literal(value):
                raise UsageError(
                    f"argument {name}={value!r}: allowed are integers, floats, strings, booleans, None and tuples of "
                    "them, which a reproducer can print; draw a name and look it up in the target"
                )
        if self.regime not in REGIMES:
            raise UsageError(f"regime={self.regime!r}: allowed are {', '.join(map(repr, REGIMES))}")
        for name, number in (("seed", self.seed), ("layout", self.layout)):
            if type(number) is not int or number < 0:
                raise UsageError(f"{name}={number!r}: allowed are integers of 0 or more")
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))
        printed = tuple(sorted((name, _source(value)) for name, value in self.arguments.items()))
        object.__setattr__(self, "_key", (printed, self.seed, self.regime, self.layout))

    def __str__(self) -> str:
        shown = [f"{name}={_shown(value)}" for name, value in self.arguments.items()]
        return " ".join([*shown, f"regime={self.regime}", f"layout={self.layout}", f"seed={self.seed}"])

    def __repr__(self) -> str:
        """Python source of the case."""
        arguments = ", ".join(f"{name!r}: {_source(value)}" for name, value in self.arguments.items())
        return f"Case({{{arguments}}}, seed={self.seed}, regime={self.regime!r}, layout={self.layout})"

    def digest(self, *more: str) -> str:
        """Eight hexadecimal digits that name the case (and `more`)."""
        text = "\n".join([repr(self), *more])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _is_literal(value: Any) -> bool:
    if isinstance(value, tuple):
        return type(value) is tuple and all(_is_literal(v) for v in value)
    return type(value) in _LITERALS  # an enum's or numpy's number is an int, and prints as something else


def _source(value: Any) -> str:
    """Python source of a literal; that of a NaN or an infinity is a call."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_source, value))}{',' * (len(value) == 1)})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


def _shown(value: Any) -> str:
    """A string without quotes, where it can be told from what stands around it."""
    return value if isinstance(value, str) and value.isidentifier() else _source(value)
