"""What `kernel.warmup`, `kernel.run` and a launch give back, and what host code does with it."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

import fp4guard as fg
from fp4guard import UnsupportedError


@triton.jit
def scale_kernel(x, out, n, factor, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0) * factor, mask=i < n)


@pytest.fixture
def run(new_run):
    return new_run()


@pytest.fixture
def tensors(run):
    return run.place(torch.arange(7.0)), run.empty((7,))


def test_run_is_called_directly(run, tensors):
    x, out = tensors
    with run.simulator.intercepting():
        scale_kernel.run(x, out, 7, 2.0, BLOCK=4, grid=(2,), warmup=False, num_warps=2)
    assert torch.equal(out, x * 2)


def test_a_warmed_up_kernel_says_what_it_needs_and_is_launched(run, tensors):
    """As the softmax of Triton's tutorials does, to choose a grid."""
    x, out = tensors
    with run.simulator.intercepting():
        kernel = scale_kernel.warmup(x, out, 7, 2.0, BLOCK=4, num_warps=8, grid=(1,))
        assert run.simulator.launches == 0
        kernel._init_handles()
        assert kernel.n_regs > 0
        assert kernel.metadata.shared > 0
        assert kernel.metadata.num_warps == 8
        assert (kernel.name, kernel.metadata.target.backend) == ("scale_kernel", "cuda")
        kernel[(2, 1, 1)](x, out, 7, 3.0, 4)
    assert torch.equal(out, x * 3)


def test_a_kernel_is_warmed_up_with_dtypes(run, tensors):
    with run.simulator.intercepting():
        kernel = scale_kernel.warmup(torch.float32, torch.float32, 7, 2.0, BLOCK=4, grid=(1,))
        kernel[(2,)](*tensors, 7, 2.0, 4)
    assert run.written().all()


def test_a_launch_gives_the_compiled_kernel(run, tensors):
    with run.simulator.intercepting():
        kernel = scale_kernel[(2,)](*tensors, 7, 2.0, BLOCK=4)
        assert "tt.func public @scale_kernel" in kernel.asm["ttir"]
        with pytest.raises(UnsupportedError, match="the ptx of a kernel, which is compiled no further than TTIR"):
            kernel.asm["ptx"]


@pytest.mark.parametrize("args", [(1, 2.0, 4), (7, 2.0, 8), (2**40, 2.0, 4), (7, 2, 4)])
def test_a_compiled_kernel_is_not_given_what_it_was_not_compiled_for(run, tensors, args):
    with run.simulator.intercepting():
        kernel = scale_kernel.warmup(*tensors, 7, 2.0, BLOCK=4, grid=(1,))
        with pytest.raises(RuntimeError, match="scale_kernel was compiled for arguments of other types"):
            kernel[(2,)](*tensors, *args)


@pytest.mark.parametrize(("skipped", "n", "broken"), [
    (4, 32, []), (1, 32, ["`pair[0]` is not a multiple of 16"]), (4, 33, ["`pair[1]` is not a multiple of 16"]),
])  # fmt: skip
def test_a_compiled_kernel_is_told_of_its_arguments_what_is_so(run, skipped, n, broken):
    x, out = run.place(torch.arange(40.0)), run.empty((40,))
    with run.simulator.intercepting():
        kernel = pair_kernel.warmup((x, 16), out, BLOCK=64, grid=(1,))
        kernel[(1,)]((x[skipped:], n), out, 64)
    found = [i.site.operation.attributes["promise"] for i in run.incidents("assert-failed").values()]
    assert found == [f"{promise}, which it was when pair_kernel was compiled" for promise in broken]
    assert torch.equal(out[:n], x[skipped : n + skipped])


def test_what_is_compiled_for_less_takes_more(run):
    x, out = run.place(torch.arange(40.0)), run.empty((40,))
    with run.simulator.intercepting():
        kernel = pair_kernel.warmup((x[1:], 17), out, BLOCK=64, grid=(1,))
        kernel[(1,)]((x, 32), out, 64)
    assert not run.incidents()


@triton.jit
def pair_kernel(pair, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(pair[0] + i, mask=i < pair[1], other=0), mask=i < pair[1])


@fg.fuzz(n=[1, 7])
def prepared(mem, n):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    kernel = scale_kernel.warmup(x, out, 7, 2.0, BLOCK=4, grid=(1,))
    kernel[(triton.cdiv(n, 4), 1, 1)](x, out, n, 2.0, 4)  # launches
    mem.expect(out, x * 2)


def test_that_is_a_finding_at_the_line_of_the_launch(only_finding, line_of):
    assert not fg.examine(prepared, n=7).findings
    finding = only_finding(prepared, n=1)  # 1 is a constant to Triton
    assert (finding.kind, finding.line) == ("crash", line_of("# launches"))


@triton.jit
def gone_kernel(x, out):
    tl.store(out, tl.load(x))


def test_what_is_refused_names_the_line_of_the_launch(run, line_of):
    class Pointer:
        dtype = torch.float32

        def data_ptr(self):
            return 0

    with run.simulator.intercepting(), pytest.raises(UnsupportedError, match="argument x of type Pointer") as caught:
        gone_kernel[(1,)](Pointer(), run.empty((1,)))  # refused
    assert caught.value.location.line == line_of("# refused")
    assert f"test_launch_compiled.py:{line_of('# refused')}:9" in str(caught.value)


def test_launches_through_torch(run, tensors):
    wrapped = torch.library.wrap_triton(scale_kernel)
    x, out = tensors
    with run.simulator.intercepting():
        wrapped[(2,)](x, out, 7, 2.0, BLOCK=4)
    assert torch.equal(out, x * 2)


# Several launches


@triton.jit
def gather_kernel(x, index, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(index + i, mask=i < n, other=0)
    tl.store(out + i, tl.load(x + place, mask=i < n), mask=i < n)


def test_what_an_earlier_launch_wrote_is_there_and_initialised(run):
    x, index, half, out = (
        run.place(torch.arange(8.0)), run.place(torch.arange(7, -1, -1)), run.empty((8,), name="half"), run.empty((8,)),
    )  # fmt: skip
    run.launch(gather_kernel, (2,), x, index, half, 5, BLOCK=4)
    run.launch(gather_kernel, (2,), half, index % 5, out, 8, BLOCK=4)
    assert not run.incidents("oob-read", "uninitialized-read")
    run.launch(gather_kernel, (2,), half, index, out, 8, BLOCK=4)
    assert set(run.incidents("oob-read", "uninitialized-read")) == {("uninitialized-read", "half")}


def test_a_cached_program_takes_the_data_of_its_launch_alone(new_run):
    for offset in (0, 1, 0, 100):
        run = new_run()
        x, index, out = run.place(torch.arange(8.0) + offset), run.place(torch.arange(8) + offset % 7), run.empty((8,))
        run.launch(gather_kernel, (1,), x, index, out, 8, BLOCK=8)
        inside = (torch.arange(8) + offset % 7).clamp(max=7)
        beyond = 8 - (offset % 7)
        assert torch.equal(out[:beyond], x[inside][:beyond])
        found = {i.region.name: i.lanes for i in run.incidents("oob-read").values()}
        assert found == ({"x": offset % 7} if offset % 7 else {})
