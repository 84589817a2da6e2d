"""Pointers as integers: tables of them, alignment tests, pointers to wider types."""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl

from fp4guard.memory import Layout, Role


@triton.jit
def through_table(table, sizes, out, N: tl.constexpr):
    pid = tl.program_id(0)
    p = tl.load(table + pid).to(tl.pointer_type(tl.float32))
    i = tl.arange(0, N)
    tl.store(out + pid, tl.sum(tl.load(p + i, mask=i < tl.load(sizes + pid), other=0.0)))


def test_table_made_with_data_ptr(new_run):
    run = new_run()
    parts = [run.place(torch.arange(1.0, n + 1), name=f"part{n}") for n in (3, 8, 5)]
    parts[1] = parts[1][2:]
    table = run.place(torch.tensor([t.data_ptr() for t in parts]), name="table")
    sizes, out = run.place(np.array([3, 6, 5], np.int32), name="sizes"), run.empty((3,))
    run.launch(through_table, (3,), table, sizes, out, N=16)
    assert out.tolist() == [6.0, 33.0, 15.0]
    assert not run.incidents()


def test_overrun_through_a_table_names_the_tensor(new_run):
    run = new_run()
    parts = [run.place(torch.ones(n), name=f"part{n}") for n in (3, 8)]
    table = run.place(torch.tensor([t.data_ptr() for t in parts]), name="table")
    out = run.empty((2,))
    run.launch(through_table, (2,), table, run.place(np.array([5, 8], np.int32), name="sizes"), out, N=16)
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.region.name, incident.lanes, incident.low) == ("oob-read", "part3", 2, 12)


def test_integer_that_is_no_address(new_run):
    run = new_run()
    table = run.place(torch.tensor([0, 12345]), name="table")
    run.launch(through_table, (2,), table, run.place(np.array([2, 2], np.int32), name="sizes"), run.empty((2,)), N=16)
    assert run.incidents().keys() == {("oob-read", None)}


@triton.jit
def tables_on_device(a, b, table, out, N: tl.constexpr):
    tl.store(table, a.to(tl.int64))
    tl.store(table + 1, b.to(tl.int64))
    tl.debug_barrier()
    i = tl.arange(0, N)
    p = tl.load(table + i % 2).to(tl.pointer_type(tl.float32))
    tl.store(out + i, tl.load(p + i // 2))


def test_table_made_on_the_device(new_run):
    run = new_run()
    a, b = run.place(torch.arange(4.0), name="a"), run.place(torch.arange(4.0) + 10, name="b")
    table, out = run.empty((2,), torch.int64, name="table"), run.empty((8,))
    run.launch(tables_on_device, (1,), a, b, table, out, N=8)
    assert out.tolist() == [0, 10, 1, 11, 2, 12, 3, 13]
    assert not run.incidents()


@triton.jit
def alignment(x, out):
    tl.store(out, x.to(tl.int64) % 16)


def test_alignment_is_that_of_the_tensor(new_run):
    run = new_run()
    for offset in (0, 1, 3, 4):
        x = run.place(torch.zeros(8), Layout("offset", offset=offset), name=f"x{offset}")
        out = run.empty((1,), torch.int64, name=f"out{offset}")
        run.launch(alignment, (1,), x, out)
        assert out.item() == x.data_ptr() % 16 == offset * 4 % 16


@triton.jit
def wide_store(x, N: tl.constexpr):
    p = x.to(tl.pointer_type(tl.uint32))
    i = tl.arange(0, N)
    tl.store(p + i, i.to(tl.uint32) * 0x01010101)


def test_cast_to_a_wider_type(new_run):
    run = new_run()
    x = run.place(torch.zeros(16, dtype=torch.uint8), role=Role.OUTPUT)
    run.launch(wide_store, (1,), x, N=4)
    assert x.tolist() == [i for i in range(4) for _ in range(4)]
    assert not run.incidents()


def test_wider_access_that_straddles_the_end(new_run):
    run = new_run()
    x = run.place(torch.zeros(14, dtype=torch.uint8), role=Role.OUTPUT)
    run.launch(wide_store, (1,), x, N=4)
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.low, incident.high) == ("oob-write", 1, 12, 15)
    assert x.tolist() == [i for i in range(3) for _ in range(4)] + [0, 0]
