"""uninitialized-read and undefined-lane: what is loaded and thrown away is nobody's business."""

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
    value = tl.load(x + i, mask=i < n, other=0.0)  # copies
    tl.store(out + i, value, mask=i < n)


@triton.jit
def total(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n)  # no other
    tl.store(out, tl.sum(value, axis=0))


@triton.jit
def total_of_chosen(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n)
    tl.store(out, tl.sum(tl.where(i < n, value, 0.0), axis=0))


@triton.jit
def gather(index, x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = tl.load(index + i, mask=i < n)  # indices
    tl.store(out + i, tl.load(x + at), mask=i < n)


@triton.jit
def gather_masked(index, x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = tl.load(index + i, mask=i < n)
    tl.store(out + i, tl.load(x + at, mask=i < n), mask=i < n)


def summing(kernel):
    def target(mem, n):
        x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (1,), torch.float32)
        kernel[(1,)](x, out, n, BLOCK=triton.next_power_of_2(n))
        mem.expect(out, x.double().sum().reshape(1))

    return fg.fuzz(n=dims(max=64))(target)


def gathering(kernel):
    def target(mem, n):
        x, index = mem.tensor("x", (8,), torch.float32), mem.integers("index", (n,), 0, 7)
        out = mem.output("out", (n,), torch.float32)
        kernel[(1,)](index, x, out, n, BLOCK=triton.next_power_of_2(n))
        mem.expect(out, x[index.long()])

    return fg.fuzz(n=dims(max=64))(target)


def through_scratch(written):
    """Copies through working memory of which only a part is written."""

    def target(mem, n):
        x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
        middle = torch.empty(n)  # working memory
        count = written(n)
        copy[(triton.cdiv(count, BLOCK),)](x, middle, count, BLOCK=BLOCK)
        copy[(triton.cdiv(n, BLOCK),)](middle, out, n, BLOCK=BLOCK)

    return fg.fuzz(n=dims(max=64))(target)


def test_masked_lane_that_reaches_the_output(only_finding, line_of):
    finding = only_finding(summing(total), n=5)
    assert (finding.kind, finding.tensor) == ("undefined-lane", "x")
    assert finding.line == line_of("# no other")
    assert finding.programs == ((0, 0, 0),)
    assert finding.offset is None
    assert "3 lanes are masked off without `other` in a load of `x`" in finding.message
    assert "changes 1 of 1 elements of `out` (NaN) when the bytes read are 0xFF" in finding.message


def test_masked_lane_that_is_discarded_is_silent():
    assert not fg.examine(summing(total_of_chosen), n=5).findings


def test_no_lane_is_undefined_where_none_is_masked():
    assert not fg.examine(summing(total), n=8).findings


def test_masked_lane_that_becomes_an_address_is_told_before_the_access(line_of):
    report = fg.examine(gathering(gather), n=5)
    assert [finding.kind for finding in report.findings] == ["undefined-lane", "oob-read"]
    assert report.findings[0].line == line_of("# indices")
    assert "changes which addresses are accessed" in report.findings[0].message


def test_masked_lane_that_becomes_the_address_of_a_masked_lane_is_silent():
    assert not fg.examine(gathering(gather_masked), n=5).findings


def test_read_of_what_nobody_wrote(only_finding, line_of):
    finding = only_finding(through_scratch(lambda n: n - 3), n=20)
    assert (finding.kind, finding.offset) == ("uninitialized-read", 4 * 17)
    assert finding.tensor == f"made at test_undefined.py:{line_of('# working memory')}"
    assert finding.line == line_of("# copies")
    assert finding.programs == ((1, 0, 0),)
    assert "3 lanes read" in finding.message
    assert "changes 3 of 20 elements of `out` (NaN)" in finding.message


def test_wholly_written_working_memory_is_silent():
    assert not fg.examine(through_scratch(lambda n: n), n=20).findings


def test_unwritten_working_memory_that_is_not_read_is_silent():
    @fg.fuzz(n=dims())
    def target(mem, n):
        mem.scratch("middle", (n,), torch.float32)
        torch.empty(n)

    assert not fg.examine(target, n=20).findings


def padded(kernel):
    """Columns from the third on are padding."""

    def target(mem, n):
        values = np.arange(n, dtype=np.float32)
        x = mem.input("x", values, undefined=np.arange(n) >= 3)
        out = mem.output("out", (1,), torch.float32)
        kernel[(1,)](x, out, 3, BLOCK=BLOCK)
        mem.expect(out, torch.tensor([3.0]))

    return fg.fuzz(n=dims(max=64))(target)


@triton.jit
def total_of_all(x, out, n, BLOCK: tl.constexpr):
    tl.store(out, tl.sum(tl.load(x + tl.arange(0, BLOCK)), axis=0))  # loads the padding


@triton.jit
def total_of_first(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i)
    tl.store(out, tl.sum(tl.where(i < n, value, 0.0), axis=0))


def test_padding_that_reaches_the_output(only_finding, line_of):
    finding = only_finding(padded(total_of_all), n=BLOCK)
    assert (finding.kind, finding.tensor, finding.offset) == ("uninitialized-read", "x", 12)
    assert finding.line == line_of("# loads the padding")


def test_padding_that_is_loaded_and_discarded_is_silent():
    assert not fg.examine(padded(total_of_first), n=BLOCK).findings


@pytest.mark.parametrize("write", ["zero_", "fill_", "copy_", "add_", "index", "out="])
def test_what_torch_writes_in_place_counts_as_written(write):
    @fg.fuzz(n=dims())
    def target(mem, n):
        x, out = torch.empty(n), mem.output("out", (n,), torch.float32)
        match write:
            case "zero_":
                x.zero_()
            case "fill_":
                x.fill_(2)
            case "copy_":
                x.copy_(torch.ones(n))
            case "add_":
                x.zero_().add_(1)
            case "index":
                x[:] = 3
            case "out=":
                torch.add(torch.ones(n), 1, out=x)
        copy[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)

    assert not fg.examine(target, n=20).findings


def test_what_torch_writes_to_a_part_leaves_the_rest_unwritten(only_finding):
    @fg.fuzz(n=dims())
    def target(mem, n):
        x, out = torch.empty(n), mem.output("out", (n,), torch.float32)
        x[: n - 1] = 3
        copy[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)

    finding = only_finding(target, n=20)
    assert (finding.kind, finding.offset) == ("uninitialized-read", 19 * 4)
