"""Holds the bytes of a quantized output against what is expected of them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from fp4guard.formats import FloatFormat, NibbleOrder, codec
from fp4guard.oracle.comparison.explain import explain
from fp4guard.oracle.comparison.mismatch import (
    NEVER,
    Bound,
    CodeElement,
    CodesMismatch,
    Mismatch,
    PaddingMismatch,
    places,
)
from fp4guard.oracle.quantized import Bytes, ExpectedCodes


def compare_codes(stored: Bytes, expected: ExpectedCodes) -> CodesMismatch | None:
    """None where the buffer, uint8 [*expected.shape], holds what it has to, otherwise what is wrong."""
    codes, padding = _codes(stored, expected), _padding(stored, expected)
    return None if codes is None and padding is None else CodesMismatch(codes, padding)


def _codes(stored: Bytes, expected: ExpectedCodes) -> Mismatch | None:
    actual = expected.logical(stored)
    wrong = (actual != expected.codes) & expected.compared
    if not wrong.any():
        return None
    nan = np.isnan(_values(expected.format))
    wrong &= ~(nan[actual] & nan[expected.codes] & (actual < expected.format.codes))
    if not wrong.any():
        return None
    positions = np.flatnonzero(wrong)
    steps = _steps(expected.format, actual.ravel()[positions], expected.codes.ravel()[positions])

    def element(nth: int) -> CodeElement:
        index = tuple(int(axis) for axis in np.unravel_index(positions[nth], wrong.shape))
        return _element(index, int(steps[nth]), int(actual[index]), expected)

    explanation = explain(expected, stored, actual, wrong)
    return Mismatch(
        expected.format.name,
        len(positions),
        wrong.size,
        element(0),
        element(int(np.argmax(steps))),
        explanation,
        *places(wrong),
    )


def _padding(stored: Bytes, expected: ExpectedCodes) -> PaddingMismatch | None:
    if expected.padding is None:
        return None
    mask = expected.padding_mask
    wrong = mask & (stored != expected.padding)
    if not wrong.any():
        return None
    index = tuple(int(axis) for axis in np.argwhere(wrong)[0])
    held, times = np.unique(stored[mask], return_counts=True)
    contents = sorted(zip(held.tolist(), times.tolist(), strict=True), key=lambda pair: -pair[1])
    return PaddingMismatch(
        count=int(wrong.sum()),
        total=int(mask.sum()),
        index=index,
        position=expected.padded_position(index),
        padded=expected.padded_shape,
        data=expected.shape_in_bytes,
        expected=expected.padding,
        actual=int(stored[index]),
        contents=tuple(contents),
    )


@cache
def _values(fmt: FloatFormat) -> NDArray[np.float32]:
    """Float32 [256]: what each byte stands for, bits above the format's left out."""
    return codec.decode(fmt, (np.arange(256) % fmt.codes).astype(np.uint8))


def _steps(fmt: FloatFormat, actual: Bytes, expected: Bytes) -> NDArray[np.int64]:
    """How far apart, in codes in the order of the values; at least 1, for a zero's sign and for high bits too."""
    apart = np.abs(_ordered(fmt, actual) - _ordered(fmt, expected))
    one_nan = np.isnan(_values(fmt)[actual]) != np.isnan(_values(fmt)[expected])
    return np.where(one_nan, NEVER, np.maximum(apart, 1))


def _ordered(fmt: FloatFormat, codes: Bytes) -> NDArray[np.int64]:
    sign = fmt.codes >> 1 if fmt.has_sign else fmt.codes
    wide = codes.astype(np.int64) % fmt.codes
    return np.where(wide & sign, sign - wide, wide)


def _element(index: tuple[int, ...], steps: int, actual: int, expected: ExpectedCodes) -> CodeElement:
    fmt, right = expected.format, int(expected.codes[index])
    values = _values(fmt)
    return CodeElement(
        index=index,
        expected=Bound(float(values[right]), right, fmt.width),
        actual=Bound(float(values[actual]), actual, fmt.width),
        steps=None if steps == NEVER else steps,
        place=_place(index, expected),
        rule=_rule(actual, bool(np.isnan(values[right])), expected),
    )


def _place(index: tuple[int, ...], expected: ExpectedCodes) -> str:
    parts = []
    if expected.packing is not None:
        low = (index[-1] % 2 == 0) == (expected.packing is NibbleOrder.LOW_FIRST)
        parts.append(f"{'low' if low else 'high'} nibble of byte {expected.stored_index(index)}")
    elif expected.stored_index(index) != index:
        parts.append(f"stored at {expected.stored_index(index)}")
    if expected.block is not None and expected.scales is None:
        start = index[-1] * expected.block
        parts.append(f"scale of elements {start}..{start + expected.block - 1}")
    elif expected.block is not None and expected.scales is not None:
        block = index[-1] // expected.block
        scale = int(expected.scales[index[:-1]][block])
        parts.append(f"block {block}, its scale byte {scale:#04x}")
    return ", ".join(parts)


def _rule(actual: int, nan: bool, expected: ExpectedCodes) -> str:
    if actual >= expected.format.codes:
        return f"no code of {expected.format.name}: bits above its {expected.format.width} are set"
    if nan:
        return "must be NaN"
    given = ", its block's scale given" if expected.scales is not None else ""
    return f"there is one right code{given}; bits must match"
