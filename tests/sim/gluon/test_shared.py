"""Shared memory: a program's own, undefined until written, seen through views."""

from __future__ import annotations

import pytest
import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from fp4guard import UnsupportedError
from fp4guard.memory import ORDINARY

LINE = gl.constexpr(gl.BlockedLayout([1], [32], [4], [0]))
PLANE = gl.constexpr(gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0]))
FLAT = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
ROWS = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [1, 0]))
SWIZZLED = gl.constexpr(gl.SwizzledSharedLayout(8, 1, 8, [1, 0]))
VERSION = tuple(int(n) for n in triton.__version__.split(".")[:2])


@gluon.jit
def places(M: gl.constexpr, N: gl.constexpr):
    rows = gl.arange(0, M, layout=gl.SliceLayout(1, PLANE))
    columns = gl.arange(0, N, layout=gl.SliceLayout(0, PLANE))
    return rows[:, None] * N + columns[None, :]


def launched(new_run, kernel, grid, out_shape, *args, dtype=torch.float32, **kwargs):
    run = new_run(ORDINARY, arch="sm_90")
    x = torch.arange(4096.0).reshape(64, 64)
    out = run.empty(out_shape, dtype)
    run.launch(kernel, grid, run.place(x), out, *args, **kwargs)
    return run, x, out


@gluon.jit
def transpose(x, out):
    held = gl.allocate_shared_memory(gl.float32, [64, 64], SWIZZLED, gl.load(x + places(64, 64)))
    gl.store(out + places(64, 64), held.permute([1, 0]).load(PLANE))


def test_a_view_with_other_axes(new_run):
    run, x, out = launched(new_run, transpose, (1,), (64, 64))
    assert torch.equal(out, x.T)
    assert not run.incidents()


@gluon.jit
def cut(x, out):
    held = gl.allocate_shared_memory(gl.float32, [64, 64], SWIZZLED)
    held.store(gl.load(x + places(64, 64)))
    held.slice(32, 32, 0).store(gl.zeros([32, 64], gl.float32, PLANE))
    held.slice(16, 16, 1).slice(0, 32, 0).store(gl.full([32, 16], 7.0, gl.float32, PLANE))
    gl.store(out + places(64, 64), held.load(PLANE))


def test_writes_through_a_part_are_seen_in_the_whole(new_run):
    run, x, out = launched(new_run, cut, (1,), (64, 64))
    expected = x.clone()
    expected[32:] = 0
    expected[:32, 16:32] = 7
    assert torch.equal(out, expected)
    assert not run.incidents()


@gluon.jit
def shaped(x, out):
    held = gl.allocate_shared_memory(gl.float32, [64, 64], ROWS)
    held.store(gl.load(x + places(64, 64)))
    gl.store(out + places(32, 128), held.reshape([32, 128]).load(PLANE))


def test_a_view_of_another_shape(new_run):
    run, x, out = launched(new_run, shaped, (1,), (32, 128))
    assert torch.equal(out, x.reshape(32, 128))
    assert not run.incidents()


@gluon.jit
def own_part(x, out, number, B: gl.constexpr):
    """Every program writes and reads the part that is its own; of each, all the others stay undefined."""
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [4, B], FLAT)
    mine = held.index((gl.program_id(0) + number) % 8)
    mine.store(gl.load(x + gl.program_id(0) * B + i))
    gl.store(out + gl.program_id(0) * B + i, mine.load(LINE))


def test_a_part_that_differs_between_programs(new_run):
    run, x, out = launched(new_run, own_part, (4,), (4, 128), 0, B=128)
    assert torch.equal(out, x.reshape(-1, 128)[:4])
    assert not run.incidents()


def test_a_part_that_is_not_there(new_run):
    run, x, out = launched(new_run, own_part, (4,), (4, 128), 2, B=128)
    assert torch.equal(out[:2], x.reshape(-1, 128)[:2])
    assert out[2:].tolist() == [[1.0] * 128] * 2  # the poison
    found = run.incidents()
    assert set(found) == {("oob-write", "held (shared memory)"), ("oob-read", "held (shared memory)")}
    for incident in found.values():
        assert (incident.lanes, incident.low, incident.high) == (256, 2048, 3071)
        assert incident.programs == [(2, 0, 0), (3, 0, 0)]


@pytest.mark.parametrize("number", [-1, 4])
def test_a_part_that_no_program_has(new_run, number):
    run, _, _ = launched(new_run, one_part, (2,), (128,), number, B=128)
    assert set(run.incidents()) == {("oob-read", "held (shared memory)")}
    (incident,) = run.incidents().values()
    assert (incident.low, incident.high) == ((-512, -1) if number < 0 else (2048, 2559))


@gluon.jit
def one_part(x, out, number, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [4, B], FLAT)
    gl.store(out + i, held.index(number).load(LINE))


@gluon.jit
def half_written(x, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [2 * B], FLAT)
    held.slice(0, B).store(gl.load(x + i))
    j = gl.arange(0, 2 * B, layout=LINE)
    gl.store(out + j, held.load(LINE))


def test_what_nobody_wrote_is_undefined(new_run):
    run, _, out = launched(new_run, half_written, (1,), (256,), B=128)
    assert out[:128].tolist() == list(range(128))
    assert out[128:].tolist() == [1.0] * 128  # the poison
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.region.name) == ("uninitialized-read", "held (shared memory)")
    assert (incident.lanes, incident.low, incident.high) == (128, 512, 1023)
    assert incident.region.describe() == "float32 [256]"
    assert incident.site.location.source == "gl.store(out + j, held.load(LINE))"


@gluon.jit
def written_by_some(x, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [B], FLAT)
    if gl.program_id(0) % 2 == 0:
        held.store(gl.load(x + gl.program_id(0) * B + i))
    gl.store(out + gl.program_id(0) * B + i, held.load(LINE))


def test_every_program_has_its_own(new_run):
    run, x, out = launched(new_run, written_by_some, (4,), (4, 128), B=128)
    assert torch.equal(out[::2], x.reshape(-1, 128)[:4:2])
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.programs) == ("uninitialized-read", [(1, 0, 0), (3, 0, 0)])


@gluon.jit
def swapped(x, out, trips, B: gl.constexpr):
    """Two parts that a loop exchanges, which runs as often as the program's number says."""
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [2, B], FLAT)
    held.index(0).store(gl.load(x + i))
    held.index(1).store(gl.load(x + B + i))
    here, there = held.index(0), held.index(1)
    for _ in range(gl.program_id(0) + trips):
        here, there = there, here
    gl.store(out + gl.program_id(0) * B + i, here.load(LINE) - there.load(LINE))


def test_views_that_a_loop_carries(new_run):
    run, _, out = launched(new_run, swapped, (3,), (3, 128), 1, B=128)
    assert out[:, 0].tolist() == [128.0, -128.0, 128.0]
    assert not run.incidents()


@gluon.jit
def chosen(x, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    a = gl.allocate_shared_memory(gl.float32, [B], FLAT, gl.load(x + i))
    b = gl.allocate_shared_memory(gl.float32, [B], FLAT, gl.load(x + i))
    if gl.program_id(0) == 0:  # noqa: SIM108
        c = a
    else:
        c = b
    gl.store(out + gl.program_id(0) * B + i, c.load(LINE))


def test_a_choice_of_two_memories_that_programs_make_differently_is_refused(new_run):
    _, x, out = launched(new_run, chosen, (1,), (1, 128), B=128)
    assert torch.equal(out[0], x.reshape(-1)[:128])
    with pytest.raises(UnsupportedError, match="a choice between two shared memories"):
        launched(new_run, chosen, (2,), (2, 128), B=128)


@gluon.jit
def renamed(x, out, LAYOUT: gl.constexpr, TYPE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, METHOD: gl.constexpr):
    held = gl.allocate_shared_memory(gl.float32, [64, 64], LAYOUT, gl.load(x + places(64, 64)))
    other = held.reinterpret(TYPE, [M, N], LAYOUT) if METHOD else held._reinterpret(TYPE, [M, N], LAYOUT)
    gl.store(out + places(M, N), other.load(PLANE))


METHOD = VERSION >= (3, 9)


@pytest.mark.parametrize(("type_", "dtype", "shape"), [
    (gl.int32, torch.int32, (64, 64)), (gl.int16, torch.int16, (64, 128)), (gl.int64, torch.int64, (32, 64)),
])  # fmt: skip
def test_the_same_bytes_through_another_type(new_run, type_, dtype, shape):
    run, x, out = launched(new_run, renamed, (1,), shape, ROWS.value, type_, *shape, METHOD, dtype=dtype)
    assert torch.equal(out, x.view(dtype).reshape(-1)[: out.numel()].reshape(shape))
    assert not run.incidents()


def test_the_same_bytes_whose_order_is_not_known_are_refused(new_run):
    """Elements of the same width keep their places, whatever the layout."""
    _, x, out = launched(new_run, renamed, (1,), (64, 64), SWIZZLED.value, gl.int32, 64, 64, METHOD, dtype=torch.int32)
    assert torch.equal(out, x.view(torch.int32))
    with pytest.raises(UnsupportedError, match=r"ttg.memdesc_reinterpret of .*64x64xf32.* in #ttg.swizzled_shared"):
        launched(new_run, renamed, (1,), (64, 128), SWIZZLED.value, gl.int16, 64, 128, METHOD, dtype=torch.int16)


@gluon.jit
def looked_up(x, out, step, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [B], FLAT, gl.load(x + gl.program_id(0) * B + i))
    gl.store(out + gl.program_id(0) * B + i, held.gather(i + step, 0))


@gluon.jit
def spread(x, out, step, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [B], FLAT, gl.zeros([B], gl.float32, LINE))
    held.scatter(gl.load(x + i), i // 2 * step, 0)
    gl.store(out + i, held.load(LINE))


no_gather = pytest.mark.skipif(VERSION < (3, 7), reason="Gluon has no gather from shared memory before Triton 3.7")


@no_gather
def test_elements_by_their_places(new_run):
    run, x, out = launched(new_run, looked_up, (2,), (2, 128), 0, B=128)
    assert torch.equal(out, x.reshape(-1, 128)[:2])
    assert not run.incidents()
    run, x, out = launched(new_run, looked_up, (2,), (2, 128), 3, B=128)
    assert torch.equal(out[:, :125], x.reshape(-1, 128)[:2, 3:])
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.low, incident.high) == ("oob-read", 6, 512, 523)


@no_gather
def test_lanes_that_write_different_values_to_one_element(new_run):
    run, _, _ = launched(new_run, spread, (1,), (128,), 2, B=128)
    assert set(run.incidents()) == {("race", "held (shared memory)")}


@gluon.jit
def freed(x, out, B: gl.constexpr):
    i = gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [B], FLAT, gl.load(x + i))
    held._keep_alive()
    gl.store(out + i, held.load(LINE))


def test_what_was_freed_is_undefined(new_run):
    run, _, _ = launched(new_run, freed, (1,), (128,), B=128)
    assert set(run.incidents()) == {("uninitialized-read", "held (shared memory)")}


def test_a_box_beyond_the_memory(new_run):
    """Triton before 3.8 lets a slice begin at the end."""
    if VERSION >= (3, 8):
        pytest.skip("Triton refuses it")
    run, _, _ = launched(new_run, box_beyond, (1,), (32, 64))
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.low, incident.high) == ("oob-read", 2048, 16384, 24575)


@gluon.jit
def box_beyond(x, out):
    held = gl.allocate_shared_memory(gl.float32, [64, 64], SWIZZLED, gl.load(x + places(64, 64)))
    gl.store(out + places(32, 64), held.slice(64, 32, 0).load(PLANE))
