"""The detector of wrong codes fires on any bit that matters, and on no other; its messages say what is what."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import E2M1, E4M3, E5M2, E8M0, LAYOUTS, SCALES_32X8, SCALES_128X4, NibbleOrder
from fp4guard.oracle import ExpectedCodes, compare


@given(data=st.data())
def test_silent_on_the_right_answer(expectations, data):
    expected = data.draw(expectations)
    assert compare(expected.stored, "uint8", expected) is None


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_silent_whatever_is_in_what_is_left_open(expectations, data, seed):
    expected = data.draw(expectations)
    garbage = np.random.default_rng(seed).integers(0, 256, expected.shape).astype(np.uint8)
    assert compare(expected.stored ^ (garbage & expected.left_open), "uint8", expected) is None


@given(data=st.data())
def test_fires_on_any_one_bit_that_is_not_left_open(expectations, data):
    expected = data.draw(expectations)
    index = tuple(data.draw(st.integers(0, length - 1)) for length in expected.shape)
    bit = data.draw(st.integers(0, 7))
    stored = expected.stored.copy()
    stored[index] ^= 1 << bit
    mismatch = compare(stored, "uint8", expected)
    if expected.left_open[index] >> bit & 1:
        assert mismatch is None
    elif expected.padding_mask[index]:
        assert mismatch.codes is None
        assert (mismatch.padding.count, mismatch.padding.index) == (1, index)
        assert mismatch.padding.total == expected.padding_mask.sum()
    else:
        assert mismatch.padding is None
        assert mismatch.codes.count == 1
        assert expected.stored_index(mismatch.codes.first.index) == index


def codes_of(values):
    return np.array(values, np.uint8)


class TestNan:
    @pytest.mark.parametrize("actual", [0x7F, 0xFF])
    def test_any_nan_will_do(self, actual):
        assert compare(codes_of([actual]), "uint8", ExpectedCodes(E4M3, codes_of([0x7F]))) is None
        assert compare(codes_of([0x7D]), "uint8", ExpectedCodes(E5M2, codes_of([0x7F]))) is None

    def test_a_number_in_its_place_and_the_reverse(self):
        mismatch = compare(codes_of([0x7E, 0x7F]), "uint8", ExpectedCodes(E4M3, codes_of([0x7F, 0x7E])))
        assert mismatch.codes.count == 2
        assert mismatch.codes.first.steps is None
        assert "NaN on one side only" in str(mismatch)
        assert "must be NaN" in str(mismatch)


def test_steps_are_codes_in_the_order_of_the_values():
    expected = ExpectedCodes(E2M1, codes_of([0x0, 0x1, 0x9, 0x2, 0x0]))
    mismatch = compare(codes_of([0x8, 0x9, 0x0, 0x7, 0x10]), "uint8", expected)
    assert (mismatch.codes.worst.index, mismatch.codes.worst.steps) == ((3,), 5)
    assert (mismatch.codes.first.index, mismatch.codes.first.steps) == ((0,), 1)  # the sign of zero is a step
    for index, steps in enumerate((1, 2, 1, 5, 1)):
        stored = expected.stored.copy()
        stored[index] = [0x8, 0x9, 0x0, 0x7, 0x10][index]
        assert compare(stored, "uint8", expected).codes.first.steps == steps
    scales = ExpectedCodes(E8M0, codes_of([100]))
    assert compare(codes_of([200]), "uint8", scales).codes.first.steps == 100


def test_the_message_of_elements():
    codes = np.zeros((2, 64), np.uint8)
    codes[1, 40:43] = 0x2, 0xC, 0x3
    expected = ExpectedCodes(
        E2M1, codes, packing=NibbleOrder.LOW_FIRST, block=32, scales=codes_of([[127, 126], [125, 124]])
    )
    stored = expected.stored.copy()
    stored[1, 20:22] = 0xF3, 0x4
    assert str(compare(stored, "uint8", expected)).splitlines() == [
        "Mismatched codes: 3 / 128 (2.3%)",
        "Greatest difference: 3 steps at index (1, 41) [e2m1]",
        "    expected -2.0 (0xc), actual -6.0 (0xf); high nibble of byte (1, 20), block 1, its scale byte 0x7c",
        "    there is one right code, its block's scale given; bits must match",
        "First difference: 1 step at index (1, 40)",
        "    expected 1.0 (0x2), actual 1.5 (0x3); low nibble of byte (1, 20), block 1, its scale byte 0x7c",
        "    there is one right code, its block's scale given; bits must match",
        "Map, a cell is 1 element; . right, # wrong:",
        "0 " + 64 * ".",
        "1 " + 40 * "." + "###" + 21 * ".",
    ]


def test_the_message_of_scales():
    expected = ExpectedCodes(E8M0, codes_of([[127] * 5]), layout=SCALES_32X8, block=32)
    stored = expected.stored.copy()
    stored[expected.stored_index((0, 4))] = 0xFE
    assert str(compare(stored, "uint8", expected)).splitlines() == [
        "Mismatched codes: 1 / 5 (20.0%)",
        "Greatest difference: 127 steps at index (0, 4) [e8m0]",
        "    expected 1.0 (0x7f), actual 1.7014118346046923e+38 (0xfe); stored at (0, 2), scale of elements 128..159",
        "    there is one right code; bits must match",
    ]


def test_the_message_of_padding():
    expected = ExpectedCodes(E8M0, np.full((3, 5), 0x7F, np.uint8), layout=SCALES_128X4, padding=0)
    stored = expected.stored.copy()
    stored[expected.padding_mask] = 0x7F
    stored[1:][expected.padding_mask[1:]] = 0xFF
    assert compare(expected.stored, "uint8", expected) is None
    held = stored[expected.padding_mask]
    assert str(compare(stored, "uint8", expected)).splitlines() == [
        "Mismatched padding: 1009 / 1009 (100.0%) bytes",
        "First at index (0, 4): row 32, column 0 of the 128 x 8 padded matrix, 3 x 5 without padding",
        "    expected 0x00, actual 0x7f",
        f"The padding holds 0xff {(held == 0xFF).sum()}x, 0x7f {(held == 0x7F).sum()}x.",
    ]


def test_codes_and_padding_are_told_apart():
    expected = ExpectedCodes(E8M0, np.full((3, 5), 0x7F, np.uint8), layout=SCALES_128X4, padding=0)
    mismatch = compare(expected.stored ^ np.uint8(1), "uint8", expected)
    assert (mismatch.codes.count, mismatch.padding.count) == (15, 1009)
    assert str(mismatch).count("Mismatched") == 2


@pytest.mark.parametrize(
    ("bits", "error", "match"),
    [
        (np.zeros((2, 6), np.uint16), TypeError, "actual_bits: dtype uint16; ExpectedCodes allows uint8"),
        (np.zeros((6, 2), np.uint8), ValueError, r"actual_bits: shape \(6, 2\); expected has \(2, 6\)"),
    ],
)
def test_wrong_arguments_are_refused(bits, error, match):
    with pytest.raises(error, match=match):
        compare(bits, "uint8", ExpectedCodes(E2M1, np.zeros((2, 6), np.uint8)))


def test_signed_bytes_are_bytes():
    assert compare(np.array([-1], np.int8), "int8", ExpectedCodes(E8M0, codes_of([255]))) is None


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_same_codes_in_every_layout(layout):
    codes = np.random.default_rng(0).integers(0, 255, (32, 64)).astype(np.uint8)
    expected = ExpectedCodes(E8M0, codes, layout=layout)
    wrong = replace(expected, codes=codes + (codes < 5))
    mismatch = compare(wrong.stored, "uint8", expected)
    assert mismatch.codes.count == (codes < 5).sum()
    assert mismatch.codes.first.index == tuple(np.argwhere(codes < 5)[0])
