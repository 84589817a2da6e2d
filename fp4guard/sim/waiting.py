"""Which of the values that a loop carries decide how it goes on.

A loop that waits may count how often it has looked: what it counts changes for ever, and nothing comes of it.
"""

from __future__ import annotations

from ..ttir import Operation, Value
from .ops import NO_OPS, RULES
from .ops.undefined import EFFECTS as CHECKED

#: What neither changes memory nor says anything: it decides only through its results. Loads give the same from the same
#: address as long as nothing is written, which `control.while_step` asks for besides.
_QUIET = frozenset({*RULES, *CHECKED, *NO_OPS, "arith.constant", "tt.load", "scf.yield", "tt.reduce", "tt.scan"})


def deciding(op: Operation) -> tuple[int, ...]:
    """The places of the carried values of an scf.while that its condition, or anything else that it does besides
    computing, may depend on.
    """
    before, after = (region.block for region in op.regions)
    *quiet, condition = before.operations
    roots, made = [condition.operands[0]], _Made()
    for inner in (*quiet, *after.operations):
        made.take(inner)
        if not all(one.name in _QUIET or one.name.startswith("scf.") for one in _within(inner)):
            roots += _read(inner)
    handed = dict(zip(after.arguments, condition.operands[1:]))
    handed.update(zip(before.arguments, after.operations[-1].operands))
    seen: set[Value] = set()
    while roots:
        value = roots.pop()
        if value not in seen:
            seen.add(value)
            roots += made.of(value)
            roots += [handed[value]] if value in handed else []
    return tuple(place for place, value in enumerate(before.arguments) if value in seen)


class _Made:
    """What each value is computed from."""

    def __init__(self) -> None:
        self._from: dict[Value, list[Value]] = {}

    def take(self, op: Operation) -> None:
        """An operation with all that is in it: whatever comes of it depends on whatever it reads."""
        read = _read(op)
        for one in _within(op):
            for result in one.results:
                self._from[result] = read

    def of(self, value: Value) -> list[Value]:
        return self._from.get(value, [])


def _read(op: Operation) -> list[Value]:
    return [value for one in _within(op) for value in one.operands]


def _within(op: Operation) -> list[Operation]:
    """The operation and those in its regions."""
    inner = [one for region in op.regions for block in region.blocks for one in block.operations]
    return [op, *(deeper for one in inner for deeper in _within(one))]
