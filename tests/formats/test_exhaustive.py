"""The codecs for all 2^32 float32, against steps that are found by bisection of the definition.

A definition in Fractions cannot be asked 4 billion times. It need not be: from 0 up, and from -0 down, each code is
that of one interval (`test_scalar` tests that it is monotone), so that the definition's changes within a window of
patterns follow from a bisection of it, and the codes of all patterns of the window from the changes.

Usually a few small windows of each case are looked at. `FP4GUARD_EXHAUSTIVE=1` makes it all 256 windows of 2^24:

    FP4GUARD_EXHAUSTIVE=1 pytest -n auto tests/formats/test_exhaustive.py

Of one core, 8 seconds for a case (a format and its policies) of at most 8 bits, minutes for one of 16. `-k e2m1` and
the like choose cases.
"""

import os
import zlib
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

from fp4guard.formats import E2M1, E4M3, E5M2, E8M0, FORMATS, codec
from fp4guard.formats.arithmetic import code_dtype
from fp4guard.formats.info import FloatFormat
from fp4guard.formats.policies import NanElement, Overflow, Rounding, ZeroSign
from fp4guard.formats.scalar import encode_scalar

FULL = os.environ.get("FP4GUARD_EXHAUSTIVE") == "1"
SLICE = 1 << 24
SAMPLE = 1 << 16
#: Slices of 2^24 to one test, so that a full run spreads over processes.
TOGETHER = 32

NAN = 0x7F800001
#: Patterns within two neighbours of which a definition is one run of intervals.
STARTS = (0, NAN, 0x80000000, 0x80000000 | NAN, 1 << 32)


class Case(NamedTuple):
    fmt: FloatFormat
    rounding: Rounding
    overflow: Overflow
    nan: NanElement
    zero_sign: ZeroSign = ZeroSign.KEEP

    def __str__(self):
        fmt, *policies = self
        return "-".join([fmt.name, *(policy.name for policy in policies)]).lower()

    def define(self, pattern):
        value = float(np.uint32(pattern).view(np.float32))
        return encode_scalar(self.fmt, value, self.rounding, self.overflow, self.nan, self.zero_sign)

    def encode(self, values):
        _, rounding, *policies = self
        return codec.encode(self.fmt, values, rounding, **dict(zip(("overflow", "nan", "zero_sign"), policies)))


def default(fmt, rounding):
    return Case(fmt, rounding, fmt.overflow, NanElement.RAISE if fmt.nan is not None else NanElement.MAX)


ROUNDINGS = (Rounding.TIES_TO_EVEN, Rounding.TIES_AWAY, Rounding.TOWARD_ZERO)
CASES = [
    *(default(fmt, rounding) for fmt in FORMATS.values() if fmt.width <= 8 for rounding in ROUNDINGS),
    *(default(fmt, Rounding.TIES_TO_EVEN) for fmt in FORMATS.values() if fmt.width == 16),
    default(E2M1, Rounding.TIES_TO_EVEN)._replace(nan=NanElement.ZERO, zero_sign=ZeroSign.DROP),
    default(E4M3, Rounding.TIES_TO_EVEN)._replace(overflow=Overflow.NONSATURATING),
    default(E5M2, Rounding.TOWARD_ZERO)._replace(overflow=Overflow.NONSATURATING),
]


def windows(case, group):
    """(first, end) of windows of patterns, those of one of 8 groups."""
    if FULL:
        starts = range(group * TOGETHER * SLICE, (group + 1) * TOGETHER * SLICE, SLICE)
        return [(start, start + SLICE) for start in starts]
    # One window around a power of two that the format knows, one with the zero or NaN, one anywhere; by name, not by
    # chance, but others for every case and group.
    rng = np.random.default_rng(zlib.crc32(f"{case} {group}".encode()))
    sign = 0x80000000 if group % 2 and case.fmt.has_sign else 0
    known = int(rng.integers(case.fmt.min_exponent - 2, case.fmt.max_exponent + 2))
    centres = [max(known + 127, 0) << 23, (0, 0x7F800000)[group // 2 % 2], int(rng.integers(0, 1 << 31))]
    starts = [min(max((centre & 0x7FFFFFFF) - SAMPLE // 2, 0), (1 << 31) - SAMPLE) + sign for centre in centres]
    return [(start, start + SAMPLE) for start in starts]


def changes(define, first, last):
    """The patterns in first + 1 .. last from which on the code is another one."""
    found, open_ = [], [(first, define(first), last, define(last))]
    while open_:
        low, below, high, above = open_.pop()
        if below == above:
            continue
        if high == low + 1:
            found.append(high)
            continue
        middle = (low + high) // 2
        code = define(middle)
        open_ += [(low, below, middle, code), (middle, code, high, above)]
    return sorted(found)


def expected_codes(define, dtype, first, end):
    """The definition's codes of the patterns first .. end - 1."""
    starts = [first, *(s for s in STARTS if first < s < end), end]
    edges = [first]
    for low, high in pairwise(starts):
        edges += [low, *changes(define, low, high - 1)]
    edges = [*sorted(set(edges)), end]
    codes = np.array([define(edge) for edge in edges[:-1]], dtype)
    return np.repeat(codes, np.diff(edges))


def differing(case, first, end):
    """Patterns from first to end - 1 whose code is not the definition's."""
    patterns = np.arange(first, end, dtype=np.uint32)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        found = case.encode(patterns.view(np.float32))
    return patterns[found != expected_codes(case.define, code_dtype(case.fmt), first, end)]


@pytest.mark.parametrize("group", range(256 // TOGETHER))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_float32(case, group):
    for first, end in windows(case, group):
        if case.fmt is E8M0:
            first, end = max(first, 1), min(end, 1 << 31)  # it has neither a zero nor a sign
        if first < end:
            assert [hex(pattern) for pattern in differing(case, first, end)[:5]] == []


@pytest.mark.parametrize(
    ("first", "end"), [(0x3E7FFF00, 0x3E800100), (0x7F7FFFF0, 0x7F800010), (0x80000000, 0x80000100)]
)
def test_steps_are_the_definition_pattern_by_pattern(first, end):
    for case in CASES:
        if case.fmt is E8M0 and first >= 1 << 31:
            continue
        expected = [case.define(pattern) for pattern in range(first, end)]
        assert expected_codes(case.define, code_dtype(case.fmt), first, end).tolist() == expected


def test_one_wrong_pattern_is_found():
    class Off(Case):
        def encode(self, values):
            codes = super().encode(values)
            codes[values.view(np.uint32) == 0x3E800001] ^= 1
            return codes

    case = Off(*default(E2M1, Rounding.TIES_TO_EVEN))
    assert differing(case, 0x3E7F0000, 0x3E810000).tolist() == [0x3E800001]
