"""Memory without guards: a target runs in it as in any other, in every layout."""

import numpy as np
import pytest
import torch

from fp4guard import oracle
from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.loading import load_target
from fp4guard.gpu.plain import PlainMemory

CASES = [
    (
        "kernels.gemm_afp4wfp4::gemm_afp4wfp4",
        {"m": 33, "n": 37, "k": 160, "config": "BM32_BN32_BK128", "dtype": "bf16"},
    ),
    (
        "kernels.nvfp4_linear::scaled_fp4_mm",
        {
            "m": 3, "n_units": 1, "k_units": 1, "backend": "cutlass", "config": "BM16_BN16_BK64", "a_layout": "linear",
            "b_layout": "128x4", "dtype": "bf16", "alpha": 1.0, "bias": None, "outputs": "given",
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize("layout", [0, 5, 9])
@pytest.mark.parametrize(("spec", "arguments"), CASES)
def test_target_runs_without_guards(simulated_device, spec, arguments, layout):
    memory = PlainMemory(Case(arguments, layout=layout), {}, torch.device("cpu"))
    load_target(spec).function(memory, **arguments)
    ((tensor, expected),) = memory.expectations.values()
    oracle.assert_matches(tensor, expected)


def test_what_is_undefined_is_never_written(simulated_device, monkeypatch):
    """Another tool is to see it as it is: the memory that torch gave."""
    fresh = torch.empty

    def dirty(*size, **options):
        made = fresh(*size, **options)
        return made.fill_(0xA5) if made.dtype is torch.uint8 else made

    monkeypatch.setattr(torch, "empty", dirty)
    memory = PlainMemory(Case({}), {}, torch.device("cpu"))
    undefined = np.zeros((4, 6), bool)
    undefined[:, 4:] = True
    for dtype in (torch.float32, torch.float8_e4m3fn, torch.int64):
        x = memory.input("x", torch.ones(4, 6).to(dtype), undefined=undefined)
        assert bool((x[:, :4].float() == 1).all())
        assert bool((x[:, 4:].contiguous().view(torch.uint8) == 0xA5).all())
    assert bool(memory.input("y", torch.ones(()), undefined=np.zeros((), bool)) == 1)
