"""Outputs of codes: wrong-value and padding-content, and what the expectation leaves open."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

import fp4guard as fg
from fp4guard import dims, oracle
from fp4guard.formats import E2M1, E4M3, E8M0, LINEAR, SCALES_8X4, NibbleOrder

ROWS, COLUMNS = 8, 4


@triton.jit
def shuffle(x, out, rows, columns, padded_rows, fill, RIGHT: tl.constexpr, FILLED: tl.constexpr):
    """Scales to the 8x4 layout, one column block of 8 x 4 a program; the padding is `fill`, where it is filled."""
    row = tl.program_id(0) * 8 + tl.arange(0, 8)[:, None]
    column = tl.program_id(1) * 4 + tl.arange(0, 4)[None, :]
    inside = (row < rows) & (column < columns)
    value = tl.load(x + row * columns + column, mask=inside, other=0).to(tl.int32)
    if not RIGHT:
        value += (column == columns - 1).to(tl.int32)
    value = tl.where(inside, value, fill).to(tl.uint8)
    place = ((row // 8) * tl.num_programs(1) + column // 4) * 32 + (row % 8) * 4 + column % 4
    tl.store(out + place, value, mask=inside if not FILLED else (row < padded_rows))


def swizzling(right=True, filled=True, fill=0, padding=0):
    @fg.fuzz(m=dims(), k=dims())
    def target(mem, m, k):
        x = mem.integers("x", (m, k), 1, 200, torch.uint8)
        out = mem.output("scales", SCALES_8X4.stored_shape((m, k)), torch.uint8)
        grid = (triton.cdiv(m, 8), triton.cdiv(k, 4))
        shuffle[grid](x, out, m, k, out.shape[0], fill, RIGHT=right, FILLED=filled)
        mem.expect(out, oracle.ExpectedCodes(E8M0, x.numpy().copy(), layout=SCALES_8X4, padding=padding, block=32))

    return target


@pytest.mark.parametrize("padding", [0, None])
def test_a_right_one_is_silent(padding):
    for m, k in ((8, 4), (1, 1), (17, 9)):
        assert not fg.examine(swizzling(padding=padding), m=m, k=k).findings


def test_wrong_codes_are_a_wrong_value(only_finding):
    finding = only_finding(swizzling(right=False), m=17, k=9)
    assert (finding.kind, finding.tensor) == ("wrong-value", "scales")
    assert "Mismatched codes: 17 / 153 (11.1%)" in finding.message
    assert "scale of elements 256..287" in finding.message
    assert "Every wrong code is a scale one step too high" in finding.message
    assert "Every wrong element is in column 8, the last: all of them wrong." in finding.message


def test_wrong_padding_is_padding_content(only_finding):
    finding = only_finding(swizzling(fill=0x7F), m=5, k=3)
    assert (finding.kind, finding.tensor, finding.offset) == ("padding-content", "scales", 3)
    assert finding.message.splitlines()[0] == "PaddingContent: the padding of `scales` does not hold what it has to"
    assert "Mismatched padding: 17 / 17 (100.0%) bytes" in finding.message
    assert "First at index (0, 3): row 0, column 3 of the 8 x 4 padded matrix, 5 x 3 without padding" in finding.message
    assert "expected 0x00, actual 0x7f" in finding.message


def test_padding_that_may_be_anything_may_be_anything():
    assert not fg.examine(swizzling(fill=0x7F, padding=None), m=5, k=3).findings


def test_padding_that_is_left_open_need_not_be_written():
    assert not fg.examine(swizzling(filled=False, padding=None), m=5, k=3).findings


def test_padding_of_a_stated_content_has_to_be_written(only_finding):
    finding = only_finding(swizzling(filled=False), m=5, k=3)
    assert (finding.kind, finding.tensor) == ("unwritten-output", "scales")
    assert "17 / 32 elements (53.1%), first at [0, 3]" in finding.message


def test_both_are_found():
    kinds = [f.kind for f in fg.examine(swizzling(right=False, fill=9), m=5, k=3).findings]
    assert kinds == ["padding-content", "wrong-value"]


def filling(write, padding, dtype=torch.uint8, layout=SCALES_8X4, dont_care=None, view=lambda out: out):
    """A target whose host code writes an output of one scale of 127."""

    @fg.fuzz()
    def target(mem):
        shape = layout.stored_shape((1, 1)) if dtype.itemsize == 1 else (ROWS,)
        out = mem.output("out", shape, dtype)
        write(view(out))
        codes = np.full((1, 1), 127, np.uint8)
        mem.expect(view(out), oracle.ExpectedCodes(E8M0, codes, dont_care, layout=layout, padding=padding))

    return target


def the_scale_alone(out):
    out[0, 0] = 127


def the_scale_and_garbage(out):
    out[:] = torch.empty(ROWS, COLUMNS, dtype=torch.uint8)
    out[0, 0] = 127


def test_garbage_in_padding_that_is_left_open_is_not_dependent_on_poison(only_finding):
    assert not fg.examine(filling(the_scale_and_garbage, None)).findings
    assert only_finding(filling(the_scale_and_garbage, 0)).kind == "poison-dependent"


def test_a_code_is_written_whatever_becomes_of_the_padding(only_finding):
    def nothing(out):
        pass

    finding = only_finding(filling(nothing, None))
    assert finding.kind == "unwritten-output"
    assert "1 / 32 elements (3.1%), first at [0, 0]" in finding.message


def test_a_code_that_does_not_matter_need_not_be_written():
    def nothing(out):
        pass

    assert not fg.examine(filling(nothing, None, dont_care=np.ones((1, 1), bool))).findings


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_any_type_of_one_byte_will_do(only_finding, dtype):
    def write(value):
        return lambda out: out.view(torch.uint8).fill_(value)

    assert not fg.examine(filling(write(127), 127, dtype)).findings
    assert only_finding(filling(write(126), 126, dtype)).kind == "wrong-value"


def test_a_buffer_of_words_is_seen_as_bytes(only_finding):
    """What vLLM does: scales are allocated as int32 and viewed as bytes."""

    def bytes_of(out):
        return out.view(torch.uint8).reshape(ROWS, COLUMNS)

    assert not fg.examine(filling(the_scale_alone, None, torch.int32, view=bytes_of)).findings
    finding = only_finding(filling(lambda out: out.fill_(127), 0, torch.int32, view=bytes_of))
    assert (finding.kind, finding.tensor, finding.offset) == ("padding-content", "out", None)
    finding = only_finding(filling(the_scale_alone, 0, torch.int32, view=bytes_of))
    assert finding.kind == "unwritten-output"


def packing_two(codes, dont_care=None, low_bits=0):
    @fg.fuzz()
    def target(mem):
        out = mem.output("out", (1, 2), torch.uint8)
        out.copy_(torch.tensor([codes], dtype=torch.uint8))
        if low_bits:
            out[0, 0] &= 0xF0
            out[0, 0] |= torch.empty(1, dtype=torch.uint8)[0] & low_bits
        right = np.array([[1, 2, 3, 4]], np.uint8)
        mem.expect(out, oracle.ExpectedCodes(E2M1, right, dont_care, packing=NibbleOrder.LOW_FIRST))

    return target


def test_packed_codes(only_finding):
    assert not fg.examine(packing_two([0x21, 0x43])).findings
    assert "swapped" in only_finding(packing_two([0x12, 0x34])).message


def test_half_a_byte_may_depend_on_poison(only_finding):
    dont_care = np.array([[True, False, False, False]])
    assert not fg.examine(packing_two([0x21, 0x43], dont_care, low_bits=0xF)).findings
    assert only_finding(packing_two([0x21, 0x43], low_bits=0xF)).kind == "poison-dependent"
    assert "index (0, 1)" in only_finding(packing_two([0x31, 0x43], dont_care)).message


@pytest.mark.parametrize("dtype", [torch.int32, torch.bfloat16, torch.bool])
def test_codes_are_expected_of_bytes(dtype):
    @fg.fuzz()
    def target(mem):
        out = mem.output("out", (1, 2), dtype)
        mem.expect(out, oracle.ExpectedCodes(E4M3, np.zeros((1, 2), np.uint8), layout=LINEAR))

    with pytest.raises(fg.UsageError, match=rf"ExpectedCodes\): the tensor is {dtype}; allowed are torch.uint8"):
        fg.examine(target)


def test_the_stored_shape_is_the_tensors():
    @fg.fuzz()
    def target(mem):
        out = mem.output("out", (5, 3), torch.uint8)
        mem.expect(out, oracle.ExpectedCodes(E8M0, np.zeros((5, 3), np.uint8), layout=SCALES_8X4))

    with pytest.raises(
        fg.UsageError, match=r"ExpectedCodes of shape \(8, 4\)\): allowed is what has the tensor's shape"
    ):
        fg.examine(target)
