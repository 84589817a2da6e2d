"""Programs that order themselves through atomics: tickets, flags, locks. The twin lacks what orders them."""

import torch
import triton
import triton.language as tl

PARTS, BLOCK = 4, 8


def reducing(mem, kernel):
    """Every program leaves a part; the last to arrive adds them up."""
    x = mem.integers("x", (PARTS * BLOCK,), -9, 9)
    parts, count = mem.scratch("parts", (PARTS,), torch.int32), mem.scratch("count", (1,), torch.int32)
    count.zero_()
    out = mem.output("out", (1,), torch.int32)
    kernel[(PARTS,)](x, parts, count, out, PARTS=PARTS, BLOCK=BLOCK)
    mem.expect(out, x.sum(0, keepdim=True, dtype=torch.int32))


@triton.jit
def reduce_by_ticket(x, parts, count, out, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    me = tl.program_id(0)
    tl.store(parts + me, tl.sum(tl.load(x + me * BLOCK + tl.arange(0, BLOCK))))
    ticket = tl.atomic_add(count, 1)
    if ticket == PARTS - 1:
        tl.store(out, tl.sum(tl.load(parts + tl.arange(0, PARTS))))


@triton.jit
def reduce_by_number(x, parts, count, out, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    me = tl.program_id(0)
    tl.store(parts + me, tl.sum(tl.load(x + me * BLOCK + tl.arange(0, BLOCK))))
    if me == PARTS - 1:
        found = tl.load(parts + tl.arange(0, PARTS))  # wrong: last program in place of last arrival
        tl.store(out, tl.sum(found))


@triton.jit
def reduce_by_relaxed_ticket(x, parts, count, out, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    me = tl.program_id(0)
    tl.store(parts + me, tl.sum(tl.load(x + me * BLOCK + tl.arange(0, BLOCK))))
    ticket = tl.atomic_add(count, 1, sem="relaxed")
    if ticket == PARTS - 1:
        found = tl.load(parts + tl.arange(0, PARTS))  # wrong: ticket that orders nothing
        tl.store(out, tl.sum(found))


@triton.jit
def reduce_by_early_ticket(x, parts, count, out, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    me = tl.program_id(0)
    ticket = tl.atomic_add(count, 1)
    tl.store(parts + me, tl.sum(tl.load(x + me * BLOCK + tl.arange(0, BLOCK))))
    if ticket == PARTS - 1:
        found = tl.load(parts + tl.arange(0, PARTS))  # wrong: ticket drawn before the part is stored
        tl.store(out, tl.sum(found))


# Flags


def signalling(mem, kernel):
    """The first program writes and raises a flag, the second waits for the flag and reads."""
    x, out = mem.tensor("x", (BLOCK,), torch.float32), mem.output("out", (BLOCK,), torch.float32)
    data, flag = mem.scratch("data", (BLOCK,), torch.float32), mem.scratch("flag", (1,), torch.int32)
    flag.zero_()
    kernel[(2,)](x, data, flag, out, BLOCK=BLOCK)
    mem.expect(out, x)


@triton.jit
def signal(x, data, flag, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        tl.store(data + i, tl.load(x + i))
        tl.atomic_xchg(flag, 1, sem="release")
    else:
        while tl.atomic_cas(flag, 1, 1, sem="acquire") != 1:
            pass
        tl.store(out + i, tl.load(data + i))


@triton.jit
def signal_too_early(x, data, flag, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        tl.atomic_xchg(flag, 1, sem="release")
        tl.store(data + i, tl.load(x + i))
    else:
        while tl.atomic_cas(flag, 1, 1, sem="acquire") != 1:
            pass
        value = tl.load(data + i)  # wrong: flag raised before the data are written
        tl.store(out + i, value)


@triton.jit
def signal_relaxed(x, data, flag, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        tl.store(data + i, tl.load(x + i))
        tl.atomic_xchg(flag, 1, sem="relaxed")
    else:
        while tl.atomic_cas(flag, 1, 1, sem="relaxed") != 1:
            pass
        value = tl.load(data + i)  # wrong: flag that orders nothing
        tl.store(out + i, value)


def passing_on(mem, cleared):
    """Each program waits for the one before it and adds to its sum; its flags are cleared before, or not."""
    x, out = mem.integers("x", (PARTS,), -9, 9), mem.output("out", (PARTS,), torch.int32)
    flags = mem.scratch("flags", (PARTS,), torch.int32)
    if cleared:
        flags.zero_()
    pass_on[(PARTS,)](x, flags, out)
    mem.expect(out, x.cumsum(0, dtype=torch.int32))


@triton.jit
def pass_on(x, flags, out):
    me = tl.program_id(0)
    total = tl.load(x + me)
    if me > 0:
        before = 0
        while before != 1:
            before = tl.atomic_add(flags + me - 1, 0, sem="acquire")  # wrong: flags that nobody has cleared
        total += tl.load(out + me - 1)
    tl.store(out + me, total)
    tl.atomic_xchg(flags + me, 1, sem="release")


# Locks


def locking(mem, kernel):
    """Each program adds its row, one after the other, as the backward pass of a layer norm does."""
    x = mem.integers("x", (PARTS, BLOCK), -9, 9)
    lock, out = mem.scratch("lock", (1,), torch.int32), mem.output("out", (BLOCK,), torch.int32, fill=0)
    lock.zero_()
    kernel[(PARTS,)](x, lock, out, BLOCK=BLOCK)
    if kernel is add_under_lock:
        mem.expect(out, x.sum(0, dtype=torch.int32))


@triton.jit
def add_under_lock(x, lock, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * BLOCK + i)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    total = tl.load(out + i)
    tl.store(out + i, total + row)
    tl.atomic_xchg(lock, 0)


@triton.jit
def add_without_lock(x, lock, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * BLOCK + i)
    total = tl.load(out + i)
    tl.store(out + i, total + row)  # wrong: no lock


# Groups of programs, each with a counter of its own, that the last to arrive sets back


GROUPS = 3


def counting(mem, kernel):
    """Every group reads its row, and its last member overwrites it."""
    row = mem.output("row", (GROUPS, BLOCK), torch.int32, fill=2)
    count = mem.output("count", (GROUPS,), torch.int32, fill=0)
    sums = mem.output("sums", (GROUPS, PARTS), torch.int32)
    kernel[(GROUPS, PARTS)](row, count, sums, PARTS=PARTS, BLOCK=BLOCK)
    mem.expect(row, torch.zeros(GROUPS, BLOCK))
    mem.expect(count, torch.zeros(GROUPS))
    mem.expect(sums, torch.full((GROUPS, PARTS), 2 * BLOCK))


@triton.jit
def last_of_group_overwrites(row, count, sums, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    group, me = tl.program_id(0), tl.program_id(1)
    i = group * BLOCK + tl.arange(0, BLOCK)
    tl.store(sums + group * PARTS + me, tl.sum(tl.load(row + i)))
    if tl.atomic_add(count + group, 1) == PARTS - 1:
        tl.store(row + i, tl.zeros((BLOCK,), tl.int32))
        tl.store(count + group, 0)


@triton.jit
def reads_behind_its_ticket(row, count, sums, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    group, me = tl.program_id(0), tl.program_id(1)
    i = group * BLOCK + tl.arange(0, BLOCK)
    ticket = tl.atomic_add(count + group, 1)
    tl.store(sums + group * PARTS + me, tl.sum(tl.load(row + i)))
    if ticket == PARTS - 1:
        tl.store(row + i, tl.zeros((BLOCK,), tl.int32))  # wrong: others may still read
        tl.store(count + group, 0)


# The same value of two programs


def agreeing(mem, kernel):
    """Two programs write the same, and another one reads it."""
    value, count = mem.scratch("value", (1,), torch.int32), mem.scratch("count", (1,), torch.int32)
    value.zero_(), count.zero_()
    out = mem.output("out", (1,), torch.int32)
    kernel[(PARTS,)](value, count, out, PARTS=PARTS)
    mem.expect(out, torch.tensor([7]))


@triton.jit
def read_by_the_last(value, count, out, PARTS: tl.constexpr):
    if tl.program_id(0) < 2:
        tl.store(value, 7)
    if tl.atomic_add(count, 1) == PARTS - 1:
        tl.store(out, tl.load(value))


@triton.jit
def read_by_another(value, count, out, PARTS: tl.constexpr):
    me = tl.program_id(0)
    if me < 2:
        tl.store(value, 7)
    if me == PARTS - 1:
        found = tl.load(value)  # wrong: a value that others agree on, and may not have written yet
        tl.store(out, found)
    if tl.atomic_add(count, 1) == PARTS - 1:
        tl.store(count, 0)


# A barrier of the whole grid


def rotating(mem, kernel):
    """The first program leaves a number; each reads it, and replaces its own part of what all have read."""
    first, parts = mem.scratch("first", (1,), torch.int32), mem.output("parts", (PARTS,), torch.int32, fill=1)
    barrier, out = mem.scratch("barrier", (2,), torch.int32), mem.output("out", (PARTS,), torch.int32)
    barrier.zero_()
    kernel[(PARTS,)](first, parts, barrier, out, PARTS=PARTS)
    mem.expect(out, torch.full((PARTS,), PARTS + 7))
    mem.expect(parts, torch.arange(PARTS))


@triton.jit
def _all_arrive(barrier, PARTS: tl.constexpr):
    tl.atomic_add(barrier, 1)
    while tl.atomic_add(barrier, 0, sem="acquire") < PARTS:
        pass


@triton.jit
def rotate(first, parts, barrier, out, PARTS: tl.constexpr):
    me = tl.program_id(0)
    if me == 0:
        tl.store(first, 7)
    _all_arrive(barrier, PARTS)
    tl.store(out + me, tl.sum(tl.load(parts + tl.arange(0, PARTS))) + tl.load(first))
    _all_arrive(barrier + 1, PARTS)
    tl.store(parts + me, me)


@triton.jit
def rotate_behind_one_barrier(first, parts, barrier, out, PARTS: tl.constexpr):
    me = tl.program_id(0)
    if me == 0:
        tl.store(first, 7)
    _all_arrive(barrier, PARTS)
    tl.store(out + me, tl.sum(tl.load(parts + tl.arange(0, PARTS))) + tl.load(first))
    tl.store(parts + me, me)  # wrong: one barrier before what is read, none behind it


def gathering(mem, variant):
    """Each program leaves a part, and reads those of all behind the barrier."""
    kernel, cleared = variant
    parts, barrier = mem.scratch("parts", (PARTS,), torch.int32), mem.scratch("barrier", (1,), torch.int32)
    out = mem.output("out", (PARTS,), torch.int32)
    if cleared:
        barrier.zero_()
    kernel[(PARTS,)](parts, barrier, out, PARTS=PARTS)
    mem.expect(out, torch.full((PARTS,), 7 * PARTS))


@triton.jit
def gather(parts, barrier, out, PARTS: tl.constexpr):
    me = tl.program_id(0)
    tl.store(parts + me, 7)
    tl.atomic_add(barrier, 1)  # wrong: counter that nobody has cleared
    while tl.atomic_add(barrier, 0, sem="acquire") < PARTS:
        pass
    tl.store(out + me, tl.sum(tl.load(parts + tl.arange(0, PARTS))))


@triton.jit
def gather_too_early(parts, barrier, out, PARTS: tl.constexpr):
    me = tl.program_id(0)
    tl.store(parts + me, 7)
    tl.atomic_add(barrier, 1)
    while tl.atomic_add(barrier, 0, sem="acquire") < PARTS - 1:
        pass
    found = tl.load(parts + tl.arange(0, PARTS))  # wrong: barrier that does not wait for the last
    tl.store(out + me, tl.sum(found))


@triton.jit
def gather_padded(parts, barrier, out, PARTS: tl.constexpr, LAST: tl.constexpr):
    me = tl.program_id(0)
    tl.store(parts + me, 7)
    tl.atomic_add(barrier, 1)
    while tl.atomic_add(barrier, 0, sem="acquire") < LAST:
        pass
    i = tl.arange(0, 2 * PARTS)
    found = tl.load(parts + i, mask=i <= PARTS)  # wrong: barrier before a load of too much
    tl.store(out + me, tl.sum(tl.where(i < PARTS, found, 0)))


def gathering_padded(mem, last):
    """As `gathering`; a part that nobody leaves, and lanes that are masked off, are read and thrown away."""
    parts, barrier = mem.scratch("parts", (PARTS + 1,), torch.int32), mem.scratch("barrier", (1,), torch.int32)
    out = mem.output("out", (PARTS,), torch.int32)
    barrier.zero_()
    gather_padded[(PARTS,)](parts, barrier, out, PARTS=PARTS, LAST=last)
    mem.expect(out, torch.full((PARTS,), 7 * PARTS))


def adding_by_address(mem, locked):
    """As `locking`, of tensors that torch has made, and of which the kernel has the addresses alone."""
    x, lock, total = mem.integers("x", (PARTS,), -9, 9), torch.zeros(2, dtype=torch.int32) + 0, torch.zeros(2) + 0
    table = torch.tensor([lock[1:].data_ptr(), total[1:].data_ptr()])
    add_by_address[(PARTS,)](x, table, LOCKED=locked)
    if locked:
        mem.expect(total[1], x.sum().float())


@triton.jit
def add_by_address(x, table, LOCKED: tl.constexpr):
    lock = tl.load(table).to(tl.pointer_type(tl.int32))
    total = tl.load(table + 1).to(tl.pointer_type(tl.float32))
    if LOCKED:
        while tl.atomic_cas(lock, 0, 1) == 1:
            pass
    before = tl.load(total)
    tl.store(total, before + tl.load(x + tl.program_id(0)))  # wrong: no lock, by address
    if LOCKED:
        tl.atomic_xchg(lock, 0)


PAIRS = [
    ("last program in place of last arrival", reducing, reduce_by_number, reduce_by_ticket, "race", "parts"),
    ("ticket that orders nothing", reducing, reduce_by_relaxed_ticket, reduce_by_ticket, "race", "parts"),
    ("ticket drawn before the part is stored", reducing, reduce_by_early_ticket, reduce_by_ticket, "race", "parts"),
    ("flag raised before the data are written", signalling, signal_too_early, signal, "race", "data"),
    ("flag that orders nothing", signalling, signal_relaxed, signal, "race", "data"),
    ("flags that nobody has cleared", passing_on, False, True, "uninitialized-read", "flags"),
    (
        "barrier that does not wait for the last",
        gathering,
        (gather_too_early, True),
        (gather, True),
        "uninitialized-read",
        "parts",
    ),
    ("barrier before a load of too much", gathering_padded, PARTS - 1, PARTS, "uninitialized-read", "parts"),
    ("no lock, by address", adding_by_address, False, True, "race", "a tensor of torch's own", "race"),
    (
        "counter that nobody has cleared",
        gathering,
        (gather, False),
        (gather, True),
        "uninitialized-read",
        "barrier",
        "hang",
    ),
    ("others may still read", counting, reads_behind_its_ticket, last_of_group_overwrites, "race", "row"),
    (
        "one barrier before what is read, none behind it",
        rotating,
        rotate_behind_one_barrier,
        rotate,
        "race",
        "parts",
    ),
    (
        "a value that others agree on, and may not have written yet",
        agreeing,
        read_by_another,
        read_by_the_last,
        "race",
        "value",
    ),
    ("no lock", locking, add_without_lock, add_under_lock, "race", "out", "race"),
]
