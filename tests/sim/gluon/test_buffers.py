"""AMD's buffer operations: a base, a signed offset a lane that counts elements, a mask, another value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd import cdna4

from fp4guard.memory import ORDINARY, Layout, Role

LINE = gl.constexpr(gl.BlockedLayout([1], [64], [4], [0]))


@gluon.jit
def copy(x, out, first, low, high, OTHER: gl.constexpr, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    mask = (i >= low) & (i < high)
    if OTHER is None:
        value = cdna4.buffer_load(x, first + i, mask=mask)
    else:
        value = cdna4.buffer_load(x, first + i, mask=mask, other=OTHER, cache=".ca")
    cdna4.buffer_store(value, out, i)


@pytest.fixture
def amd(new_run):
    return lambda poison=ORDINARY: new_run(poison, arch="gfx950")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_offsets_count_elements(amd, dtype):
    run = amd()
    x, out = torch.arange(300).to(dtype), run.empty((256,), dtype)
    run.launch(copy, (1,), run.place(x), out, 7, 0, 256, 0, 256)
    assert torch.equal(out, x[7:263])
    assert not run.incidents()


def test_what_is_masked_off_is_other(amd):
    run = amd()
    x, out = torch.arange(300.0), run.empty((256,))
    run.launch(copy, (1,), run.place(x), out, 200, 3, 60, -1.0, 256)
    expected = torch.where((torch.arange(256) >= 3) & (torch.arange(256) < 60), torch.arange(256) + 200.0, -1.0)
    assert torch.equal(out, expected)
    assert not run.incidents()


def test_what_is_masked_off_without_other_is_undefined(amd):
    run = amd()
    out = run.empty((256,))
    run.launch(copy, (1,), run.place(torch.zeros(300)), out, 0, 0, 60, None, 256)
    assert out[60:].tolist() == [1.0] * 196  # the poison
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes) == ("undefined-lane", 196)


@pytest.mark.parametrize(("first", "low", "high", "lanes"), [(-5, -20, -1, 5), (60, 400, 615, 54)])
def test_an_offset_outside_of_the_tensor(amd, first, low, high, lanes):
    """The hardware's own range check would make zeros of it; that is no licence."""
    run = amd()
    out = run.empty((256,))
    run.launch(copy, (1,), run.place(torch.zeros(100 if first > 0 else 300)), out, first, 0, 94, 0.0, 256)
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.region.name) == ("oob-read", "x")
    assert (incident.lanes, incident.low, incident.high) == (lanes, low, high)
    assert incident.site.location.source.startswith("value = cdna4.buffer_load(x, first + i, mask=mask, other=OTHER")


def test_a_row_that_ends_before_the_next_begins(amd):
    run = amd()
    out = run.empty((3, 200), layout=Layout("padded rows", row_gap=8))
    run.launch(copy, (1,), run.place(torch.zeros(256)), out, 0, 0, 256, 0.0, 256)
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.low, incident.lanes) == ("oob-write", 800, 8)


@gluon.jit
def far(x, out, stride, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    cdna4.buffer_store(cdna4.buffer_load(x, gl.program_id(0) * stride + i), out, i)


def test_an_offset_that_wraps(amd):
    run = amd()
    run.launch(far, (1,), run.place(torch.zeros(256)), run.empty((256,)), 1 << 30, 256)
    assert not run.incidents()
    run = amd()
    run.launch(far, (5,), run.place(torch.zeros(256)), run.empty((256,)), 1 << 30, 256)
    assert run.incidents("int-overflow")[("int-overflow", "x")].programs == [(2, 0, 0), (3, 0, 0), (4, 0, 0)]


@gluon.jit
def reached(x, out, first, n, FROM: gl.constexpr, B: gl.constexpr):
    """Elements of x from first on, told by their distance to element FROM."""
    i = gl.arange(0, B, layout=LINE)
    cdna4.buffer_store(cdna4.buffer_load(x + FROM, first - FROM + i, mask=i < n, other=0), out, i, mask=i < n)


def test_an_offset_beyond_what_a_buffer_reaches(amd):
    """It counts bytes in 31 bits; what is further than 2^31 - 2 of them is not loaded, though it is there."""
    far = Layout("far rows", row_gap=(1 << 30) - 4)  # of 2-byte elements: the second row starts at 2^31
    for first, n, lanes in (((1 << 30) - 1, 1, 1), (1 << 30, 2, 2), (0, 4, 0)):
        run = amd()
        x = run.place(torch.arange(8, dtype=torch.int16).reshape(2, 4), far)
        run.launch(reached, (1,), x, run.empty((n,), torch.int16), first, n, 0, 256)
        kinds = {kind: incident.lanes for (kind, _), incident in run.incidents().items()}
        assert kinds == ({"int-overflow": lanes} if lanes else {})


def test_the_last_element_that_a_buffer_reaches(amd):
    run = amd()
    x = run.place(torch.arange(8, dtype=torch.uint8).reshape(2, 4), Layout("far rows", row_gap=(1 << 31) - 8))
    out = run.empty((4,), torch.uint8)
    run.launch(reached, (1,), x, out, (1 << 31) - 4, 4, 0, 256)  # the last two are at 2^31 - 2 and 2^31 - 1
    assert out[:2].tolist() == [4, 5]
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes) == ("int-overflow", 2)


def test_an_offset_before_the_base_but_in_the_tensor(amd):
    """It is a large one, without a sign: not loaded. One before the tensor is outside of it first of all."""
    run = amd()
    x = run.place(torch.arange(100))
    run.launch(reached, (1,), x, run.empty((20,), torch.int64), 5, 20, 10, 256)
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes) == ("int-overflow", 5)
    run = amd()
    run.launch(reached, (1,), run.place(torch.arange(100)), run.empty((5,), torch.int64), -5, 5, 10, 256)
    assert set(run.incidents()) == {("oob-read", "x")}


@gluon.jit
def update(x, counts, old, n, KIND: gl.constexpr, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    value = cdna4.buffer_load(x, i, mask=i < n, other=0)
    if KIND == "add":
        before = cdna4.buffer_atomic_add(counts, i % 4, value, mask=i < n, sem="relaxed")
    elif KIND == "max":
        before = cdna4.buffer_atomic_max(counts, i % 4, value, mask=i < n, sem="relaxed")
    else:
        before = cdna4.buffer_atomic_xchg(counts, i % 4, value, mask=i < n, sem="relaxed")
    cdna4.buffer_store(before, old, i, mask=i < n)


@pytest.mark.parametrize("kind", ["add", "max", "xchg"])
def test_atomics(amd, kind):
    run = amd()
    dtype = {"add": torch.float32, "max": torch.int32, "xchg": torch.int32}[kind]
    x = ((torch.arange(10) * 7) % 11).to(dtype)
    counts = run.place(torch.tensor([1, 2, 3, 4], dtype=dtype), name="counts", role=Role.SCRATCH)
    old = run.empty((10,), dtype, name="old")
    run.launch(update, (1,), run.place(x), counts, old, 10, kind, 256)
    combine = {"add": lambda a, b: a + b, "max": max, "xchg": lambda a, b: b}[kind]
    held, before = [1, 2, 3, 4], []
    for i, value in enumerate(x.tolist()):
        before.append(held[i % 4])
        held[i % 4] = combine(held[i % 4], value)
    assert counts.tolist() == held
    assert old.tolist() == before
    assert set(run.incidents()) == {("undefined-value", None)}  # results of lanes that are masked off


@gluon.jit
def atomic_beyond(counts, n, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    cdna4.buffer_atomic_add(counts, i, gl.full([B], 1.0, gl.float32, LINE), mask=i < n, sem="relaxed")


def test_an_atomic_beyond_the_tensor(amd):
    run = amd()
    counts = run.place(torch.zeros(100), name="counts", role=Role.SCRATCH)
    run.launch(atomic_beyond, (2,), counts, 103, 256)
    assert counts.tolist() == [2.0] * 100
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.low, incident.high) == ("oob-write", 6, 400, 411)


def test_two_programs_that_store_different_values(amd):
    run = amd()
    x = run.place(torch.arange(300.0))
    run.launch(shifted, (2,), x, run.empty((256,)), 256)
    assert set(run.incidents()) == {("race", "out")}
    run = amd()
    run.launch(shifted, (2,), run.place(torch.zeros(300)), run.empty((256,)), 256)
    assert not run.incidents()  # equal values are benign


@gluon.jit
def shifted(x, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    cdna4.buffer_store(cdna4.buffer_load(x, gl.program_id(0) + i), out, i)


def test_coverage_of_a_mask(amd):
    run = amd()
    run.launch(copy, (1,), run.place(torch.zeros(300)), run.empty((256,)), 0, 0, 60, 0.0, 256)
    seen = {site.operation.name: cover for site, cover in run.simulator.trace.coverage.items()}
    assert seen["amdg.buffer_load"].masked and seen["amdg.buffer_load"].partly
    assert not seen["amdg.buffer_store"].masked and seen["amdg.buffer_store"].last


def test_a_launch_of_many_programs_is_cut_into_batches(amd):
    run = amd()
    n = 3000
    out = run.empty((n, 256))
    run.launch(rows, (n,), run.place(torch.arange(256.0)), out, 256)
    np.testing.assert_array_equal(out.numpy(), np.arange(256.0, dtype=np.float32) + np.arange(n)[:, None])
    assert not run.incidents()


@gluon.jit
def rows(x, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    row = gl.program_id(0)
    cdna4.buffer_store(cdna4.buffer_load(x, i) + row, out, row * B + i)
