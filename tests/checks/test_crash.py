"""crash: the target raises; and what is no crash: assumptions, interrupts, errors of use."""

import contextlib
import types

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import assume, given, settings

import fp4guard as fg
from fp4guard import dims, oracle
from fp4guard.fuzzing.examine import examine_case
from fp4guard.sim import Simulator, lower
from fp4guard.ttir import parse_arch


@triton.jit
def names_nothing(x, n):
    tl.store(x, no_such_name)  # noqa: F821


@triton.jit
def takes_roots(x, n):
    tl.store(x, tl.sqrt(tl.load(x)))  # root


@triton.jit
def writes_beyond(x, n):
    tl.store(x + n, 1.0)


def raising(error, before=None):
    def target(mem, n):
        x = mem.output("x", (n,), torch.float32)
        if before is not None:
            before[(1,)](x, n)
        x.zero_()
        if error is not None:
            raise error  # here

    return fg.fuzz(n=dims(max=64))(target)


def launching(kernel):
    def target(mem, n):
        x = mem.output("x", (n,), torch.float32)
        x.zero_()
        kernel[(1,)](x, n)  # launches

    return fg.fuzz(n=dims(max=64))(target)


@pytest.mark.parametrize("error", [ValueError("no such n"), AssertionError("no such n"), SystemExit("no such n")])
def test_exception_of_the_target(only_finding, line_of, error):
    finding = only_finding(raising(error), n=3)
    assert finding.kind == "crash"
    assert finding.headline == f"{type(error).__name__}: no such n"
    assert finding.file == __file__
    assert finding.line == line_of("# here")
    assert "raise error  # here" in finding.message


def test_target_that_raises_nothing_is_silent():
    assert not fg.examine(raising(None), n=3).findings


def test_exception_of_many_lines_leads_with_the_first(only_finding):
    finding = only_finding(raising(ValueError("\nfirst\nsecond\nthird")), n=3)
    assert finding.headline == "ValueError: first"
    assert "second\n" in finding.message


def test_exception_without_a_message_leads_with_its_type(only_finding):
    assert only_finding(raising(StopIteration()), n=3).headline == "StopIteration"


def test_what_a_kernel_did_before_the_crash_is_told_first():
    report = fg.examine(raising(ValueError(), before=writes_beyond), n=3)
    assert [finding.kind for finding in report.findings] == ["oob-write", "crash"]


def test_crash_that_depends_on_poison_is_found(only_finding):
    @fg.fuzz()
    def target(mem):
        assert int(torch.empty(1, dtype=torch.int64)) < 0

    assert only_finding(target).kind == "crash"


def test_kernel_that_does_not_compile(only_finding, line_of):
    finding = only_finding(launching(names_nothing), n=3)
    assert finding.kind == "crash"
    assert finding.headline == "CompilationError: NameError('no_such_name is not defined')"
    assert finding.line == line_of("# launches")
    assert "tl.store(x, no_such_name)" in finding.message


def test_unsupported_operation_is_refused_with_its_name_and_line(line_of, monkeypatch):
    monkeypatch.delitem(lower.RULES, "math.sqrt")
    with pytest.raises(fg.UnsupportedError, match=r"math\.sqrt") as caught:
        fg.examine(launching(takes_roots), n=3)
    assert caught.value.location.line == line_of("# root")
    assert f"test_crash.py:{line_of('# root')}:" in str(caught.value)


def test_assumption_lets_hypothesis_draw_another_case():
    seen = []

    @fg.fuzz(n=dims(max=10))
    def target(mem, n):
        assume(n > 3)
        seen.append(n)

    @settings(max_examples=20, database=None)
    @given(target.cases())
    def search(case):
        assert not examine_case(target, case, parse_arch("sm_90")).findings

    search()
    assert seen
    assert min(seen) > 3


def test_case_that_a_target_assumes_away_is_refused():
    @fg.fuzz(n=dims())
    def target(mem, n):
        assume(n > 3)

    assert not fg.examine(target, n=4).findings
    with pytest.raises(fg.UsageError, match="target assumes that there is no such case: n=2 "):
        fg.examine(target, n=2)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), fg.UsageError("no"), GeneratorExit()])
def test_what_is_no_fault_of_the_target_is_let_through(error):
    with pytest.raises(type(error)):
        fg.examine(raising(error), n=3)


def test_launches_run_where_they_did_after_an_exception():
    run = triton.JITFunction.run
    for error in (ValueError(), KeyboardInterrupt()):
        with contextlib.suppress(KeyboardInterrupt):
            fg.examine(raising(error), n=3)
    assert triton.JITFunction.run is run
    assert torch.empty(2).shape == (2,)


def misused(before=None):
    def target(mem, n):
        x = mem.output("x", (n,), torch.float32)
        x.zero_()
        if before is not None:
            before[(1,)](x, n)
        oracle.gemm(torch.ones(2, n), torch.ones(2, 4))  # misused

    return fg.fuzz(n=dims(max=64))(target)


def test_wrong_use_of_the_oracle_is_no_finding(line_of):
    with pytest.raises(fg.UsageError, match="b: k = 4; a has k = 3") as caught:
        fg.examine(misused(), n=3)
    _, place, case = str(caught.value).splitlines()
    assert place.startswith(f"  at {__file__}:{line_of('# misused')} ")
    assert case == "  case: n=3 regime=exact layout=0 seed=0"
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_a_kernel_did_before_a_wrong_use_hides_behind_no_error():
    (finding,) = fg.examine(misused(before=writes_beyond), n=3).findings
    assert finding.kind == "oob-write"


@pytest.mark.parametrize("grid", [(1.0,), (-1, -1), (1, 2**16), (2**31,)])
def test_grid_that_no_gpu_launches_is_a_crash(only_finding, line_of, grid):
    @fg.fuzz(n=dims())
    def target(mem, n):
        takes_roots[grid](mem.input("x", torch.ones(n)), n)  # gridded

    finding = only_finding(target, n=3)
    assert (finding.kind, finding.line) == ("crash", line_of("# gridded"))
    assert str(grid) in finding.headline


def test_what_pytest_fails_is_a_crash(only_finding, line_of):
    @fg.fuzz(n=dims())
    def target(mem, n):
        pytest.fail("too small")  # fails

    finding = only_finding(target, n=3)
    assert finding.headline == "Failed: too small"
    assert (finding.file, finding.line) == (__file__, line_of("# fails"))


@pytest.mark.parametrize("leave", [pytest.skip, pytest.xfail, pytest.exit])
def test_what_else_pytest_raises_is_let_through(leave):
    @fg.fuzz(n=dims())
    def target(mem, n):
        leave("not today")

    with pytest.raises(leave.Exception, match="not today"):
        fg.examine(target, n=3)


@triton.jit
def sums_garbage(x, out, n, BLOCK: tl.constexpr):
    value = tl.load(x + tl.arange(0, BLOCK), mask=tl.arange(0, BLOCK) < n)
    tl.store(out, tl.sum(tl.where(tl.arange(0, BLOCK) < 4, value, 0.0)))


def asserting(check):
    """Of eight numbers twelve are read, of four of which nobody knows; then the host checks the sum."""

    def target(mem, n):
        x, out = mem.scratch("x", (8,), torch.float32), mem.output("out", (1,), torch.float32)
        x[:n] = 1
        sums_garbage[(1,)](x, out, 12, BLOCK=16)
        assert check(out.item())

    return fg.fuzz(n=dims(max=8))(target)


def test_lanes_beyond_the_end_are_no_undefined_ones_before_a_crash():
    kinds = [finding.kind for finding in fg.examine(asserting(lambda total: False), n=8).findings]
    assert kinds == ["oob-read", "crash"]


def test_what_was_read_is_the_cause_of_a_crash_where_it_is():
    found = fg.examine(asserting(lambda total: total == total), n=3).findings
    assert [finding.kind for finding in found] == ["uninitialized-read", "oob-read", "crash"]
    assert "effect  the target fails when they hold all ones" in found[0].message


def test_what_fails_by_chance_has_no_cause():
    once = iter([True])
    found = fg.examine(asserting(lambda total: not next(once, False)), n=3).findings
    assert [finding.kind for finding in found] == ["oob-read", "crash"]


def test_failure_of_the_harness_is_no_finding(monkeypatch):
    def fail(*arguments):
        return np.zeros(2) + np.broadcast_to(np.zeros(3), 4)

    monkeypatch.setattr(Simulator, "_execute", compile_as(fail, Simulator.launch.__code__.co_filename))
    with pytest.raises(ValueError, match="broadcast"):
        fg.examine(launching(writes_beyond), n=3)


def compile_as(function, file):
    """The function as if it stood in another file."""
    return types.FunctionType(function.__code__.replace(co_filename=file), function.__globals__)


@pytest.mark.parametrize("fail", [lambda n: torch.empty(-n), lambda n: torch.empty(n)[n + 1], lambda n: np.empty(-n)])
def test_what_torch_and_numpy_raise_is_a_crash(only_finding, fail):
    @fg.fuzz(n=dims())
    def target(mem, n):
        fail(n)

    finding = only_finding(target, n=3)
    assert finding.kind == "crash"
    assert finding.file == __file__


def test_launch_with_too_few_arguments_is_a_crash(only_finding):
    @fg.fuzz(n=dims())
    def target(mem, n):
        writes_beyond[(1,)](mem.output("out", (n,), torch.float32))

    finding = only_finding(target, n=3)
    assert finding.headline.startswith("TypeError: ")
    assert finding.file == __file__


def test_argument_that_no_kernel_takes_is_a_crash_where_it_is_launched(only_finding, line_of):
    @fg.fuzz(n=dims())
    def target(mem, n):
        writes_beyond[(1,)]({"n": n}, n)  # takes no dict

    finding = only_finding(target, n=3)
    assert (finding.file, finding.line) == (__file__, line_of("# takes no dict"))
