"""undefined-value and assert-failed, through the runs that differ in poison."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

import fp4guard as fg


@triton.jit
def quotients(x, out, GUARDED: tl.constexpr, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    result = 100 // v  # divides
    if GUARDED:
        result = tl.where(v == 0, 0, result)
    tl.store(out + tl.arange(0, N), result)


@triton.jit
def shifts(x, out, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    tl.store(out + tl.arange(0, N), 1 << (v * 16))  # shifts


@triton.jit
def asserts(x, out, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    tl.device_assert(v > 0, "v is positive")  # asserts
    tl.store(out + tl.arange(0, N), v)


@triton.jit
def assumes(x, out, N: tl.constexpr):
    tl.assume(tl.load(x) == 1)  # assumes
    tl.store(out + tl.arange(0, N), 0)


def target(kernel, **constants):
    @fg.fuzz(n=fg.dims())
    def run(mem, n):
        x, out = torch.arange(4, dtype=torch.int32), mem.output("out", (4,), torch.int32)
        kernel[(1,)](x, out, N=4, **constants)

    return run


def test_division_by_zero_that_is_stored(only_finding, line_of):
    finding = only_finding(target(quotients, GUARDED=False), n=1)
    assert (finding.kind, finding.line) == ("undefined-value", line_of("# divides"))
    assert finding.headline == "1 lane has no defined result of `arith.divsi`, and what they hold is used"
    assert "changes 1 of 4 elements of `out`" in finding.message


def test_division_by_zero_that_is_thrown_away():
    assert not fg.examine(target(quotients, GUARDED=True), n=1).findings


def test_shift_by_more_than_the_width(only_finding, line_of):
    finding = only_finding(target(shifts), n=1)
    assert (finding.kind, finding.line) == ("undefined-value", line_of("# shifts"))
    assert finding.headline.startswith("2 lanes have")


def test_assertion(only_finding, line_of):
    finding = only_finding(target(asserts), n=1)
    assert (finding.kind, finding.line) == ("assert-failed", line_of("# asserts"))
    assert finding.headline == "1 lane fails the assertion 'v is positive'"


def test_assumption(only_finding, line_of):
    finding = only_finding(target(assumes), n=1)
    assert (finding.kind, finding.line) == ("assert-failed", line_of("# assumes"))
