"""What is told of outputs that another device is held against: elements that matter, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fp4guard import oracle
from fp4guard.checks.answered import answers_of
from fp4guard.checks.record import Checked


def answered(values, expected, left_open=None):
    raw = values.contiguous().view(torch.uint8).numpy() if values.dim() else values.reshape(1).view(torch.uint8).numpy()
    bits = raw.view(f"u{values.dtype.itemsize}").reshape(tuple(values.shape))
    checked = Checked("out", values.dtype, bits, np.zeros(bits.shape, bool), left_open)
    return answers_of(SimpleNamespace(checked={"out": checked}, expectations={"out": expected}))["out"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 2)])
def test_bits_count_and_nans_are_alike(dtype, shape):
    values = torch.ones(shape).to(dtype)
    same = answered(values, values)
    assert (same.certified, same.uncertified) == (values.numel(), 0)
    assert answered(values.clone(), values) == same
    if values.numel():
        assert answered(torch.full(shape, 2.0).to(dtype), values) != same
        nan = torch.full(shape, float("nan")).to(dtype)
        other = -nan.float()
        assert answered(other.to(dtype), nan) == answered(nan, nan)


def test_certified_elements_and_others_are_told_apart():
    expected = oracle.within(np.float64([1, 2, 3]), np.float64([0, 0, 0.5]))
    first = answered(torch.tensor([1.0, 2.0, 3.0]), expected)
    assert (first.certified, first.uncertified) == (2, 1)
    near, off = answered(torch.tensor([1.0, 2.0, 3.25]), expected), answered(torch.tensor([1.0, 2.5, 3.0]), expected)
    assert near.certified_bits == first.certified_bits and near.uncertified_bits != first.uncertified_bits
    assert off.certified_bits != first.certified_bits and off.uncertified_bits == first.uncertified_bits


def test_bits_that_are_left_open_do_not_count():
    codes, left_open = torch.tensor([0x12, 0x34], dtype=torch.uint8), np.array([0x0F, 0], np.uint8)
    same = answered(codes, codes, left_open)
    assert answered(torch.tensor([0x15, 0x34], dtype=torch.uint8), codes, left_open) == same
    assert answered(torch.tensor([0x12, 0x35], dtype=torch.uint8), codes, left_open) != same
