"""What may be given to a kernel: tuples, None, constants, functions, wrapped and foreign tensors, descriptors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@pytest.fixture
def run(new_run):
    return new_run()


class Matrix(NamedTuple):
    pointer: object
    rows: object
    columns: object
    strides: object


@triton.jit
def transpose_kernel(source, target, BLOCK: tl.constexpr):
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    inside = (i < source.rows) & (j < source.columns)
    value = tl.load(source.pointer + i * source.strides[0] + j * source.strides[1], mask=inside, other=0)
    tl.store(target[0].pointer + j * target[0].strides[0] + i * target[0].strides[1], value, mask=inside)


@pytest.mark.parametrize("shape", [(5, 3), (1, 7), (8, 1)])
def test_named_tuples_within_tuples(run, shape):
    x, out = run.place(torch.arange(np.prod(shape)).reshape(shape)), run.empty(shape[::-1], torch.int64)
    matrices = [Matrix(t, *t.shape, t.stride()) for t in (x, out)]
    run.launch(transpose_kernel, (1,), matrices[0], (matrices[1], 3), BLOCK=8)
    assert torch.equal(out, x.T)
    assert not run.incidents()


def test_a_pointer_in_a_tuple_is_named_by_its_place(run):
    x, loose = run.place(torch.arange(15).reshape(5, 3)), torch.zeros(2, 5, dtype=torch.int64)
    run.launch(transpose_kernel, (1,), Matrix(x, 5, 3, (3, 1)), (Matrix(loose, 3, 5, (5, 1)), 3), BLOCK=8)
    assert set(run.incidents()) == {("oob-write", "target[0].pointer")}


@triton.jit
def optional_kernel(x, bias, out, scale, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i)
    if bias is not None:
        value += tl.load(bias + i)
    if scale is not None:
        value *= scale
    if ACTIVATION is not None:
        value = ACTIVATION(value)
    tl.store(out + i, value)


@triton.jit
def negate(x):
    return -x


@pytest.mark.parametrize("function", [None, negate])
@pytest.mark.parametrize("scale", [None, 2.0, 1, 3])
@pytest.mark.parametrize("with_bias", [False, True])
def test_arguments_that_may_be_none_and_functions(run, with_bias, scale, function):
    x, bias, out = run.place(torch.arange(8.0)), run.place(torch.ones(8), name="bias"), run.empty((8,))
    run.launch(optional_kernel, (1,), x, bias if with_bias else None, out, scale, function, BLOCK=8)
    expected = (x + (bias if with_bias else 0)) * (1 if scale is None else scale)
    assert torch.equal(out, expected if function is None else -expected)


@triton.jit(noinline=True)
def negate_apart(x):
    return -x


@triton.jit
def scalar_kernel(x, out, FUNCTION: tl.constexpr):
    i = tl.program_id(0)
    tl.store(out + i, FUNCTION(tl.load(x + i)))


@pytest.mark.parametrize("function", [negate, negate_apart])
def test_functions_that_are_not_inlined(run, function):
    x, out = run.place(torch.arange(8.0)), run.empty((8,))
    run.launch(scalar_kernel, (8,), x, out, function)
    assert torch.equal(out, -x)
    assert not run.incidents()


def _kernel_of(factor):
    @triton.jit
    def kernel(x, out, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK)
        tl.store(out + i, tl.load(x + i) * FACTOR)

    FACTOR = tl.constexpr(factor)
    return kernel


def test_kernels_of_one_name_that_close_over_different_constants(run):
    x, out = run.place(torch.arange(8.0)), run.empty((8,))
    kernels = [_kernel_of(factor) for factor in (2, 3)]
    for _ in range(2):
        for factor, kernel in zip((2, 3), kernels):
            run.launch(kernel, (1,), x, out, 8)
            assert torch.equal(out, x * factor)


class Holder:
    @staticmethod
    @triton.jit
    def kernel(x, out, BLOCK: tl.constexpr):
        tl.store(out + tl.arange(0, BLOCK), tl.load(x + tl.arange(0, BLOCK)) + 1)


def test_a_kernel_in_a_class(run):
    x, out = run.place(torch.arange(8.0)), run.empty((8,))
    run.launch(Holder.kernel, (1,), x, out, 8)
    run.launch(Holder().kernel, (1,), out, out, 8)
    assert torch.equal(out, x + 2)


@triton.jit(do_not_specialize=["n"], do_not_specialize_on_alignment=["x"])
def unspecialised_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i * n, mask=i * n < BLOCK, other=0.0))


@pytest.mark.parametrize("n", [1, 2, 16])
def test_arguments_that_are_not_specialised(run, n):
    x, out = run.place(torch.arange(1, 17.0)), run.empty((16,))
    run.launch(unspecialised_kernel, (1,), x, out, n, 16)
    assert out.tolist() == [float(i * n + 1 if i * n < 16 else 0) for i in range(16)]


@triton.jit
def annotated_kernel(x, n: tl.int64, flag: tl.int1, f: tl.float32):
    tl.store(x, n)
    tl.store(x + 1, n // 2)
    if flag:
        tl.store(x + 2, f)


def test_annotated_arguments(run):
    out = run.empty((3,))
    run.launch(annotated_kernel, (1,), out, 2**40, True, 0.5)
    assert out.tolist() == [2.0**40, 2.0**39, 0.5]


@triton.jit
def copy_kernel(x, out, stride_m, stride_n, M: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    tl.store(out + i * N + j, tl.load(x + i * stride_m + j * stride_n))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[1:5, 2:6],
        lambda x: x.T[:4, 4:],
        lambda x: x[::2, ::2],
        lambda x: x[:1, :4].expand(4, 4),
        lambda x: x.reshape(2, 4, 2, 4)[1, :, 1, :],
        lambda x: x.flatten()[10:26].view(4, 4),
    ],
)
@pytest.mark.parametrize("guarded", [True, False])
def test_views_of_one_storage(run, view, guarded):
    whole = torch.arange(64.0).reshape(8, 8)
    x, out = view(run.place(whole) if guarded else whole), run.empty((4, 4))
    run.launch(copy_kernel, (1,), x, out, *x.stride(), 4, 4)
    assert torch.equal(out, x)
    assert not run.incidents()


def test_two_views_of_one_base_are_one_region(run):
    both = run.empty((8,))
    run.launch(copy_kernel, (1,), run.place(torch.arange(4.0)), both[:4], 4, 1, 1, 4)
    run.launch(copy_kernel, (1,), both[:4], both[4:], 4, 1, 1, 4)
    assert both.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert len(run.memory.regions) == 2
    assert not run.incidents()


def test_a_tensor_from_elsewhere_is_guarded_by_its_own_extent(run):
    x, out = torch.arange(12.0), run.empty((4, 4))
    run.launch(copy_kernel, (1,), x, out, 4, 1, 4, 4)
    assert set(run.incidents()) == {("oob-read", "x")}


@triton.jit
def bits_kernel(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i).to(tl.float32))


def test_a_tensor_that_is_reinterpreted(run):
    codes, out = run.place(torch.tensor([0x38, 0x40, 0xB8, 0x00], dtype=torch.uint8)), run.empty((4,))
    run.launch(bits_kernel, (1,), triton.reinterpret(codes, tl.float8e4nv), out, 4)
    assert out.tolist() == [1.0, 2.0, -1.0, 0.0]


def test_an_empty_tensor_may_be_given_and_not_be_touched(run):
    x, out = torch.empty(0), run.empty((8,))
    run.launch(unspecialised_kernel, (0,), x, out, 1, 8)
    assert not run.incidents()


@triton.jit
def descriptor_kernel(source, pair, M: tl.constexpr, N: tl.constexpr):
    i = tl.program_id(0) * M
    pair[1].store([i, 0], source.load([i, 0]) + pair[0])


@pytest.mark.parametrize("arch", ["sm_90", "gfx950"])
def test_descriptors_made_on_the_host_within_a_tuple_too(new_run, arch):
    run = new_run(arch=arch)
    x, out = run.place(torch.arange(40.0).reshape(5, 8)), run.empty((5, 8))
    descriptors = [TensorDescriptor.from_tensor(t, [2, 8]) for t in (x, out)]
    run.launch(descriptor_kernel, (3,), descriptors[0], (3.0, descriptors[1]), 2, 8)
    assert torch.equal(out, x + 3)
    assert not run.incidents()


@triton.jit
def extra_kernel(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.extra.libdevice.tanh(tl.load(x + i)))


@pytest.mark.parametrize("arch", ["sm_90", "gfx950"])
def test_helpers_of_the_target(new_run, arch):
    run = new_run(arch=arch)
    x, out = run.place(torch.linspace(-2, 2, 8)), run.empty((8,))
    run.launch(extra_kernel, (1,), x, out, 8)
    torch.testing.assert_close(out, x.tanh())


@triton.jit
def checked_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.device_assert(n * i < 100, "too far")
    tl.store(out + i, tl.load(x + i) + n * i)


@pytest.mark.parametrize("debug", [{}, {"debug": True}, {"debug": False}])
def test_assertions_stay_in_and_none_is_added(run, debug):
    x, out = run.place(torch.arange(8, dtype=torch.int32)), run.empty((8,), torch.int32)
    run.launch(checked_kernel, (1,), x, out, 3, 8, **debug)
    assert not run.incidents()
    run.launch(checked_kernel, (1,), x, out, 2**30, 8, **debug)  # wraps, far from any address
    assert {kind for kind, _ in run.incidents()} == {"assert-failed"}
