"""Gluon launches go where those of plain Triton do, on every architecture; what they give is the same to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd import cdna4
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared

from fp4guard import UnsupportedError, UsageError
from fp4guard.bench import gluon as bench
from fp4guard.bench import sides
from fp4guard.bench.rows import Row, _add, _matmul, _paged_gather, _softmax
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch

#: By architecture, the threads of a warp.
WARPS = {"sm_90": 32, "sm_100": 32, "gfx942": 64, "gfx950": 64, "gfx1250": 32}


@gluon.jit
def add(x, y, out, n, BLOCK: gl.constexpr, LAYOUT: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LAYOUT)
    gl.store(out + i, gl.load(x + i, mask=i < n, other=0) + gl.load(y + i, mask=i < n, other=0), mask=i < n)


@gluon.jit
def add_unmasked(x, y, out, n, BLOCK: gl.constexpr, LAYOUT: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LAYOUT)
    gl.store(out + i, gl.load(x + i, mask=i < n, other=0) + gl.load(y + i))


@pytest.mark.parametrize("arch", WARPS)
def test_every_architecture(new_run, arch):
    x, y = torch.randn(1000), torch.randn(1000)
    layout = gl.BlockedLayout([2], [WARPS[arch]], [4], [0])  # of 1024 lanes some are there twice
    run = new_run(arch=arch)
    out = run.empty((1000,))
    run.launch(add, (2,), run.place(x), run.place(y, name="y"), out, 1000, BLOCK=512, LAYOUT=layout)
    assert torch.equal(out, x + y)
    assert not run.incidents()
    run = new_run(arch=arch)
    run.launch(add_unmasked, (2,), run.place(x), run.place(y, name="y"), run.empty((1000,)), 1000, 512, layout)
    assert set(run.incidents()) == {("oob-read", "y"), ("oob-write", "out")}
    assert {i.lanes for i in run.incidents().values()} == {24}


@gluon.jit
def softmax(x, out, columns, stride, BLOCK: gl.constexpr, LAYOUT: gl.constexpr):
    i = gl.arange(0, BLOCK, layout=LAYOUT)
    value = gl.load(x + gl.program_id(0) * stride + i, mask=i < columns, other=-float("inf"))
    e = gl.exp(value - gl.max(value, axis=0))
    gl.store(out + gl.program_id(0) * columns + i, e / gl.sum(e, axis=0), mask=i < columns)


@pytest.mark.parametrize("arch", WARPS)
def test_softmax_of_rows(new_run, arch):
    x = torch.randn(7, 100)
    run = new_run(arch=arch)
    out = run.empty((7, 100))
    layout = gl.BlockedLayout([1], [WARPS[arch]], [4], [0])
    run.launch(softmax, (7,), run.place(x), out, 100, 100, BLOCK=128, LAYOUT=layout)
    torch.testing.assert_close(out, x.softmax(1))
    assert not run.incidents()


@pytest.mark.parametrize("row", [
    Row("vector add", (3072,), _add), Row("softmax", (5, 37), _softmax), Row("matmul fp16", (33, 40, 65), _matmul),
    Row("paged gather", (3, 2, 16, 32), _paged_gather),
], ids=lambda row: row.kernel)  # fmt: skip
def test_the_same_bits_as_in_plain_triton(row):
    found = {}
    for name, module in bench.SIDES.items():
        memory = sides.memory_of(row)
        simulator = Simulator(memory, parse_arch(bench.ARCH))
        with simulator.intercepting():
            row.prepare(memory, *row.shape, module=module)()
        assert not simulator.trace.incidents
        found[name] = {region.name: region.bits() for region in memory}
    assert found["triton"].keys() == found["gluon"].keys()
    for name in found["triton"]:
        np.testing.assert_array_equal(found["triton"][name], found["gluon"][name])


def test_a_layout_that_is_made_anew_is_the_same(new_run):
    run = new_run(arch="gfx950")
    x = run.place(torch.zeros(512))
    with run.simulator.intercepting():
        made = [
            add.warmup(x, x, x, 512, BLOCK=512, LAYOUT=gl.BlockedLayout([size], [64], [4], [0]), grid=(1,))
            for size in (2, 2, 1)
        ]
    assert made[0].asm["ttgir"] is made[1].asm["ttgir"]
    assert made[0].asm["ttgir"] != made[2].asm["ttgir"]
    with pytest.raises(UnsupportedError, match="no further than TTGIR"):
        made[0].asm["amdgcn"]
    assert run.simulator.launches == 0


def test_an_error_of_tritons_own_is_the_launchers(new_run):
    """A layout for warps of 32 on a GPU whose have 64."""
    run = new_run(arch="gfx950")
    x = run.place(torch.zeros(512))
    with pytest.raises(Exception, match=r"compiling add for gfx950"):
        run.launch(add, (1,), x, x, x, 512, BLOCK=512, LAYOUT=gl.BlockedLayout([1], [32], [4], [0]))


@gluon.jit
def add_on_cdna(x, out, B: gl.constexpr, LAYOUT: gl.constexpr):
    i = gl.arange(0, B, layout=LAYOUT)
    cdna4.buffer_store(cdna4.buffer_load(x, i) + 1, out, i)


@gluon.jit
def add_behind_a_fence(x, out, B: gl.constexpr, LAYOUT: gl.constexpr):
    i = gl.arange(0, B, layout=LAYOUT)
    fence_async_shared()
    gl.store(out + i, gl.load(x + i) + 1)


@pytest.mark.parametrize(("kernel", "arch", "op", "allowed"), [
    (add_on_cdna, "sm_90", "amdg.buffer_load", "gfx942, gfx950"),
    (add_behind_a_fence, "gfx950", "ttng.fence_async_shared", "sm_80, sm_89"),
])  # fmt: skip
def test_a_kernel_for_the_other_vendors_gpus_is_refused(new_run, kernel, arch, op, allowed):
    run = new_run(arch=arch)
    layout = gl.BlockedLayout([1], [WARPS[arch]], [4], [0])
    told = rf"arch='{arch}': {op} at .*test_launch.py:\d+:\d+ is for .*; allowed are {allowed}"
    with pytest.raises(UsageError, match=told):
        run.launch(kernel, (1,), run.place(torch.zeros(256)), run.empty((256,)), 256, layout)


@gluon.jit
def _read(x, out, i):
    gl.store(out + i, gl.load(x + i))


@gluon.jit
def specialized(x, out, n, B: gl.constexpr, LAYOUT: gl.constexpr):
    i = gl.arange(0, B, layout=LAYOUT)
    gl.warp_specialize([(_read, (x, out, i)), (_read, (x, out, n))], [4], [24])


@pytest.mark.skipif(triton.__version__ < "3.7", reason="another signature")
def test_warp_specialization_is_refused_by_name(new_run):
    run = new_run(arch="sm_100")
    with pytest.raises(UnsupportedError, match=r"ttg\.warp_specialize") as caught:
        layout = gl.BlockedLayout([1], [32], [4], [0])
        run.launch(specialized, (1,), run.place(torch.zeros(512)), run.empty((512,)), 5, 128, layout)
    assert caught.value.location.file == __file__
    assert caught.value.location.source.startswith("gl.warp_specialize(")
