"""unwritten-output, input-modified and wrong-value."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

import fp4guard as fg
from fp4guard import dims

BLOCK = 16


@triton.jit
def copy(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0), mask=i < n)


@triton.jit
def increment_input(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0)
    tl.store(out + i, value, mask=i < n)
    tl.store(x + i, value + 1, mask=i < n)  # the input


@triton.jit
def increment(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0) + 1, mask=i < n)


def copying(kernel, dtype=torch.float32, count=lambda n: n, expected=lambda x: x):
    def target(mem, n):
        x, out = mem.tensor("x", (n,), dtype), mem.output("out", (n,), dtype)
        original = x.clone()
        kernel[(triton.cdiv(n, BLOCK),)](x, out, count(n), BLOCK=BLOCK)
        if count(n) == n:
            mem.expect(out, expected(original))

    return fg.fuzz(n=dims(max=64))(target)


def test_unwritten_output(only_finding):
    finding = only_finding(copying(copy, count=lambda n: n - 2), n=20)
    assert (finding.kind, finding.tensor) == ("unwritten-output", "out")
    assert "2 / 20 elements (10.0%), first at [18]" in finding.message


def test_wholly_written_output_is_silent():
    assert not fg.examine(copying(copy), n=20).findings


def test_output_with_a_fill_need_not_be_written():
    @fg.fuzz(n=dims())
    def target(mem, n):
        mem.expect(mem.output("out", (n,), torch.float32, fill=2.0), torch.full((n,), 2.0))

    assert not fg.examine(target, n=20).findings


def test_modified_input(only_finding, line_of):
    finding = only_finding(copying(increment_input), n=20)
    assert (finding.kind, finding.tensor) == ("input-modified", "x")
    assert finding.line == line_of("# the input")
    assert finding.programs == ((0, 0, 0), (1, 0, 0))
    assert "20 / 20 elements (100.0%), first at [0]" in finding.message


def test_input_that_the_host_modifies(only_finding):
    @fg.fuzz(n=dims())
    def target(mem, n):
        mem.tensor("x", (n,), torch.int32)[1].bitwise_not_()

    finding = only_finding(target, n=3)
    assert (finding.kind, finding.tensor, finding.file) == ("input-modified", "x", None)


def test_input_that_is_stored_to_itself_is_silent():
    @fg.fuzz(n=dims())
    def target(mem, n):
        x = mem.tensor("x", (n,), torch.float32)
        copy[(triton.cdiv(n, BLOCK),)](x, x, n, BLOCK=BLOCK)

    assert not fg.examine(target, n=20).findings


def test_wrong_value(only_finding):
    finding = only_finding(copying(increment), n=20)
    assert (finding.kind, finding.tensor) == ("wrong-value", "out")
    assert "Mismatched elements: 20 / 20 (100.0%)" in finding.message
    assert "the one right answer" in finding.message


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integer_outputs_are_compared_exactly(only_finding, dtype):
    assert not fg.examine(copying(increment, dtype, expected=lambda x: x + 1), n=20).findings
    assert not fg.examine(copying(increment, dtype, expected=lambda x: (x + 1).numpy()), n=20).findings
    finding = only_finding(copying(increment, dtype), n=20)
    assert (finding.kind, finding.tensor) == ("wrong-value", "out")
    assert "20 / 20 elements (100.0%), first at [0]\n" in finding.message
    assert "expected " in finding.message


def test_integer_outputs_are_wrong_at_a_place(only_finding):
    @fg.fuzz()
    def target(mem):
        out = mem.output("out", (40, 100), torch.int32)
        out.zero_()
        out[:, 96:] = 1
        mem.expect(out, torch.zeros(40, 100, dtype=torch.int32))

    message = only_finding(target).message
    assert "Every wrong element is in the last 4 columns, from 96 on: all of them wrong." in message
    assert f"0..39 {48 * '.'}##" in message


@pytest.mark.parametrize("dtype", [torch.float64, torch.float8_e4m3fn, torch.bool])
def test_outputs_that_the_oracle_has_no_rounding_for_are_compared_exactly(only_finding, dtype):
    @fg.fuzz(right=[True, False])
    def target(mem, right):
        out = mem.output("out", (3,), dtype)
        values = torch.tensor([0.0, 1.0, 1.0]).to(dtype)
        out.copy_(values)
        mem.expect(out, values if right else torch.tensor([0.0, 1.0, 0.0]).to(dtype))

    assert not fg.examine(target, right=True).findings
    finding = only_finding(target, right=False)
    assert finding.kind == "wrong-value"
    assert "1 / 3 elements (33.3%), first at [2]" in finding.message


def test_nan_is_as_expected_of_nan():
    @fg.fuzz(dtype=["float32", "float64"])
    def target(mem, dtype):
        out = mem.output("out", (2,), getattr(torch, dtype))
        out.copy_(torch.tensor([1.0, float("nan")]))
        mem.expect(out, np.array([1.0, float("nan")]))

    assert not fg.examine(target, dtype="float32").findings
    assert not fg.examine(target, dtype="float64").findings


def test_views_of_one_output_are_each_held_to_what_is_expected(only_finding):
    @fg.fuzz(wrong=[0, 1, 2])
    def target(mem, wrong):
        out = mem.output("out", (2, 3), torch.float32)
        out.fill_(1)
        for row in range(2):
            mem.expect(out[row], torch.full((3,), 2.0 if row == wrong else 1.0))
        if wrong == 2:
            mem.expect(out, torch.full((2, 3), 2.0))

    for wrong, name in ((0, "`out, a view`"), (1, "`out, a view#2`"), (2, "`out`")):
        finding = only_finding(target, wrong=wrong)
        assert (finding.kind, finding.tensor) == ("wrong-value", "out")
        assert f"{name} is not what it has to be" in finding.message


def test_what_is_expected_of_a_part_does_not_excuse_the_rest(only_finding):
    @fg.fuzz()
    def target(mem):
        out = mem.output("out", (2, 3), torch.float32)
        out[0] = 1
        mem.expect(out[0], torch.ones(3))

    finding = only_finding(target)
    assert finding.kind == "unwritten-output"
    assert "3 / 6 elements" in finding.message


def test_part_that_is_not_written_is_told_once(only_finding):
    @fg.fuzz()
    def target(mem):
        out = mem.output("out", (2, 3), torch.float32)
        out[0] = 1
        mem.expect(out[1], out[1].clone())

    assert only_finding(target).kind == "unwritten-output"


@pytest.mark.parametrize("guarded", [True, False])
def test_returned_tensors_are_held_to_what_is_expected(only_finding, guarded):
    @fg.fuzz(n=dims(), expected=[2, 3])
    def target(mem, n, expected):
        x = mem.input("x", torch.ones(n))
        if guarded:
            result = torch.empty(n)
            copy[(triton.cdiv(n, BLOCK),)](x, result, n, BLOCK=BLOCK)
            result += 1
        else:
            result = x + 1
        mem.expect(result, torch.full((n,), float(expected)))

    assert not fg.examine(target, n=20, expected=2).findings
    finding = only_finding(target, n=20, expected=3)
    assert finding.kind == "wrong-value"
    assert finding.tensor.startswith("made at test_outputs.py:" if guarded else "result")


def test_returned_tensor_that_is_not_wholly_written(only_finding):
    @fg.fuzz(n=dims())
    def target(mem, n):
        result = torch.empty(n)
        result[1:] = 0
        mem.expect(result, torch.zeros(n))

    finding = only_finding(target, n=3)
    assert finding.kind == "unwritten-output"
    assert "first at [0]" in finding.message


@pytest.mark.parametrize("guarded", [True, False])
def test_empty_tensors_are_as_expected(guarded):
    @fg.fuzz(n=dims(min=0))
    def target(mem, n):
        x = mem.tensor("x", (n, 4), torch.float32)
        mem.output("out", (n,), torch.bfloat16).fill_(1)
        for _ in range(2):
            mem.expect(torch.zeros(n, 4) if guarded else x + x, np.zeros((n, 4)) if guarded else x + x)

    assert not fg.examine(target, n=0).findings
    assert not fg.examine(target, n=2).findings


def test_two_tensors_of_one_name_are_two_tensors():
    @fg.fuzz(n=dims())
    def target(mem, n):
        first, second = mem.tensor("x", (n,), torch.float32), mem.tensor("x", (n + 1,), torch.float32)
        assert first.shape == (n,)
        assert second.shape == (n + 1,)
        outs = [mem.output("out", x.shape, x.dtype) for x in (first, second)]
        for x, out in zip((first, second), outs, strict=True):
            copy[(triton.cdiv(len(x), BLOCK),)](x, out, len(x), BLOCK=BLOCK)
            mem.expect(out, x)

    assert not fg.examine(target, n=20).findings
