"""What is expected of a quantized output, and where it stands in the stored buffer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import E2M1, E4M3, E8M0, FLOAT16, LAYOUTS, LINEAR, SCALES_8X4, NibbleOrder, packing
from fp4guard.oracle import ExpectedCodes


@given(data=st.data())
def test_the_right_answer_holds_the_codes_and_the_padding(expectations, data):
    expected = data.draw(expectations)
    assert expected.stored.shape == expected.left_open.shape == expected.padding_mask.shape == expected.shape
    np.testing.assert_array_equal(expected.logical(expected.stored), expected.codes)
    assert (expected.stored[expected.padding_mask] == (expected.padding or 0)).all()


@given(data=st.data())
def test_the_padding_is_left_open_unless_it_is_stated(expectations, data):
    expected = data.draw(expectations)
    held = np.unique(expected.left_open[expected.padding_mask])
    assert set(held) <= ({0xFF} if expected.padding is None else {0})


@given(data=st.data())
def test_a_code_stands_where_its_stored_index_says(expectations, data):
    expected = data.draw(expectations)
    index = tuple(data.draw(st.integers(0, length - 1)) for length in expected.codes.shape)
    stored = expected.stored.copy()
    stored[expected.stored_index(index)] ^= 0xFF
    changed = expected.logical(stored) != expected.codes
    assert changed[index]
    assert changed.sum() == (1 if expected.packing is None else 2)
    row, column = expected.padded_position(expected.stored_index(index))
    assert (row, column) == (index[-2], index[-1] if expected.packing is None else index[-1] // 2)


def test_bytes_of_two_codes_are_left_open_by_halves():
    codes, dont_care = np.zeros((1, 4), np.uint8), np.array([[True, False, True, True]])
    for order, open_bits in ((NibbleOrder.LOW_FIRST, 0x0F), (NibbleOrder.HIGH_FIRST, 0xF0)):
        assert ExpectedCodes(E2M1, codes, dont_care, packing=order).left_open.tolist() == [[open_bits, 0xFF]]
    assert ExpectedCodes(E2M1, codes, dont_care).left_open.tolist() == [[0xFF, 0, 0xFF, 0xFF]]


def test_a_vector_is_linear():
    codes = np.arange(8, dtype=np.uint8)
    expected = ExpectedCodes(E2M1, codes, packing=NibbleOrder.LOW_FIRST)
    np.testing.assert_array_equal(expected.stored, packing.pack(codes))
    assert expected.stored_index((5,)) == (2,)
    np.testing.assert_array_equal(expected.logical(expected.stored), codes)


def test_the_arrays_are_read_only_and_the_callers_are_not():
    codes = np.zeros((1, 2), np.uint8)
    expected = ExpectedCodes(E2M1, codes)
    for array in (expected.codes, expected.stored, expected.left_open):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    codes[0, 0] = 1


CODES = np.zeros((2, 6), np.uint8)
LOW_FIRST = NibbleOrder.LOW_FIRST


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((FLOAT16, CODES), {}, ValueError, "format: float16; allowed are formats of at most 8 bits"),
        ((E2M1, CODES.astype(int)), {}, TypeError, "codes: dtype int64; allowed is uint8"),
        ((E2M1, CODES + 16), {}, ValueError, "codes: 0x10; e2m1 allows 0x00 .. 0x0f"),
        ((E2M1, np.uint8(0)), {}, ValueError, r"codes: shape \(\); allowed with linear"),
        ((E8M0, CODES[0]), {"layout": SCALES_8X4}, ValueError, r"codes: shape \(6,\); allowed with 8x4 is \(..., rows"),
        ((E2M1, CODES, CODES), {}, TypeError, "dont_care: dtype uint8; allowed is bool"),
        ((E2M1, CODES, np.zeros(6, bool)), {}, ValueError, r"dont_care: shape \(6,\); codes of shape \(2, 6\) allow"),
        ((E4M3, CODES), {"packing": LOW_FIRST}, ValueError, "packing: .* allowed is an even number of 4-bit"),
        ((E2M1, CODES[:, :5]), {"packing": LOW_FIRST}, ValueError, "packing: .* of 5 codes of e2m1; allowed"),
        ((E8M0, CODES), {"padding": 256}, ValueError, r"padding: 256; allowed are None and 0 \.\. 255"),
        ((E8M0, CODES), {"block": 0}, ValueError, "block: 0; allowed are numbers from 1 on"),
        ((E2M1, CODES), {"scales": CODES}, ValueError, "block: None; scales need"),
        ((E2M1, CODES), {"scales": CODES, "block": 4}, ValueError, r"scales: shape \(2, 6\); .* allow \(2, 2\)"),
        ((E2M1, CODES), {"layout": LAYOUTS["16x16"]}, ValueError, r"16x16 allows multiples of \(16, 32\)"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(arguments, options, error, match):
    with pytest.raises(error, match=match):
        ExpectedCodes(*arguments, **options)


def test_the_default_is_one_code_a_byte_row_by_row():
    expected = ExpectedCodes(E4M3, CODES)
    assert (expected.layout, expected.packing, expected.padding) == (LINEAR, None, None)
    assert not expected.left_open.any()
    np.testing.assert_array_equal(expected.stored, CODES)
