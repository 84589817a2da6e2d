"""A case: everything that a run depends on besides the target. Small, frozen, printable, replayable."""

from __future__ import annotations

import hashlib
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

    Raises UsageError for an argument that is no literal: a case must be printable as source code. Draw the name of a
    configuration, and look it up in the target.
    """

    arguments: Mapping[str, Any]
    seed: int = 0
    regime: str = "exact"
    layout: int = 0
    _key: tuple[Any, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in self.arguments.items():
            if not _is_literal(value):
                raise UsageError(
                    f"argument {name}={value!r}: allowed are integers, floats, strings, booleans, None and tuples of "
                    "them, which a reproducer can print; draw a name and look it up in the target"
                )
        if self.regime not in REGIMES:
            raise UsageError(f"regime={self.regime!r}: allowed are {', '.join(map(repr, REGIMES))}")
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))
        object.__setattr__(
            self, "_key", (tuple(self.arguments.items()), self.seed, self.regime, self.layout)
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        shown = [f"{name}={value}" for name, value in self.arguments.items()]
        return " ".join([*shown, f"regime={self.regime}", f"layout={self.layout}", f"seed={self.seed}"])

    def __repr__(self) -> str:
        """Python source of the case."""
        return (
            f"Case({dict(self.arguments)!r}, seed={self.seed}, regime={self.regime!r}, layout={self.layout})"
        )

    def digest(self, *more: str) -> str:
        """Eight hexadecimal digits that name the case (and `more`)."""
        text = "\n".join([repr(self), *more])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _is_literal(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_literal(v) for v in value)
    return isinstance(value, _LITERALS)
