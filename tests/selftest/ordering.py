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


PAIRS = [
    ("last program in place of last arrival", reducing, reduce_by_number, reduce_by_ticket, "race", "parts"),
    ("ticket that orders nothing", reducing, reduce_by_relaxed_ticket, reduce_by_ticket, "race", "parts"),
    ("ticket drawn before the part is stored", reducing, reduce_by_early_ticket, reduce_by_ticket, "race", "parts"),
    ("flag raised before the data are written", signalling, signal_too_early, signal, "race", "data"),
    ("flag that orders nothing", signalling, signal_relaxed, signal, "race", "data"),
    ("no lock", locking, add_without_lock, add_under_lock, "race", "out", "race"),
]
