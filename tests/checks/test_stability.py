"""poison-dependent and nondeterministic: what no operation of a kernel accounts for."""

import itertools

import numpy as np
import torch

import fp4guard as fg
from fp4guard import dims


@fg.fuzz(n=dims())
def host_sums_padding(mem, n):
    padded = torch.empty(n + 2)
    padded[:n] = 1
    mem.output("out", (1,), torch.float32).copy_(padded.sum())


@fg.fuzz(n=dims())
def host_sums_zeroed_padding(mem, n):
    padded = torch.zeros(n + 2)
    padded[:n] = 1
    out = mem.output("out", (1,), torch.float32)
    out.copy_(padded.sum())
    mem.expect(out, torch.tensor([float(n)]))


@fg.fuzz(n=dims())
def numpy_reads_new_memory(mem, n):
    fresh = torch.empty(n, dtype=torch.int32).numpy()
    mem.output("out", (n,), torch.int32).copy_(torch.from_numpy(fresh + 1))


@fg.fuzz(n=dims())
def numpy_writes_new_memory(mem, n):
    fresh = torch.empty(n, dtype=torch.int32)
    fresh.numpy()[:] = np.arange(n)
    out = mem.output("out", (n,), torch.int32)
    out.copy_(fresh)
    mem.expect(out, np.arange(n))


def test_output_that_changes_with_memory_that_torch_read(only_finding):
    finding = only_finding(host_sums_padding, n=3)
    assert (finding.kind, finding.tensor, finding.file) == ("poison-dependent", "out", None)
    assert "`out` changes with bytes that are no input" in finding.message
    assert "1 / 1 elements (100.0%), first at [0]" in finding.message


def test_output_that_changes_with_memory_that_numpy_read(only_finding):
    finding = only_finding(numpy_reads_new_memory, n=3)
    assert (finding.kind, finding.tensor) == ("poison-dependent", "out")


def test_defined_memory_that_the_host_reads_is_silent():
    assert not fg.examine(host_sums_zeroed_padding, n=3).findings
    assert not fg.examine(numpy_writes_new_memory, n=3).findings


def counting():
    calls = itertools.count()

    @fg.fuzz(n=dims())
    def target(mem, n):
        mem.output("out", (n,), torch.int32).fill_(next(calls))

    return target


@fg.fuzz(n=dims())
def torch_random(mem, n):
    mem.output("out", (n,), torch.float32).copy_(torch.rand(n))


def test_output_that_differs_from_run_to_run(only_finding):
    finding = only_finding(counting(), n=3)
    assert (finding.kind, finding.tensor) == ("nondeterministic", "out")
    assert "differs between two runs of the same case with the same poison" in finding.message


def test_random_numbers_of_torch_are_those_of_the_case():
    assert not fg.examine(torch_random, n=3).findings


def test_random_numbers_of_the_caller_are_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    fg.examine(torch_random, n=3, seed=5)
    assert torch.equal(torch.rand(2), expected)


def test_output_whose_shape_depends_on_poison_differs_wholly(only_finding):
    @fg.fuzz()
    def target(mem):
        fresh = torch.empty(1, dtype=torch.int64)
        mem.output("out", (1 if int(fresh) < 0 else 2,), torch.int32).zero_()

    assert only_finding(target).kind == "poison-dependent"
