"""oob-read, oob-write, and red zones that code on the host disturbs."""

import ctypes

import pytest
import torch
import triton
import triton.language as tl

import fp4guard as fg
from fp4guard import dims
from fp4guard.ttir.compiler import VERSION

BLOCK = 16


@triton.jit
def copy(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0.0), mask=i < n)


@triton.jit
def copy_reading_beyond(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i)  # reads beyond
    tl.store(out + i, value, mask=i < n)


@triton.jit
def copy_writing_beyond(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(out + i, value)  # writes beyond


@triton.jit
def copy_reading_before(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.load(x + i - 1, mask=i < 1, other=0.0, volatile=True)  # reads before
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0.0), mask=i < n)


@triton.jit
def sum_rows(x, out, stride_row, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    tl.store(out + row, tl.sum(tl.load(x + row * stride_row + i, mask=i < columns, other=0.0), axis=0))


@triton.jit
def sum_rows_and_more(x, out, stride_row, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    value = tl.load(x + row * stride_row + i, mask=i <= columns, other=0.0)  # reads the next row
    tl.store(out + row, tl.sum(value, axis=0))


@triton.jit
def sum_strided(x, out, stride_row, stride_column, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    pointers = x + row * stride_row + i * stride_column
    tl.store(out + row, tl.sum(tl.load(pointers, mask=i < columns, other=0.0), axis=0))


@triton.jit
def sum_strided_as_rows(x, out, stride_row, stride_column, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    value = tl.load(x + row * stride_row + i, mask=i < columns, other=0.0)  # no stride
    tl.store(out + row, tl.sum(value, axis=0))


def copying(kernel):
    def target(mem, n):
        x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
        kernel[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)
        mem.expect(out, x)

    return fg.fuzz(n=dims(tile=BLOCK))(target)


def summing(kernel, layouts, *strides):
    def target(mem, rows, columns):
        x = mem.tensor("x", (rows, columns), torch.float32, layouts)
        out = mem.output("out", (rows,), torch.float32)
        kernel[(rows,)](x, out, *map(x.stride, strides), columns, BLOCK=triton.next_power_of_2(columns + 1))
        mem.expect(out, x.double().sum(dim=1))

    return fg.fuzz(rows=dims(max=4), columns=dims(tile=8))(target)


def test_read_beyond_the_end(only_finding, line_of):
    finding = only_finding(copying(copy_reading_beyond), n=20)
    assert (finding.kind, finding.tensor, finding.offset) == ("oob-read", "x", 80)
    assert finding.file == __file__
    assert finding.line == line_of("# reads beyond")
    assert finding.column == (13 if VERSION >= (3, 8) else 21)  # before 3.8, that of the last argument
    assert finding.programs == ((1, 0, 0),)
    assert "12 lanes read `x` beyond its end" in finding.message
    assert "bytes +80..+127; the tensor is +0..+79" in finding.message
    assert "no output changes with the bytes that were read" in finding.message


def test_write_beyond_the_end(only_finding, line_of):
    finding = only_finding(copying(copy_writing_beyond), n=20)
    assert (finding.kind, finding.tensor, finding.offset) == ("oob-write", "out", 80)
    assert finding.line == line_of("# writes beyond")
    assert finding.programs == ((1, 0, 0),)


def test_read_before_the_start(only_finding, line_of):
    finding = only_finding(copying(copy_reading_before), n=20)
    assert (finding.kind, finding.tensor, finding.offset) == ("oob-read", "x", -4)
    assert finding.line == line_of("# reads before")
    assert finding.programs == ((0, 0, 0),)
    assert "before its start" in finding.message


def test_masked_accesses_are_silent():
    for n in (1, 15, 16, 17, 33):
        assert not fg.examine(copying(copy), n=n).findings


def test_whole_tiles_need_no_mask():
    assert not fg.examine(copying(copy_reading_beyond), n=2 * BLOCK).findings
    assert not fg.examine(copying(copy_writing_beyond), n=2 * BLOCK).findings


PADDED = (fg.ROWS[2],)


def test_read_of_the_next_row_is_out_of_bounds_where_rows_have_gaps(only_finding, line_of):
    finding = only_finding(summing(sum_rows_and_more, PADDED, 0), rows=3, columns=5)
    assert (finding.kind, finding.tensor, finding.offset) == ("oob-read", "x", 5 * 4)
    assert finding.line == line_of("# reads the next row")
    assert finding.programs == ((0, 0, 0), (1, 0, 0), (2, 0, 0))
    assert "beyond row 0" in finding.message
    assert "the row ends at +19" in finding.message


def test_read_of_the_next_row_shows_in_the_numbers_where_rows_are_dense():
    report = fg.examine(summing(sum_rows_and_more, fg.PLAIN, 0), rows=3, columns=5)
    assert [finding.kind for finding in report.findings] == ["oob-read", "wrong-value"]
    assert report.findings[0].programs == ((2, 0, 0),)
    assert "Mismatched elements: 2 / 3" in report.findings[1].message


@pytest.mark.parametrize("layout", range(0, 64, 7))
def test_correct_kernels_are_silent_in_every_layout(layout):
    assert not fg.examine(summing(sum_rows, fg.ROWS, 0), rows=3, columns=5, layout=layout).findings
    assert not fg.examine(summing(sum_strided, fg.STRIDED, 0, 1), rows=3, columns=5, layout=layout).findings


def test_kernel_that_ignores_a_stride_is_found_in_transposed_storage(only_finding):
    target = summing(sum_strided_as_rows, (fg.STRIDED[-1],), 0, 1)
    assert only_finding(target, rows=2, columns=5).kind == "oob-read"


@fg.fuzz(n=dims(max=64))
def host_writes_beyond(mem, n):
    out = mem.output("out", (n,), torch.int32)
    out.zero_()
    ctypes.memset(out.data_ptr() + 4 * n + 8, 0xFF, 4)


@fg.fuzz(n=dims(max=64))
def host_writes_within(mem, n):
    out = mem.output("out", (n,), torch.int32)
    ctypes.memset(out.data_ptr(), 0, 4 * n)


def test_red_zones_disturbed_by_the_host_are_found_whatever_was_written(only_finding):
    # The bytes are those of the first run's poison: only the second shows them.
    finding = only_finding(host_writes_beyond, n=3)
    assert (finding.kind, finding.tensor, finding.offset) == ("oob-write", "out", 4 * 3 + 8)
    assert "code on the host writes `out` outside its elements" in finding.message
    assert finding.file is None


def test_writes_around_torch_count_as_written():
    assert not fg.examine(host_writes_within, n=3).findings


@pytest.mark.parametrize("kernel", [copy, copy_reading_beyond, copy_writing_beyond])
def test_empty_tensors_with_an_empty_grid_are_silent(kernel):
    assert not fg.examine(copying(kernel), n=0).findings


@fg.fuzz(n=dims(max=64))
def load_from_empty(mem, n):
    x, out = mem.input("x", torch.empty(0)), mem.output("out", (n,), torch.float32)
    copy_reading_beyond[(1,)](x, out, n, BLOCK=BLOCK)


def test_any_read_of_an_empty_tensor_is_beyond_it(only_finding):
    finding = only_finding(load_from_empty, n=2)
    assert (finding.kind, finding.tensor, finding.offset) == ("oob-read", "x", 0)
    assert "changes 2 of 2 elements of `out` (NaN)" in finding.message
