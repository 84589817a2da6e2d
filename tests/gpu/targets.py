"""Kernels with one fault each, and a right one, as targets for the checks of a GPU."""

import pytest
import torch
import triton
import triton.language as tl
from hypothesis.errors import UnsatisfiedAssumption

import fp4guard as fg


@triton.jit
def scale_rows_kernel(x, s, out, n, x_stride, out_stride, KIND: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, 64)
    inside = i < n
    value = tl.load(x + row * x_stride + i, mask=inside, other=0.0) * tl.load(s + row)
    if KIND == "adds what lies beyond":
        value += tl.load(x + row * x_stride + n)
    if KIND == "scales by what lies beyond":
        value *= tl.load(s + row + 1)
    if KIND == "writes beyond":
        inside = i < n + 1
    if KIND == "skips the last":
        inside = i < n - 1
    if KIND == "writes its input":
        tl.store(s + row, 7.0)
    if KIND == "is wrong":
        value += 1.0
    tl.store(out + row * out_stride + i, value, mask=inside)


@fg.fuzz(m=fg.dims(), n=fg.dims(tile=64, max=63), kind=["right"])
def scales_rows(mem, m, n, kind):
    x, s = mem.tensor("x", (m, n), torch.float32, fg.ROWS), mem.tensor("s", (m,), torch.float32)
    out = mem.output("out", (m, n), torch.float32, fg.ROWS)
    scale_rows_kernel[(m,)](x, s, out, n, x.stride(0), out.stride(0), KIND=kind)
    mem.expect(out, x.double() * s.double()[:, None])


@triton.jit
def copy_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)


@fg.fuzz(n=fg.dims(tile=64))
def copies_what_it_allocates(mem, n):
    """The result is memory of the code's own, of which the last element is never written."""
    x = mem.tensor("x", (n,), torch.float32)
    out = torch.empty_like(x)
    copy_kernel[(triton.cdiv(n, 64),)](x, out, n - 1, BLOCK=64)
    mem.expect(out, x)


@fg.fuzz(n=fg.dims(tile=64), used=fg.dims())
def copies_an_input_with_padding(mem, n, used):
    """Elements from `used` on are padding, whose content nobody says."""
    padding = torch.arange(n) >= used
    x = mem.input("x", torch.arange(n, dtype=torch.float32), undefined=padding)
    out = mem.output("out", (n,), torch.float32)
    copy_kernel[(triton.cdiv(n, 64),)](x, out, n, BLOCK=64)
    mem.expect(out[:used], torch.arange(min(used, n), dtype=torch.float32))


@fg.fuzz(n=fg.dims(tile=64))
def gives_what_it_has_changed(mem, n):
    values = torch.zeros(n)
    mem.input("before", values)
    values += 1
    after, out = mem.input("after", values), mem.output("out", (n,), torch.float32)
    copy_kernel[(triton.cdiv(n, 64),)](after, out, n, BLOCK=64)
    mem.expect(out, torch.ones(n))


@triton.jit
def add_parts_kernel(parts, out, n, n_read, n_written, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    high = tl.load(parts[1] + i, mask=i < n_read, other=0.0)
    total = tl.load(parts[0] + i, mask=i < n, other=0.0) + high
    tl.store(out + i, total + tl.sum(high * 0.0, axis=0), mask=i < n_written)


@fg.fuzz(n=fg.dims(tile=64, max=63), read=[0], written=[0])
def adds_what_torch_made(mem, n, read, written):
    """The addends, parts of one storage, and the sum lie in memory that torch takes for itself."""
    x = mem.tensor("x", (n,), torch.float32)
    both = torch.cat([x, torch.ones_like(x)])
    out = x * 0.0
    add_parts_kernel[(1,)]((both[:n], both[n:]), out, n, n + read, n + written, BLOCK=64)
    mem.expect(out, x.double() + 1)


@fg.fuzz(n=fg.dims(tile=64, max=63), launches=[40])
def counts_up(mem, n, launches):
    x = mem.tensor("x", (n,), torch.float32)
    out = x * 0.0
    for _ in range(launches):
        add_parts_kernel[(1,)]((out + 0.0, x * 0.0 + 1.0), out, n, n, n, BLOCK=64)
    mem.expect(out, torch.full((n,), float(launches)))


KEPT = {}


@fg.fuzz(n=fg.dims(tile=64, max=63))
def keeps_a_table(mem, n):
    """Constants and a workspace, made once for all cases."""
    if not KEPT:
        KEPT.update(ones=torch.ones(64), work=torch.empty(64))
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    add_parts_kernel[(1,)]((x, KEPT["ones"]), KEPT["work"], n, n, n, BLOCK=64)
    copy_kernel[(1,)](KEPT["work"], out, n, BLOCK=64)
    mem.expect(out, x.double() + 1)


@fg.fuzz(n=fg.dims())
def assumes(mem, n):
    raise UnsatisfiedAssumption  # as hypothesis.assume does, which warns outside of hypothesis


@fg.fuzz(n=fg.dims())
def is_skipped(mem, n):
    pytest.skip("not here")


@fg.fuzz(n=fg.dims())
def is_misused(mem, n):
    mem.tensor("x", (n,), torch.complex64)


@fg.fuzz(n=fg.dims())
def answers_with_bytes_that_make_no_element(mem, n):
    x = mem.tensor("x", (n,), torch.int16)
    out = torch.cat([x.view(torch.uint8), torch.zeros(1, dtype=torch.uint8, device=x.device)])
    mem.expect(out[: 2 * n].view(torch.int16), x)


@fg.fuzz(n=fg.dims())
def answers_with_too_few(mem, n):
    x = mem.tensor("x", (n,), torch.float32)
    mem.expect(torch.empty(n - 1, device=x.device).copy_(x[1:]), x)


CALLS = []


@fg.fuzz(n=fg.dims(tile=64))
def counts_its_calls(mem, n):
    CALLS.append(n)
    out = mem.output("out", (n,), torch.int32)
    out.fill_(len(CALLS))


@fg.fuzz(n=fg.dims())
def raises(mem, n):
    raise ValueError(f"n is {n}; allowed: none at all")
