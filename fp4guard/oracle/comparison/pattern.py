"""What the places of wrong elements have in common, in one sentence: a tail, a lane, a row, a block.

A pattern is told only if every wrong element is in it, and if it is no accident: so many elements, strewn at random,
would have to show a pattern of that kind in less than one case in a thousand. Of several the least accidental is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fp4guard.oracle.operand import Bools

Places = NDArray[np.int64]
_ACCIDENT = math.log(1e-3)


@dataclass(frozen=True)
class Pattern:
    """A set of elements that holds all the wrong ones."""

    where: str
    share: float
    """Of all elements, those in the set."""
    alternatives: int
    """How many sets of this kind there are: that many chances of an accident."""

    def chance(self, count: int) -> float:
        """The logarithm of a bound on the chance that `count` elements at random are all in one of these sets."""
        return count * math.log(self.share) + math.log(self.alternatives)


def describe(wrong: Bools) -> str | None:
    """The sentence for bool [*shape], the wrong elements, at least one; None where they show no pattern."""
    count, total = int(wrong.sum()), wrong.size
    if count == total:
        return "Every element is wrong." if total > 1 else None
    indices = np.nonzero(wrong)
    found = [(pattern.chance(count), pattern) for pattern in _patterns(indices, wrong.shape)]
    chance, best = min(found, key=lambda pair: pair[0], default=(0.0, None))
    if best is None or chance > _ACCIDENT:
        return None
    inside = round(best.share * total)
    whole = "all of them wrong" if inside == count else f"{count} of {inside} wrong"
    return f"Every wrong element is in {best.where}: {whole}."


def _patterns(indices: tuple[Places, ...], shape: tuple[int, ...]) -> Iterator[Pattern]:
    hit = [np.unique(index) for index in indices]
    for axis, (places, length) in enumerate(zip(hit, shape, strict=True)):
        yield from _along(_name(axis, len(shape)), places, length)
    yield from _block(hit, shape)


def _along(name: str, places: Places, length: int) -> Iterator[Pattern]:
    """What the places along one axis have in common, simple things first."""
    low, high = int(places[0]), int(places[-1])
    if low == high and length > 1:
        last = ", the last" if low == length - 1 else ""
        yield Pattern(f"{name} {low}{last}", 1 / length, length)
        return
    if low > 0 and high == length - 1:
        yield Pattern(f"the last {length - low} {_plural(name)}, from {low} on", (length - low) / length, length)
    if low == 0 and high < length - 1:
        yield Pattern(f"the first {high + 1} {_plural(name)}", (high + 1) / length, length)
    step = int(np.gcd.reduce(np.diff(places)))
    if step > 1 and len(places) > 2:
        lane = low % step
        share = len(range(lane, length, step)) / length
        yield Pattern(f"{_plural(name)} with {name} % {step} == {lane}", share, length * length)
        share = len(range(low, high + 1, step)) / length
        yield Pattern(f"{_plural(name)} {low}..{high} in steps of {step}", share, length**3)


def _block(hit: list[Places], shape: tuple[int, ...]) -> Iterator[Pattern]:
    """The smallest block that holds all, where it is limited in two axes or more, or in one on both sides."""
    parts, share, alternatives = [], 1.0, 1
    for axis, (places, length) in enumerate(zip(hit, shape, strict=True)):
        low, high = int(places[0]), int(places[-1])
        if high - low + 1 < length:
            name = _name(axis, len(shape))
            parts.append(f"{name} {low}" if low == high else f"{_plural(name)} {low}..{high}")
            share *= (high - low + 1) / length
            alternatives *= length * length
    if parts:
        yield Pattern(" x ".join(parts), share, alternatives)


def _name(axis: int, axes: int) -> str:
    """What a place along an axis is called: the last two are columns and rows, the others a batch of matrices."""
    if axes == 1:
        return "element"
    if axis < axes - 2:
        return "matrix" if axes == 3 else f"axis-{axis} index"
    return "row" if axis == axes - 2 else "column"


def _plural(name: str) -> str:
    return {"matrix": "matrices"}.get(name, name.replace("index", "indices") if "index" in name else f"{name}s")
