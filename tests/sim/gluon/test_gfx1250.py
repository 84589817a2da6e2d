"""The tensor data mover of gfx1250: descriptors that are moved, their bounds, their predicate."""

from __future__ import annotations

import pytest
import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd.gfx1250 import async_copy, mbarrier, tdm

from fp4guard import UnsupportedError

VERSION = tuple(int(n) for n in triton.__version__.split(".")[:2])
PLANE = gl.constexpr(gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0]))
LINE = gl.constexpr(gl.BlockedLayout([4], [32], [4], [0]))
FLAT = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
ROWS = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [1, 0]))

pytestmark = pytest.mark.skipif(VERSION < (3, 7), reason="another syntax")


@gluon.jit
def copy(x, out, m, n, rows, B: gl.constexpr):
    """Blocks of 32 by 32; the target is said to have `rows`."""
    source = tdm.make_tensor_descriptor(x, shape=(m, n), strides=(n, 1), block_shape=(B, B), layout=ROWS)
    target = tdm.make_tensor_descriptor(out, shape=(rows, n), strides=(n, 1), block_shape=(B, B), layout=ROWS)
    tile = gl.allocate_shared_memory(gl.float16, [B, B], ROWS)
    tdm.async_load(source, [gl.program_id(0) * B, gl.program_id(1) * B], tile)
    tdm.async_wait(0)
    tile.store(tile.load(PLANE) + 1)
    tdm.async_store(target, [gl.program_id(0) * B, gl.program_id(1) * B], tile)
    tdm.async_wait(0)


def test_copies_of_blocks(new_run):
    x = torch.randn(50, 40).half()
    run = new_run(arch="gfx1250")
    out = run.empty((50, 40), torch.float16)
    run.launch(copy, (2, 2), run.place(x), out, 50, 40, 50, B=32)
    assert torch.equal(out, x + 1)
    assert not run.incidents()


def test_a_descriptor_of_more_rows_than_there_are(new_run):
    run = new_run(arch="gfx1250")
    run.launch(
        copy, (2, 2), run.place(torch.zeros(50, 40).half()), run.empty((50, 40), torch.float16), 50, 40, 53, B=32
    )
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.low) == ("oob-write", 120, 4000)
    assert incident.site.location.source.startswith("tdm.async_store(target,")


@gluon.jit
def step(x, out, m, n, CLAMP: gl.constexpr, BOUNDS: gl.constexpr, B: gl.constexpr):
    d = tdm.make_tensor_descriptor(x, shape=(m, n), strides=(n, 1), block_shape=(B, B), layout=ROWS)
    tile = gl.allocate_shared_memory(gl.float16, [B, B], ROWS)
    tile.store(gl.full([B, B], 5.0, gl.float16, PLANE))
    d = tdm.update_tensor_descriptor(d, add_offsets=[B, 0], clamp_bounds=CLAMP)
    if BOUNDS:
        d = tdm.update_tensor_descriptor(d, set_bounds=[m - B, n])
    d = tdm.update_tensor_descriptor(d, pred=gl.program_id(0) == 0)
    tdm.async_load(d, dest=tile)
    tdm.async_wait(0)
    i = gl.arange(0, B, layout=gl.SliceLayout(1, PLANE))[:, None]
    j = gl.arange(0, B, layout=gl.SliceLayout(0, PLANE))[None, :]
    gl.store(out + (gl.program_id(0) * B + i) * B + j, tile.load(PLANE))


@pytest.mark.skipif(VERSION < (3, 8), reason="descriptors are moved since Triton 3.8")
@pytest.mark.parametrize(("clamp", "bounds"), [(True, False), (False, True), (False, False)])
def test_a_descriptor_that_is_moved_keeps_its_bounds(new_run, clamp, bounds):
    x = torch.randn(40, 32).half()
    run = new_run(arch="gfx1250")
    out = run.empty((64, 32), torch.float16)
    run.launch(step, (2,), run.place(x), out, 40, 32, clamp, bounds, B=32)
    assert torch.equal(out[:8], x[32:])
    assert (out[32:] == 5).all()  # where the predicate is 0, nothing is copied
    if clamp or bounds:
        assert not out[8:32].any()
        assert not run.incidents()
        return
    (incident,) = run.incidents().values()
    assert (incident.kind, incident.lanes, incident.low) == ("oob-read", 24 * 32, 40 * 32 * 2)


@gluon.jit
def stored_from_shared(x, out, n, B: gl.constexpr):
    i = gl.program_id(0) * B + gl.arange(0, B, layout=LINE)
    held = gl.allocate_shared_memory(gl.float32, [B], FLAT, gl.load(x + i, mask=i < n))
    async_copy.shared_to_global(out + i, held, mask=i < n)
    async_copy.commit_group()
    async_copy.wait_group(0)


def test_a_copy_from_shared_memory(new_run):
    run = new_run(arch="gfx1250")
    x, out = torch.randn(300), run.empty((300,))
    run.launch(stored_from_shared, (2,), run.place(x), out, 300, 256)
    assert torch.equal(out, x)
    run = new_run(arch="gfx1250")
    run.launch(stored_from_shared, (2,), run.place(x), run.empty((299,)), 300, 256)
    (incident,) = run.incidents("oob-write").values()
    assert (incident.region.name, incident.lanes) == ("out", 1)
    assert incident.site.location.source == "async_copy.shared_to_global(out + i, held, mask=i < n)"


@gluon.jit
def behind_a_barrier(x, out, m, n, USED: gl.constexpr, B: gl.constexpr):
    source = tdm.make_tensor_descriptor(x, shape=(m, n), strides=(n, 1), block_shape=(B, B), layout=ROWS)
    tile = gl.allocate_shared_memory(gl.float16, [B, B], ROWS)
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(ready, count=4)
    phase = mbarrier.arrive(ready, count=1)
    tdm.async_load(source, [0, 0], tile, mbarrier=ready)
    mbarrier.wait(ready, phase if USED else 0)
    i = gl.arange(0, B, layout=gl.SliceLayout(1, PLANE))[:, None]
    j = gl.arange(0, B, layout=gl.SliceLayout(0, PLANE))[None, :]
    gl.store(out + i * n + j, tile.load(PLANE), mask=(i < m) & (j < n))


@pytest.mark.skipif(VERSION < (3, 9), reason="another syntax")
def test_barriers(new_run):
    x = torch.randn(20, 30).half()
    run = new_run(arch="gfx1250")
    out = run.empty((20, 30), torch.float16)
    run.launch(behind_a_barrier, (1,), run.place(x), out, 20, 30, False, B=32)
    assert torch.equal(out, x)
    assert not run.incidents()
    with pytest.raises(UnsupportedError, match=r"amdg\.arrive_barrier whose result is used"):
        run.launch(behind_a_barrier, (1,), run.place(x, name="y"), out, 20, 30, True, B=32)
