"""What wrong codes look like, where one simple rule explains every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fp4guard.formats import E8M0, LAYOUTS, FloatFormat, NibbleOrder
from fp4guard.oracle.operand import Bools
from fp4guard.oracle.quantized import Bytes, ExpectedCodes

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Wrong:
    """The wrong codes alone, in one row."""

    format: FloatFormat
    scales: bool
    """Whether they are block scales and no elements."""
    expected: Integers
    actual: Integers

    @property
    def sign_bit(self) -> int:
        """The code of a set sign alone, 0 of a format without."""
        return self.format.codes >> 1 if self.format.has_sign else 0

    @property
    def steps(self) -> Integers:
        """How much larger the actual magnitude is, in codes."""
        return (self.actual & ~self.sign_bit) - (self.expected & ~self.sign_bit)

    @property
    def same_sign(self) -> Bools:
        """The codes with the right sign."""
        return np.asarray(((self.expected ^ self.actual) & self.sign_bit) == 0)


@dataclass(frozen=True)
class Explanation:
    """A rule, in words, and whether it holds; `holds` says so of each wrong code."""

    text: str
    holds: Callable[[Wrong], Bools]


#: The first that holds of every wrong code is told.
EXPLANATIONS = (
    Explanation(
        "holds the right code in its low bits, and other bits are set above",
        lambda w: (w.actual >= w.format.codes) & (w.actual % w.format.codes == w.expected),
    ),
    Explanation(
        "is a zero of the other sign",
        lambda w: ((w.expected & ~w.sign_bit) == 0) & (w.actual == (w.expected ^ w.sign_bit)),
    ),
    Explanation("has the right magnitude and the wrong sign", lambda w: w.actual == (w.expected ^ w.sign_bit)),
    Explanation(
        "is a scale one step too high, as under a rule that rounds scales up more often",
        lambda w: (w.steps == 1) & w.same_sign & w.scales,
    ),
    Explanation(
        "is a scale one step too low, as under a rule that rounds scales up less often",
        lambda w: (w.steps == -1) & w.same_sign & w.scales,
    ),
    Explanation(
        "is one step above an even code in magnitude, as when ties are rounded away from zero",
        lambda w: (w.steps == 1) & w.same_sign & (w.expected % 2 == 0),
    ),
    Explanation(
        "is one step too large in magnitude, as when rounding goes away from zero",
        lambda w: (w.steps == 1) & w.same_sign,
    ),
    Explanation(
        "is one step too small in magnitude, as when values are truncated",
        lambda w: (w.steps == -1) & w.same_sign,
    ),
)


def explain(expected: ExpectedCodes, stored: Bytes, actual: Bytes, wrong: Bools) -> str | None:
    """A sentence on the codes `actual` [..., k], read from `stored`, that are `wrong`; None where no rule fits all."""
    for reading, codes in _readings(expected, stored):
        if (codes == expected.codes)[expected.compared].all():
            return f"Read {reading}, every code is right."
    found = Wrong(
        expected.format,
        expected.format is E8M0 or (expected.block is not None and expected.scales is None),
        expected.codes[wrong].astype(np.int64),
        actual[wrong].astype(np.int64),
    )
    for explanation in EXPLANATIONS:
        if explanation.holds(found).all():
            return f"Every wrong code {explanation.text}."
    if len(found.actual) > 1 and (found.actual == found.actual[0]).all():
        return f"Every wrong code is {int(found.actual[0]):#04x}."
    if found.scales and len(found.actual) > 1 and (found.steps == found.steps[0]).all():
        step = int(found.steps[0])
        return f"Every wrong scale is {abs(step)} steps too {'high' if step > 0 else 'low'}."
    return None


def _readings(expected: ExpectedCodes, stored: Bytes) -> Iterator[tuple[str, Bytes]]:
    """What the buffer holds if it is read in another way than it should be."""
    if expected.packing is not None:
        low_first = expected.packing is NibbleOrder.LOW_FIRST
        other = NibbleOrder.HIGH_FIRST if low_first else NibbleOrder.LOW_FIRST
        yield "with the two nibbles of each byte swapped", replace(expected, packing=other).logical(stored)
    for layout in LAYOUTS.values():
        try:
            other_way = replace(expected, layout=layout)
        except ValueError:
            continue
        if layout.tile is not expected.layout.tile and stored.size == np.prod(other_way.shape):
            yield f"in the layout {layout.name}", other_way.logical(stored.reshape(other_way.shape))
    yield from _linear_readings(expected, stored)


def _linear_readings(expected: ExpectedCodes, stored: Bytes) -> Iterator[tuple[str, Bytes]]:
    """The buffer row by row: rows as long as the padded ones, and rows as long as the matrix's, the rest behind."""
    if expected.padded_shape == expected.shape_in_bytes:
        return
    linear = replace(expected, layout=LAYOUTS["linear"])
    *batch, rows, columns = expected.shape_in_bytes
    padded = stored.reshape(expected.padded_shape)
    yield "row by row, each row padded", linear.logical(padded[..., :rows, :columns].reshape(linear.shape))
    flat = padded.reshape(*batch, -1)[..., : rows * columns]
    yield "row by row, without padding between rows", linear.logical(flat.reshape(linear.shape))
