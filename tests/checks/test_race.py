"""race: two lanes of one store write different values to one place."""

import torch
import triton
import triton.language as tl

import fp4guard as fg
from fp4guard import dims

BLOCK = 16


@triton.jit
def store_all_to_one(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i // n, tl.load(x + i))  # races


def storing(values):
    def target(mem, n):
        x = mem.input("x", values(BLOCK))
        out = mem.output("out", (triton.cdiv(BLOCK, n),), torch.int32)
        store_all_to_one[(1,)](x, out, n, BLOCK=BLOCK)

    return fg.fuzz(n=dims(max=BLOCK))(target)


@triton.jit
def store_alike(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i % n, tl.load(x + i % n))


@fg.fuzz(n=dims(max=64))
def wrapped(mem, n):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    store_alike[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)
    mem.expect(out, x)


def test_different_values_stored_to_one_place(only_finding, line_of):
    finding = only_finding(storing(lambda n: torch.arange(n, dtype=torch.int32)), n=8)
    assert (finding.kind, finding.tensor, finding.offset) == ("race", "out", 0)
    assert finding.line == line_of("# races")
    assert finding.programs == ((0, 0, 0),)
    assert "in the same store" in finding.message


def test_equal_values_stored_to_one_place_are_silent():
    assert not fg.examine(storing(lambda n: torch.ones(n, dtype=torch.int32)), n=8).findings
    assert not fg.examine(wrapped, n=20).findings


def test_one_value_to_each_place_is_silent():
    assert not fg.examine(storing(lambda n: torch.arange(n, dtype=torch.int32)), n=1).findings
