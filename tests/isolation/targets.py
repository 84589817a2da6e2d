"""Targets that end their process, or do not end, on one size in ten; and two that do neither."""

import ctypes
import os
import signal
import sys
import tempfile
import time

import hypothesis
import pytest
import torch
import triton
import triton.language as tl

import fp4guard as fg

SIZES = fg.dims(max=200)


@triton.jit
def add_one_kernel(x, out, n):
    i = tl.program_id(0) * 64 + tl.arange(0, 64)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0.0) + 1, mask=i < n)


def adds_one(mem, n):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    add_one_kernel[(triton.cdiv(n, 64),)](x, out, n)
    mem.expect(out, x.double() + 1)


@fg.fuzz(n=SIZES)
def adds(mem, n):
    print(f"[adding to {n}]")
    hypothesis.assume(n != 3)
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def faults(mem, n):
    if n % 10 == 7:
        ctypes.string_at(0)
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def aborts(mem, n):
    if n % 10 == 7:
        os.abort()
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def exits(mem, n):
    if n % 10 == 7:
        os._exit(3)
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def is_killed(mem, n):
    if n % 10 == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def hangs(mem, n):
    while n % 10 == 7:
        time.sleep(0.01)
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def takes_its_time_and_is_wrong(mem, n):
    time.sleep(2)
    mem.output("out", (n,), torch.float32)


@fg.fuzz(n=SIZES)
def leaves_a_process(mem, n):
    adds_one(mem, n)
    child = os.fork()
    if not child:
        time.sleep(600)
        os._exit(0)
    print(f"[left {child}]", flush=True)
    if n % 10 == 7:
        os._exit(4)


@fg.fuzz(n=SIZES)
def leaves_a_file(mem, n):
    if n == 7:
        tempfile.mkstemp(prefix="left-by-a-worker-")
        os._exit(1)
    adds_one(mem, n)


@fg.fuzz(n=SIZES)
def interrupts_itself(mem, n):
    raise KeyboardInterrupt("by itself")


@fg.fuzz(n=SIZES)
def changes_what_is_the_process_s(mem, n):
    adds_one(mem, n)
    os.chdir("/")
    sys.stdout.close()


@fg.fuzz(n=SIZES)
def is_skipped(mem, n):
    pytest.skip("not today")


@fg.fuzz(n=SIZES)
def is_misused(mem, n):
    mem.tensor("x", (n,), torch.complex64)


@fg.fuzz(n=SIZES)
def breaks_the_harness(mem, n):
    mem.regions = None
    mem.output("out", (n,), torch.float32)
