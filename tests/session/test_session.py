"""Code that runs once: what of it is found, and what is not."""

from __future__ import annotations

import gc

import pytest
import torch
import triton
import triton.language as tl

from fp4guard import UnsupportedError
from fp4guard.memory.memory import MOST_REGIONS
from fp4guard.session import Session, StopSession
from fp4guard.ttir import parse_arch

BLOCK = 64


@triton.jit
def copy(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)


@triton.jit
def copy_over(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0.0))  # no mask


@triton.jit
def copy_beyond(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i), mask=i < n)  # no mask of the load


@triton.jit
def sum_undefined(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n)))  # no other


@triton.jit
def sum_defined(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n, other=0.0)))


@triton.jit
def most_undefined(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.max(tl.load(x + i, mask=i < n)))  # swallows all but the extremes


@triton.jit
def differ_undefined(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(
        out, tl.sum(tl.load(x + i, mask=i < n) - tl.load(y + i, mask=i < n))
    )  # cancels out while both hold the same


@triton.jit
def gather_undefined(x, index, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = tl.load(index + i, mask=i < n)  # no other
    tl.store(out + i, tl.load(x + at), mask=i < n)


@triton.jit
def both_write(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n, other=0.0)))  # every program


@triton.jit
def asserting(x, out, n, BLOCK: tl.constexpr):
    tl.device_assert(n < 10, "too many")


@triton.jit
def spinning(x, out, n, BLOCK: tl.constexpr):
    while tl.atomic_add(out + 1, 0) == 0:
        pass


@triton.jit
def gather_all(parts, arrived, out, LAST: tl.constexpr, PARTS: tl.constexpr):
    me = tl.program_id(0)
    tl.store(parts + me, 7)
    tl.atomic_add(arrived, 1)
    while tl.atomic_add(arrived, 0) < LAST:
        pass
    tl.store(out + me, tl.sum(tl.load(parts + tl.arange(0, PARTS))))


@triton.jit
def pass_on(flags, out):
    me = tl.program_id(0)
    before = 0
    if me > 0:
        while tl.atomic_add(flags + me - 1, 0) != 1:
            pass
        before = tl.load(out + me - 1)
    tl.store(out + me, before + me)
    tl.atomic_xchg(flags + me, 1)


def grid(n):
    return (triton.cdiv(n, BLOCK),)


def data(n=100):
    return torch.arange(n, device="cuda", dtype=torch.float32), torch.empty(n, device="cuda")


def session(code, **options):
    found = Session(parse_arch("sm_90"), **options)
    with found.active():
        code()
    return found


def launching(kernel, n=100, read=True, programs=None):
    def code():
        x, out = data(n)
        kernel[programs or grid(n)](x, out, n, BLOCK=BLOCK)
        return out.sum().item() if read else None

    return code


def gathering(last):
    def code():
        parts, out = torch.empty((2, 4), dtype=torch.int32, device="cuda")
        gather_all[(4,)](parts, torch.zeros(1, dtype=torch.int32, device="cuda"), out, LAST=last, PARTS=4)
        return out.tolist()

    return code


def passing_on(make):
    def code():
        out = torch.empty(4, dtype=torch.int32, device="cuda")
        pass_on[(4,)](make(4, dtype=torch.int32, device="cuda"), out)
        return out.tolist()

    return code


@triton.jit
def add_from_table(table, out, count, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for part in range(count):
        pointer = tl.load(table + part).to(tl.pointer_type(tl.float32))
        total += tl.load(pointer + i, mask=i < n, other=0)
    tl.store(out + i, total, mask=i < n)


def by_their_addresses():
    """Of tensors that torch has computed, and of parts of them."""
    x, out = data(50)
    parts = [x * 2, (x + 1)[:], torch.stack([x, x])[1]]
    table = torch.tensor([part.data_ptr() for part in parts], device="cuda")
    add_from_table[(1,)](table, out, len(parts), 50, BLOCK=BLOCK)
    assert out.tolist() == (4 * x + 1).tolist()


def printed(count, show):
    """A sum that is undefined, in the middle of what is printed."""

    def code():
        x = data(50)[0]
        out = torch.zeros(count, device="cuda")
        sum_undefined[(1,)](x, out[count // 2 :], 50, BLOCK=BLOCK)
        show(out)

    return code


def printing_what_has_no_memory():
    launching(copy)()
    str(torch.eye(3, device="cuda").to_sparse())
    torch.func.grad(lambda x: (str(x), x.sum())[1])(torch.ones(3, device="cuda"))


RIGHT = {
    "sparse tensors and those of transformations, printed": printing_what_has_no_memory,
    "left undefined, the corners printed": printed(2000, str),
    "a table of addresses": by_their_addresses,
    "a barrier": gathering(4),
    "one waits for the other": passing_on(torch.zeros),
    "copy": launching(copy),
    "one tile": launching(copy_over, 64),
    "sum": launching(sum_defined, 50, read=False),
    "left undefined, never read": launching(sum_undefined, 50, read=False),
    "equal values twice": launching(both_write, 64, programs=(1,), read=False),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_code_is_silent(name):
    found = session(RIGHT[name])
    assert (found.findings, found.notes, found.errors) == ([], [], [])
    assert found.simulator.launches == 1


def summed(kernel):
    def code():
        x, out = data(50)
        kernel[(1,)](x, out[:1], 50, BLOCK=BLOCK)
        return out[0].item()

    return code


def differing():
    x = torch.arange(50, device="cuda", dtype=torch.int32)
    out = torch.empty(1, device="cuda", dtype=torch.int32)
    differ_undefined[(1,)](x, x.clone(), out, 50, BLOCK=BLOCK)
    return out[0].item()


def passed_on():
    """The undefined sum reaches the host through a second kernel."""
    x, out = data(50)
    sum_undefined[(1,)](x, out, 50, BLOCK=BLOCK)
    copied = torch.empty(1, device="cuda")
    copy[(1,)](out, copied, 1, BLOCK=BLOCK)
    return copied.tolist()


def waiting():
    spinning[(1,)](None, torch.zeros(2, dtype=torch.int32, device="cuda"), 2, BLOCK=BLOCK)


def gathered():
    x, out = data(50)
    gather_undefined[(1,)](x, torch.zeros(50, dtype=torch.int32, device="cuda"), out, 50, BLOCK=BLOCK)


#: Findings where the host reads what the kernel left, and not where it is launched.
_NEED_EFFECT = ("undefined-lane", "uninitialized-read")

WRONG = {
    "oob-write": (launching(copy_over), "copy_over"),
    "oob-read": (launching(copy_beyond), "copy_beyond"),
    "undefined-lane": (summed(sum_undefined), "sum_undefined"),
    "undefined-lane of a maximum": (summed(most_undefined), "most_undefined"),
    "undefined-lane of a difference": (differing, "differ_undefined"),
    "undefined-lane printed": (printed(20, str), "sum_undefined"),
    "undefined-lane formatted": (printed(20, "{}".format), "sum_undefined"),
    "undefined-lane passed on": (passed_on, "sum_undefined"),
    "race": (launching(both_write, read=False), "both_write"),
    "assert-failed": (launching(asserting, read=False), "asserting"),
    "hang": (waiting, "spinning"),
    "uninitialized-read behind a barrier for all but one": (gathering(3), "gather_all"),
    "uninitialized-read of flags": (passing_on(torch.empty), "pass_on"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_code_is_found(name):
    code, kernel = WRONG[name]
    found = session(code)
    (finding,) = found.findings
    assert finding.kind == name.split(" ")[0]
    first = globals()[kernel].fn.__code__.co_firstlineno
    assert finding.file == __file__ and first < finding.line < first + 8
    rows = dict(finding.rows)
    assert rows["kernel"]
    assert __file__.rsplit("/", 1)[1] in rows["read" if finding.kind in _NEED_EFFECT else "launch"]


@triton.jit
def last_row_undefined(x, out, rows, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    value = tl.load(x + row * BLOCK + tl.arange(0, BLOCK), mask=row < rows - 1)
    tl.store(out + row * BLOCK + tl.arange(0, BLOCK), value)


@pytest.mark.parametrize("direct", [True, False])
def test_what_is_read_before_what_is_undefined_hides_nothing(direct):
    def code():
        x, out = data(3 * BLOCK)
        last_row_undefined[(3,)](x, out, 3, BLOCK=BLOCK)
        assert out[0].item() == 0
        if not direct:
            copied = torch.empty_like(out)
            copy[(3,)](out, copied, 3 * BLOCK, BLOCK=BLOCK)
            out = copied
        out[-BLOCK:].sum().item()
        out.sum().item()  # is told no more of what has been told

    found = session(code)
    (finding,) = found.findings
    assert (finding.kind, finding.line) == ("undefined-lane", last_row_undefined.fn.__code__.co_firstlineno + 3)
    assert "out[-BLOCK:]" in dict(finding.rows)["read"]
    assert found.notes == []


def test_what_many_launches_leave_undefined_is_remembered_once():
    def code():
        x, out = data(3 * BLOCK)
        for _ in range(20):
            last_row_undefined[(3,)](x, out, 3, BLOCK=BLOCK)
        causes.extend(found._undefined.values())

    found, causes = Session(parse_arch("sm_90")), []
    with found.active():
        code()
    assert [len(one) for one in causes] == [1]


def test_an_undefined_index_is_found_at_its_launch():
    kinds = [finding.kind for finding in session(gathered).findings]
    assert "undefined-lane" in kinds


def test_effects_of_reads_beyond_the_end():
    def code():
        x, out = data(50)
        sum_beyond[(1,)](x, out, BLOCK=BLOCK)

    (finding,) = session(code).findings
    assert dict(finding.rows)["effect"].startswith("changes 1 of 50 elements of `made at test_session.py:")


@triton.jit
def sum_beyond(x, out, BLOCK: tl.constexpr):
    tl.store(out, tl.sum(tl.load(x + tl.arange(0, BLOCK))))


def test_what_was_to_be_written_and_is_read_first_is_a_note():
    found = session(launching(copy, programs=(1,)))
    assert not found.findings
    (note,) = found.notes
    assert "reads 36 of 100 elements of `made at test_session.py:" in note


def test_the_code_sees_what_a_launch_wrote_and_not_what_its_repetitions_did():
    def code():
        x, out = data(50)
        total = torch.zeros(1, device="cuda")
        for _ in range(3):
            add_undefined[(1,)](x, out, total, 50, BLOCK=BLOCK)
        assert total.item() == 3
        assert torch.equal(out, x)

    assert session(code).findings == []


@triton.jit
def add_undefined(x, out, total, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)  # an undefined lane, which is not used
    tl.store(total, tl.load(total) + 1)


def test_the_first_finding_ends_the_code():
    done = []

    def code():
        try:
            launching(copy_over)()
        except Exception:
            done.append("handled")
        done.append("went on")

    found = Session(parse_arch("sm_90"), stop=True)
    with pytest.raises(StopSession), found.active():
        code()
    assert done == [] and len(found.findings) == 1


def test_the_same_finding_is_told_once():
    def code():
        for _ in range(3):
            launching(copy_over)()

    found = session(code)
    assert len(found.findings) == 1 and found.simulator.launches == 3
    assert found.take()[0] and not found.take()[0]


def test_what_cannot_be_executed_is_told_though_the_code_goes_on():
    def code():
        with pytest.raises(UnsupportedError):
            x, _ = data(4)
            launching_asm[(1,)](x)

    found = session(code)
    assert len(found.errors) == 1


@triton.jit
def launching_asm(x):
    value = tl.inline_asm_elementwise("bogus.op $0, $1;", "=r,r", [tl.load(x).to(tl.int32)], tl.int32, True, 1)
    tl.store(x, value)


def test_dead_tensors_do_not_pile_up():
    def code():
        for _ in range(3000):
            torch.empty(1000, device="cuda")
        for n in range(1, 700):
            x = torch.ones(n) + 1  # not of guarded memory: other tensors come to lie where it lay
            copy[grid(n)](x, torch.empty(n), n, BLOCK=BLOCK)

    found = session(code)
    gc.collect()
    assert not found.findings
    assert len(found.memory.regions) < 1200


@triton.jit
def fill_by_table(table, value, BLOCK: tl.constexpr):
    out = tl.load(table).to(tl.pointer_type(tl.float32))
    tl.store(out + tl.arange(0, BLOCK), value)


def test_memory_that_was_given_back_is_not_touched(monkeypatch):
    """A launch that may write anywhere is repeated on everything that lives, and on nothing that does not."""

    def code():
        dying = torch.ones(BLOCK) + 1  # not guarded
        copy[(1,)](dying, torch.empty(BLOCK), BLOCK, BLOCK=BLOCK)
        del dying
        out = torch.empty(BLOCK, device="cuda")
        fill_by_table[(1,)](torch.tensor([out.data_ptr()], device="cuda"), 1.0, BLOCK=BLOCK)

    def snapshot(regions=None):
        taken = original(regions)
        copied.extend(region for region, *_ in taken)
        dead.extend(region for region, *_ in taken if region.expired)
        return taken

    found, copied, dead = Session(parse_arch("sm_90")), [], []
    original = found.memory.snapshot
    monkeypatch.setattr(found.memory, "snapshot", snapshot)
    with found.active():
        code()
    assert copied and dead == []


def test_more_tensors_than_can_be_guarded():
    def code():
        kept = [torch.empty(1) for _ in range(MOST_REGIONS + 10)]
        copy[(1,)](torch.ones(3), kept[-1], 1, BLOCK=BLOCK)
        assert kept[-1].item() == 1
        kept.clear()
        for _ in range(300):
            again = torch.empty(1)
        assert found.memory.find(again.data_ptr()) is not None

    found = Session(parse_arch("sm_90"))
    with found.active():
        code()
    assert (found.findings, found.errors) == ([], [])


def test_names_do_not_depend_on_what_ran_before():
    def code():
        for _ in range(5):
            found.append(made())

    def made():
        return guard.memory.region_of(torch.empty(3), "?").name

    guard, found = Session(parse_arch("sm_90")), []
    with guard.active():
        code()
    assert len(set(found)) == 1
