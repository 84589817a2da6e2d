"""Targets that lose their process, or their GPU, in one case of ten; for `survival`."""

# mypy: ignore-errors

from __future__ import annotations

import os
import subprocess

import torch
import triton
import triton.language as tl

import fp4guard as fg

SIZES = fg.dims(max=200)


@triton.jit
def add_one_kernel(x, out, n, FAR: tl.constexpr, SPIN: tl.constexpr):
    i = tl.program_id(0) * 64 + tl.arange(0, 64)
    values = tl.load(x + i, mask=i < n, other=0.0) + 1
    if SPIN:
        while tl.load(x, volatile=True) == tl.load(x, volatile=True):
            values += 0
    tl.store(out + i.to(tl.int64) + FAR, values, mask=i < n)


def adds_one(mem, n, far=0, spin=False):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    add_one_kernel[(triton.cdiv(n, 64),)](x, out, n, FAR=far, SPIN=spin)
    mem.expect(out, x.double() + 1)


def dies(n: int) -> bool:
    """Whether a case is one that must be reported."""
    return n % 10 == 7


@fg.fuzz(n=SIZES)
def faults(mem, n):
    """An illegal address."""
    adds_one(mem, n, far=2**44 if dies(n) else 0)


@fg.fuzz(n=SIZES)
def hangs(mem, n):
    """A kernel that does not end."""
    adds_one(mem, n, spin=dies(n))


@fg.fuzz(n=SIZES)
def runs_out_of_memory(mem, n):
    """More than it may have: other processes use the GPU too, and must not be the ones that find none left."""
    if dies(n):
        torch.cuda.set_per_process_memory_fraction(0.001)
        torch.empty(2**30, dtype=torch.uint8, device="cuda")
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def aborts(mem, n):
    """Native code that gives up."""
    if dies(n):
        os.abort()
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def exits(mem, n):
    """A process that leaves without a word."""
    if dies(n):
        os._exit(0)
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def is_killed(mem, n):
    """Another process that kills this one."""
    if dies(n):
        subprocess.run(["kill", "-KILL", str(os.getpid())], check=True)
    adds_one(mem, n)


DEATHS = (faults, hangs, runs_out_of_memory, aborts, exits, is_killed)
