"""What torch allocates while guarded, and what it writes."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from fp4guard.memory import ALL_ONES, GuardAllocations, Memory, Role

LIKE = torch.arange(24, dtype=torch.float16).reshape(2, 3, 4)
IMAGE = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)

EMPTY = {
    "empty": lambda: torch.empty(2, 3),
    "empty of a tuple": lambda: torch.empty((2, 3), dtype=torch.int8),
    "empty without dimensions": lambda: torch.empty(()),
    "empty of no elements": lambda: torch.empty(0, 3),
    "empty, channels last": lambda: torch.empty((2, 3, 4, 5), memory_format=torch.channels_last),
    "empty_like": lambda: torch.empty_like(LIKE),
    "empty_like, other dtype": lambda: torch.empty_like(LIKE, dtype=torch.int64),
    "empty_like, transposed": lambda: torch.empty_like(LIKE.permute(2, 0, 1)),
    "empty_like, sliced": lambda: torch.empty_like(LIKE[:, ::2]),
    "empty_like, expanded": lambda: torch.empty_like(LIKE[:1].expand(5, 3, 4)),
    "empty_like, channels last": lambda: torch.empty_like(IMAGE),
    "empty_like, contiguous": lambda: torch.empty_like(IMAGE, memory_format=torch.contiguous_format),
    "empty_strided": lambda: torch.empty_strided((2, 3), (1, 5), dtype=torch.int32),
    "empty_permuted": lambda: torch.empty_permuted((2, 3, 4), (1, 0, 2)),
    "new_empty": lambda: LIKE.new_empty((4, 2)),
    "new_empty, other dtype": lambda: LIKE.new_empty((4, 2), dtype=torch.bool),
    "new_empty_strided": lambda: LIKE.new_empty_strided((2, 2), (3, 1)),
    "requires grad": lambda: torch.empty(3, requires_grad=True),
    "Tensor": lambda: torch.Tensor(2, 3),
    "FloatTensor": lambda: torch.FloatTensor(3),
}
FILLED = {
    "zeros": lambda: torch.zeros(2, 3),
    "zeros, int": lambda: torch.zeros((2, 3), dtype=torch.int16),
    "ones": lambda: torch.ones(4, dtype=torch.bfloat16),
    "full": lambda: torch.full((2, 3), 7),
    "full of floats": lambda: torch.full((2, 3), 7.5),
    "full of bools": lambda: torch.full((2,), True),
    "full by name": lambda: torch.full(size=(2,), fill_value=3, dtype=torch.float32),
    "zeros_like": lambda: torch.zeros_like(LIKE),
    "zeros_like, transposed": lambda: torch.zeros_like(LIKE.permute(2, 0, 1)),
    "zeros_like, channels last": lambda: torch.zeros_like(IMAGE),
    "ones_like": lambda: torch.ones_like(LIKE, dtype=torch.int32),
    "full_like": lambda: torch.full_like(LIKE, -2),
    "new_zeros": lambda: LIKE.new_zeros(3, 2),
    "new_ones": lambda: LIKE.new_ones((3, 2), dtype=torch.float64),
    "new_full": lambda: LIKE.new_full((3,), 2.5),
}


@pytest.fixture
def memory():
    return Memory(ALL_ONES)


@pytest.fixture
def guarded(memory):
    with GuardAllocations(memory):
        yield memory


def same_kind(one, other):
    return (one.shape, one.stride(), one.dtype, one.requires_grad) == (
        other.shape, other.stride(), other.dtype, other.requires_grad,
    )  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_what_is_made_empty_is_guarded_and_otherwise_as_torch_makes_it(memory, name):
    with GuardAllocations(memory):
        tensor = EMPTY[name]()
    assert same_kind(tensor, EMPTY[name]())
    (region,) = memory.regions
    assert memory.region_of(tensor, "?") is region
    assert (region.shape, region.strides, region.role) == (tuple(tensor.shape), tensor.stride(), Role.SCRATCH)
    assert region.uninitialised().all()
    assert region.first >= 256


@pytest.mark.parametrize("name", FILLED)
def test_what_is_made_filled_is_guarded_and_initialised(memory, name):
    with GuardAllocations(memory):
        tensor = FILLED[name]()
    expected = FILLED[name]()
    assert same_kind(tensor, expected)
    assert torch.equal(tensor, expected)
    (region,) = memory.regions
    assert memory.region_of(tensor, "?") is region
    assert not region.uninitialised().any()
    assert not len(region.disturbed(ALL_ONES))


VALUED = {
    "randn": lambda: torch.randn(2, 3),
    "rand_like": lambda: torch.rand_like(torch.ones(3)),
    "randint": lambda: torch.randint(0, 4, (5,)),
    "arange": lambda: torch.arange(7),
    "linspace": lambda: torch.linspace(0, 1, 5),
    "eye": lambda: torch.eye(3),
    "randperm": lambda: torch.randperm(6),
    "normal": lambda: torch.normal(0.0, 1.0, (4,)),
    "clone": lambda: LIKE.clone(),
    "clone, transposed": lambda: LIKE.permute(2, 0, 1).clone(),
    "another type": lambda: LIKE.float(),
}


@pytest.mark.parametrize("name", VALUED)
def test_what_is_made_of_values_is_guarded_and_as_torch_makes_it(memory, name):
    torch.manual_seed(1)
    with GuardAllocations(memory):
        tensor = VALUED[name]()
    torch.manual_seed(1)
    expected = VALUED[name]()
    assert same_kind(tensor, expected) and torch.equal(tensor, expected)
    region = memory.region_of(tensor, "?")
    assert region.role is Role.SCRATCH and region.name.startswith(f"made at {Path(__file__).name}:")
    assert not region.uninitialised().any() and not len(region.disturbed(ALL_ONES))


def test_what_shares_memory_with_numpy_goes_on_sharing_it(guarded):
    array = np.zeros(3)
    torch.from_numpy(array).fill_(2)
    torch.as_tensor(array)[0] = 5
    assert array.tolist() == [5, 2, 2]


def test_the_name_is_the_line_that_calls(guarded):
    line = inspect.currentframe().f_lineno + 1
    torch.empty_like(torch.zeros(3))
    assert {region.name for region in guarded} == {f"made at {Path(__file__).name}:{line}{s}" for s in ("", "#2")}


def test_the_default_dtype_and_device(guarded):
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.empty(3).dtype == torch.full((3,), 2.0).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert torch.empty(3).device.type == "meta"
    assert len(guarded.regions) == 2


def test_other_devices_and_layouts_are_torchs_own_affair(guarded):
    assert torch.empty(3, device="meta").device.type == "meta"
    assert torch.zeros_like(LIKE, device="meta").device.type == "meta"
    assert torch.zeros(3, 3, layout=torch.sparse_coo).layout is torch.sparse_coo
    assert not guarded.regions
    assert torch.empty_like(torch.empty(3, device="meta"), device="cpu").device.type == "cpu"
    assert len(guarded.regions) == 1


def uninitialised(memory, tensor):
    return memory.region_of(tensor, "?").uninitialised().tolist()


WRITES = {
    "fill_": lambda t: t.fill_(3),
    "zero_": lambda t: t.zero_(),
    "copy_": lambda t: t.copy_(torch.arange(4)),
    "setitem": lambda t: t.__setitem__(slice(None), 5),
    "add_": lambda t: t.add_(1),
    "normal_": lambda t: t.normal_(),
    "out=": lambda t: torch.add(torch.ones(4), 1, out=t),
    "out= of a view": lambda t: torch.mul(torch.ones(2, 2), 2, out=t.view(2, 2)),
    "index_put_": lambda t: t.__setitem__(torch.arange(4), torch.ones(4)),
    "_foreach": lambda t: torch._foreach_zero_([t]),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_torch_writes_is_initialised(guarded, name):
    tensor = torch.empty(4)
    WRITES[name](tensor)
    assert uninitialised(guarded, tensor) == [False] * 4


def test_what_torch_writes_in_part_is_initialised_in_part(guarded):
    tensor = torch.empty(4)
    tensor[1:3] = 5
    assert uninitialised(guarded, tensor) == [True, False, False, True]
    other = torch.empty(2, 2)
    other.t()[0].zero_()
    assert uninitialised(guarded, other) == [[False, True], [False, True]]


NOT_WRITES = {
    "unsqueeze_": lambda t: t.unsqueeze_(0),
    "t_": lambda t: t.t_(),
    "out= of empty": lambda t: torch.empty(4, out=t),
    "requires_grad_": lambda t: t.requires_grad_(),
    "detach_": lambda t: t.detach_(),
}


@pytest.mark.parametrize("name", NOT_WRITES)
def test_what_changes_no_element_initialises_none(guarded, name):
    tensor = torch.empty(4)
    region = guarded.region_of(tensor, "?")
    NOT_WRITES[name](tensor)
    assert region.uninitialised().all()


def test_results_that_are_not_guarded_still_work(guarded):
    x = torch.ones(3, 4)
    assert (x @ x.t()).sum().item() == 36
    assert torch.cat([x, x]).clone().contiguous().to(torch.float16).shape == (6, 4)
    assert torch.arange(3).tolist() == [0, 1, 2]
    assert torch.from_numpy(np.ones(3)).numpy().tolist() == [1, 1, 1]
    assert torch.randn(4, generator=torch.Generator().manual_seed(1)).shape == (4,)
    assert torch.nn.functional.linear(x, torch.rand(5, 4)).softmax(-1).shape == (3, 5)
    y = torch.ones(3, requires_grad=True)
    (y * 2).sum().backward()
    assert y.grad.tolist() == [2, 2, 2]


def test_guarding_ends_with_the_block(memory):
    with GuardAllocations(memory):
        torch.empty(3)
    torch.empty(3)
    assert len(memory.regions) == 1


def test_a_guarded_tensor_computes_as_any_other(guarded):
    x = torch.empty(3, 4)
    x.copy_(torch.arange(12.0).reshape(3, 4))
    assert x[1:, 2].tolist() == [6, 10]
    assert (x.t() @ x).trace().item() == sum(n * n for n in range(12))
    assert x.view(-1)[3:5].clone().tolist() == [3, 4]
    assert not len(guarded.regions[0].disturbed(ALL_ONES))
