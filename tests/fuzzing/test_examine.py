import itertools

import pytest
import torch
import triton
import triton.language as tl

import fp4guard as fg
from fp4guard import dims

GEMM = "kernels.gemm_afp4wfp4::gemm_afp4wfp4"
CASE = {"m": 5, "n": 7, "k": 160, "config": "BM4_BN16_BK128", "dtype": "fp32"}


@fg.fuzz(a=dims(), b=[1, 2])
def sample(mem, a, b):
    mem.output("out", (a,), torch.float32).fill_(b)


def fills(mem):
    mem.output("out", (1,), torch.float32).fill_(0)


@triton.jit
def scale_rows_kernel(x, s, out, n, BLOCK: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * n + i, mask=i < n) * tl.load(s + row)
    tl.store(out + row * n + i, value)  # no mask


@fg.fuzz(m=dims(), n=dims(tile=64, max=64))
def scales_rows(mem, m, n):
    x, s = mem.tensor("x", (m, n), torch.float32), mem.tensor("s", (m,), torch.float32)
    out = mem.output("out", (m, n), torch.float32)
    scale_rows_kernel[(m,)](x, s, out, n, BLOCK=64)
    mem.expect(out, x * s[:, None])


def test_values_that_race_are_no_addresses():
    """What the masked lanes hold decides whether two programs write the same, and not where."""
    for regime in ("wild", "zeros"):
        findings = fg.examine(scales_rows, m=2, n=1, regime=regime, seed=1).findings
        assert "oob-write" in [finding.kind for finding in findings]
        assert "changes which addresses" not in "".join(map(str, findings))


def test_report_says_what_was_examined():
    report = fg.examine(sample, b=2, a=3, seed=4, regime="ties", layout=5, arch="gfx950")
    assert report.target is sample
    assert report.case == fg.Case({"a": 3, "b": 2}, 4, "ties", 5)
    assert list(report.case.arguments) == ["a", "b"]
    assert report.arch == "gfx950"
    assert report.findings == ()
    assert report.runs == 2
    assert report.defect is None
    report.raise_first()


def test_a_target_of_one_architecture_is_compiled_for_it():
    pinned = fg.fuzz(arch="gfx950")(fills)
    assert fg.examine(pinned).arch == fg.examine(pinned, arch="gfx950").arch == "gfx950"
    with pytest.raises(fg.UsageError, match="arch='sm_90': fills is written for gfx950"):
        fg.examine(pinned, arch="sm_90")


def test_report_raises_its_first_finding_when_asked():
    report = fg.examine(GEMM, defect="scale-k-unmasked", **CASE)
    with pytest.raises(fg.FindingError) as caught:
        report.raise_first()
    assert type(caught.value).__name__ == "OutOfBoundsRead"
    assert caught.value.finding is report.findings[0]
    assert caught.value.report is report
    assert str(caught.value) == report.describe()
    assert str(caught.value).endswith(f"  case    {report.case}")
    assert report.describe(("repro", "python x")).endswith("\n  repro   python x")


def test_causes_are_told_before_what_follows_from_them():
    kinds = [finding.kind for finding in fg.examine(GEMM, defect="split-k-stale", **{**CASE, "k": 128,
             "config": "BM4_BN32_BK128_KS4"}).findings]  # fmt: skip
    assert kinds
    assert kinds == sorted(kinds, key=list(fg.KINDS).index)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942", "gfx950", "gfx1201"])
def test_included_kernel_is_clean_on_every_architecture(arch):
    assert not fg.examine(GEMM, arch=arch, **CASE).findings


def test_same_case_gives_the_same_findings():
    one, other = (fg.examine(GEMM, defect="even-k-units", seed=3, **{**CASE, "k": 64}).findings for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"a": 3}, "arguments of sample: given are a; needed are a, b"),
        ({}, "arguments of sample: given are none; needed are a, b"),
        ({"a": 3, "b": 1, "c": 2}, "arguments of sample: given are a, b, c; needed are a, b"),
        ({"a": [3], "b": 1}, r"argument a=\[3\]: allowed are"),
        ({"a": 3, "b": 1, "regime": "no"}, "regime='no': allowed are"),
        ({"a": 3, "b": 1, "seed": -1}, "seed=-1: allowed are"),
        ({"a": 3, "b": 1, "layout": -1}, "layout=-1: allowed are"),
        ({"a": 3, "b": 1, "arch": "h100"}, "arch='h100': allowed are sm_<n> and gfx<n>"),
        ({"a": 3, "b": 1, "defect": "no"}, "defect='no': sample has none"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(fg.UsageError, match=match):
        fg.examine(sample, **arguments)


def test_unknown_target_is_refused():
    for spec in ("kernels.no_such", "no_such.py", f"{GEMM}_no"):
        with pytest.raises(fg.UsageError, match=r"no_such|no target called"):
            fg.examine(spec)


@triton.jit
def last_kernel(count, order, value, PARTS: tl.constexpr):
    ticket = tl.atomic_add(count, 1)
    tl.store(order + ticket, tl.program_id(0))
    unread = tl.load(value + PARTS)
    tl.store(value + tl.program_id(0), tl.where(ticket < PARTS, 0, unread))


def in_turn(check):
    """Programs draw tickets, read what nobody wrote and throw it away; then the host checks who came when."""

    @fg.fuzz()
    def target(mem):
        count, order = torch.zeros(1, dtype=torch.int32), torch.empty(3, dtype=torch.int32)
        value = torch.empty(4, dtype=torch.int32)
        last_kernel[(3,)](count, order, value, PARTS=3)
        check(mem, order)

    return target


def test_what_the_host_does_not_expect_of_the_other_order_is_nobody_s_fault():
    def check(mem, order):
        assert order.tolist() == [0, 1, 2]

    assert fg.examine(in_turn(check)).findings == ()


def test_what_is_another_value_every_time_is_blamed_on_no_site():
    clock = itertools.count()

    def check(mem, order):
        mem.output("now", (1,), torch.int32).fill_(next(clock))

    assert [finding.kind for finding in fg.examine(in_turn(check)).findings] == ["nondeterministic"]


@triton.jit
def last_writes_kernel(count, out, PARTS: tl.constexpr):
    me = tl.program_id(0)
    tl.store(out + me, 0)
    if tl.atomic_add(count, 1) == PARTS - 1:
        tl.store(out + 2 * (PARTS - 1 - me) + 1, 0)


def test_what_the_other_order_writes_out_of_bounds_is_found():
    @fg.fuzz()
    def target(mem):
        out = mem.output("out", (3,), torch.int32, fill=0)
        last_writes_kernel[(3,)](torch.zeros(1, dtype=torch.int32), out, PARTS=3)

    first, *_ = fg.examine(target).findings
    assert (first.kind, first.tensor, first.programs) == ("oob-write", "out", ((0, 0, 0),))


@triton.jit
def add_locked_kernel(x, lock, total):
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(total, tl.load(total) + tl.load(x + tl.program_id(0)))
    tl.atomic_xchg(lock, 0)


def test_a_lock_of_torch_s_own_is_free_again_for_other_turns():
    @fg.fuzz()
    def target(mem):
        x, lock, total = mem.integers("x", (5,), -9, 9), torch.zeros(1).int() + 0, torch.zeros(1).int() + 0
        add_locked_kernel[(5,)](x, lock, total)
        mem.expect(total[0], x.sum().int())

    assert fg.examine(target).findings == ()


@pytest.mark.parametrize("right", [True, False])
def test_a_number_alone_may_be_expected(right):
    @fg.fuzz()
    def target(mem):
        count = mem.output("count", (), torch.int32, fill=7)
        mem.expect(count, torch.tensor(7 if right else 8))

    assert [finding.kind for finding in fg.examine(target).findings] == ([] if right else ["wrong-value"])
