"""What wrong codes look like: each rule is told where it holds of all of them, and only there."""

from dataclasses import replace

import numpy as np
import pytest

from fp4guard.formats import (
    E2M1,
    E4M3,
    E8M0,
    LINEAR,
    SCALES_32X8,
    SCALES_128X4,
    SCALES_256X8,
    WEIGHTS_16X16,
    NibbleOrder,
)
from fp4guard.oracle import ExpectedCodes, compare
from fp4guard.oracle.comparison.explain import EXPLANATIONS

RNG = np.random.default_rng(0)
MAGNITUDES = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6]], np.uint8)
SIGNED = MAGNITUDES | np.array([[0, 8] * 6], np.uint8)


def explanation(expected, actual, **options):
    """What is said of logical codes `actual`."""
    held = replace(expected, codes=actual)
    mismatch = compare(held.stored, "uint8", expected)
    assert mismatch is not None
    return mismatch.codes.explanation


def elements(codes=SIGNED):
    return ExpectedCodes(E2M1, codes, packing=NibbleOrder.LOW_FIRST)


def scales(codes=(100, 110, 120, 130, 140)):
    return ExpectedCodes(E8M0, np.array([codes], np.uint8), block=32)


ROWS = {
    "is a zero of the other sign": (elements(), SIGNED ^ np.where(MAGNITUDES == 0, 8, 0).astype(np.uint8)),
    "has the right magnitude and the wrong sign": (elements(), SIGNED ^ np.uint8(8)),
    "is one step above an even code in magnitude, as when ties are rounded away from zero": (
        elements(),
        SIGNED + (MAGNITUDES % 2 == 0),
    ),
    "is one step too large in magnitude, as when rounding goes away from zero": (elements(), SIGNED + (MAGNITUDES < 7)),
    "is one step too small in magnitude, as when values are truncated": (elements(), SIGNED - (MAGNITUDES > 0)),
    "is a scale one step too high, as under a rule that rounds scales up more often": (
        scales(),
        scales().codes + np.uint8(1),
    ),
    "is a scale one step too low, as under a rule that rounds scales up less often": (
        scales(),
        scales().codes - np.uint8(1),
    ),
}


@pytest.mark.parametrize("text", ROWS)
def test_a_rule_that_holds_of_every_wrong_code_is_told(text):
    expected, actual = ROWS[text]
    assert explanation(expected, actual.astype(np.uint8)) == f"Every wrong code {text}."


@pytest.mark.parametrize("text", ROWS)
def test_no_rule_is_told_that_does_not_hold_of_all(text):
    expected, actual = ROWS[text]
    actual = actual.astype(np.uint8)
    right = np.argwhere((actual == expected.codes) | (expected.codes == 2) | (expected.codes == 120))
    actual[tuple(right[0])] = 7 if expected.format is E2M1 else 9
    said = explanation(expected, actual)
    assert said is None or text not in said


def test_bits_above_a_code():
    expected = ExpectedCodes(E2M1, SIGNED)
    said = compare(SIGNED | np.uint8(0xF0), "uint8", expected).codes
    assert said.explanation == "Every wrong code holds the right code in its low bits, and other bits are set above."
    assert "no code of e2m1: bits above its 4 are set" in str(said)


def test_every_rule_is_tested():
    texts = {row.text for row in EXPLANATIONS}
    assert texts == {*ROWS, "holds the right code in its low bits, and other bits are set above"}


def test_codes_that_are_all_one():
    assert explanation(elements(), np.full_like(SIGNED, 5)) == "Every wrong code is 0x05."


def test_scales_that_are_all_off_by_the_same():
    assert explanation(scales(), scales().codes + np.uint8(100)) == "Every wrong scale is 100 steps too high."
    assert explanation(scales(), scales().codes - np.uint8(2)) == "Every wrong scale is 2 steps too low."
    e4m3 = ExpectedCodes(E4M3, np.array([[0x30, 0x38, 0x41]], np.uint8), block=16)
    assert "a scale one step too high" in explanation(e4m3, e4m3.codes + np.uint8(1))


def random_codes(rows, columns):
    return RNG.integers(0, 255, (rows, columns)).astype(np.uint8)


def test_swapped_nibbles():
    for order, other in (tuple(NibbleOrder), tuple(NibbleOrder)[::-1]):
        expected = ExpectedCodes(E2M1, SIGNED, packing=order)
        stored = replace(expected, packing=other).stored
        said = compare(stored, "uint8", expected).codes.explanation
        assert said == "Read with the two nibbles of each byte swapped, every code is right."
    stored = stored.copy()
    stored[0, 0] ^= 1
    assert compare(stored, "uint8", expected).codes.explanation is None


@pytest.mark.parametrize(
    ("layout", "other", "shape"),
    [
        (SCALES_128X4, LINEAR, (128, 8)),
        (SCALES_256X8, SCALES_128X4, (200, 7)),
        (SCALES_256X8, SCALES_128X4, (256, 8)),
        (LINEAR, WEIGHTS_16X16, (32, 64)),
        (SCALES_32X8, LINEAR, (64, 16)),
    ],
)
def test_another_layout(layout, other, shape):
    expected = ExpectedCodes(E8M0, random_codes(*shape), layout=layout)
    stored = replace(expected, layout=other).stored.reshape(expected.shape)
    said = compare(stored, "uint8", expected).codes.explanation
    assert said == f"Read in the layout {other.name}, every code is right."


def test_linear_rows_in_a_padded_buffer():
    codes = random_codes(100, 5)
    expected = ExpectedCodes(E8M0, codes, layout=SCALES_128X4)
    padded = np.zeros((128, 8), np.uint8)
    padded[:100, :5] = codes
    said = compare(padded, "uint8", expected).codes.explanation
    assert said == "Read row by row, each row padded, every code is right."
    dense = np.zeros(128 * 8, np.uint8)
    dense[:500] = codes.ravel()
    said = compare(dense.reshape(128, 8), "uint8", expected).codes.explanation
    assert said == "Read row by row, without padding between rows, every code is right."


def test_what_is_left_open_does_not_hide_a_reading():
    dont_care = np.zeros(SIGNED.shape, bool)
    dont_care[0, 3] = True
    expected = ExpectedCodes(E2M1, SIGNED, dont_care, packing=NibbleOrder.LOW_FIRST)
    stored = replace(expected, packing=NibbleOrder.HIGH_FIRST).stored
    assert "swapped" in compare(stored, "uint8", expected).codes.explanation
