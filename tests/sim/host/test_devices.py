"""Tensors of an emulated GPU: where they say they are, and what copies of them share."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from fp4guard.memory import ALL_ONES, GuardAllocations, Memory
from fp4guard.sim.host import Emulation
from fp4guard.ttir import parse_arch


@pytest.fixture(autouse=True)
def emulation():
    emulation = Emulation(parse_arch("sm_90"))
    with emulation.active(), GuardAllocations(Memory(ALL_ONES), emulation.again):
        yield emulation


DEVICES = ["cuda", "cuda:0", torch.device("cuda"), torch.device("cuda", 0), 0]

MADE = {
    "empty": lambda device: torch.empty(3, device=device),
    "zeros": lambda device: torch.zeros(3, device=device),
    "full": lambda device: torch.full((3,), 2.0, device=device),
    "randn": lambda device: torch.randn(3, device=device),
    "rand with a generator": lambda device: torch.rand(3, device=device, generator=torch.Generator(device=device)),
    "randint": lambda device: torch.randint(0, 5, (3,), device=device),
    "arange": lambda device: torch.arange(3, device=device),
    "tensor": lambda device: torch.tensor([1, 2], device=device),
    "as_tensor": lambda device: torch.as_tensor([1.0, 2.0], device=device),
    "empty_strided": lambda device: torch.empty_strided((2,), (2,), device=device),
    "to": lambda device: torch.ones(3).to(device),
    "to with a type": lambda device: torch.ones(3).to(device, torch.float16),
    "to by name": lambda device: torch.ones(3).to(device=device, non_blocking=True),
    "cuda": lambda device: torch.ones(3).cuda(),
    "zeros_like": lambda device: torch.zeros_like(torch.ones(3), device=device),
    "new_tensor": lambda device: torch.ones(3).new_tensor([1], device=device),
    "new_empty": lambda device: torch.ones(3).new_empty(3, device=device),
    "pinned": lambda device: torch.empty(3, pin_memory=True).to(device, non_blocking=True),
    "a module": lambda device: torch.nn.Linear(2, 2, device=device).weight,
    "a module moved": lambda device: torch.nn.Linear(2, 2).to(device).weight,
}


@pytest.mark.parametrize("device", DEVICES[1:-1:2], ids=str)
@pytest.mark.parametrize("name", MADE)
def test_what_is_made_on_the_gpu_says_so(name, device):
    tensor = MADE[name](device)
    assert tensor.is_cuda and not tensor.is_cpu
    assert tensor.device == torch.device("cuda", 0)
    assert tensor.get_device() == 0


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_every_way_to_name_the_device(device):
    assert torch.empty(2, device=device).is_cuda
    assert torch.ones(2).to(device).is_cuda


FOLLOWS = {
    "a view": lambda x: x[1:],
    "a sum": lambda x: x + 1,
    "with a tensor of no GPU": lambda x: x * torch.tensor(2.0),
    "a reduction": lambda x: x.sum(),
    "empty_like": lambda x: torch.empty_like(x),
    "new_zeros": lambda x: x.new_zeros(2),
    "device of another": lambda x: torch.empty(2, device=x.device),
    "to another": lambda x: torch.ones(2).to(x),
    "another type": lambda x: x.half(),
    "a clone": lambda x: x.clone(),
    "a deep copy": lambda x: copy.deepcopy(x),
    "a parameter": lambda x: torch.nn.Parameter(x),
    "a list of them": lambda x: torch.split(x, 2)[0],
    "cat": lambda x: torch.cat([x, x]),
}


@pytest.mark.parametrize("name", FOLLOWS)
def test_results_are_where_their_operands_are(name):
    assert FOLLOWS[name](torch.ones(4, device="cuda")).is_cuda
    if name != "device of another":
        assert name == "device of another" or not FOLLOWS[name](torch.ones(4)).is_cuda


def test_copies_share_nothing_and_tensors_that_stay_are_themselves():
    x = torch.ones(3, device="cuda")
    host = x.cpu()
    assert host.device.type == "cpu" and not host.is_cuda
    host.zero_()
    assert x.tolist() == [1, 1, 1]
    back = host.to("cuda")
    back.fill_(7)
    assert host.tolist() == [0, 0, 0]
    assert x.to("cuda") is x and x.cuda() is x and x.to(x.device) is x and host.cpu() is host
    assert x.to("cuda", copy=True) is not x
    array = np.zeros(3)
    torch.as_tensor(array, device="cuda").fill_(1)
    assert array.tolist() == [0, 0, 0]
    torch.from_numpy(array).fill_(2)
    assert array.tolist() == [2, 2, 2]


def test_to_in_all_its_forms():
    x = torch.ones(3, device="cuda")
    assert x.to(torch.float16).dtype == torch.float16
    assert x.to(torch.float16, True).is_cuda
    assert x.to(torch.float32, False, True) is not x
    assert (y := x.to("cpu", torch.int32, False, True)).dtype == torch.int32 and not y.is_cuda
    assert x.to("cpu", copy=True).dtype == torch.float32
    image = torch.zeros(1, 2, 3, 4).to("cuda", memory_format=torch.channels_last)
    assert image.is_contiguous(memory_format=torch.channels_last) and image.is_cuda
    assert x.to("meta").device.type == "meta"
    assert x.type() == "torch.cuda.FloatTensor"
    assert torch.ones(2).type("torch.cuda.HalfTensor").is_cuda


def test_default_devices():
    with torch.device("cuda"):
        assert torch.ones(2).is_cuda and torch.empty(2, device="cpu").is_cpu
    assert torch.ones(2).is_cpu
    torch.set_default_device("cuda")
    try:
        assert torch.ones(2).is_cuda and torch.get_default_device() == torch.device("cuda", 0)
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("device", ["cuda:1", 3, torch.device("cuda", 2)], ids=str)
def test_there_is_one_gpu(device):
    with pytest.raises(RuntimeError, match=r"device='cuda:\d'.*allowed are 'cuda' and 'cuda:0'"):
        torch.empty(2, device=device)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.empty(x.shape, device=x.device).copy_(2 * x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        assert x.is_cuda and grad.is_cuda and x.device == grad.device
        return torch.empty(x.shape, device="cuda").copy_(2 * grad)


def test_backward_passes_are_on_the_gpu():
    x = torch.randn(3, device="cuda", requires_grad=True)
    assert x.is_leaf
    Doubled.apply(x).sum().backward()
    assert x.grad.tolist() == [2, 2, 2] and x.grad.is_cuda
    (grad,) = torch.autograd.grad(Doubled.apply(x).sum(), x)
    assert grad.is_cuda
    seen = []
    x.register_hook(lambda grad: seen.append(grad.device.type))
    torch.autograd.backward(Doubled.apply(x).sum())
    assert seen == ["cuda"]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(reentrant):
    x = torch.randn(3, device="cuda", requires_grad=True)
    checkpoint(lambda x: (2 * x).relu() * x, x, use_reentrant=reentrant).sum().backward()
    assert torch.equal(x.grad, 4 * x.detach().relu()) and x.grad.is_cuda


def test_new_tensors_lie_where_the_old_one_does():
    x = torch.ones(3, device="cuda")
    assert x.new_tensor([1, 2]).is_cuda and x.new(2).is_cuda
    assert not x.new_tensor([1, 2], device="cpu").is_cuda
    assert not x.cpu().new_tensor([1, 2]).is_cuda and not x.cpu().new(2).is_cuda
    assert x.new_tensor([1], device="meta").is_meta


def test_sparse_tensors_pass():
    x = torch.eye(3, device="cuda")
    assert torch.equal(x.to_sparse().to_dense(), x)


@torch.library.custom_op("fp4guard_tests::doubled", mutates_args=(), device_types="cuda")
def doubled(x: torch.Tensor) -> torch.Tensor:
    assert x.is_cuda
    return torch.empty(x.shape, device="cuda").copy_(2 * x)


def test_custom_operators_of_the_gpu():
    assert doubled(torch.ones(2, device="cuda")).tolist() == [2, 2]


def test_a_training_step():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert torch.is_autocast_enabled()
        loss = model(torch.randn(2, 4, device="cuda"))
        assert loss.dtype == torch.bfloat16
    assert not torch.is_autocast_enabled()
    scaler = torch.amp.GradScaler("cuda")
    scaler.scale(loss.float().sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert all(p.is_cuda and p.grad.is_cuda for p in model.parameters())


def test_saved_tensors_come_back_to_the_gpu(tmp_path):
    torch.save({"x": torch.ones(2, device="cuda")}, tmp_path / "x.pt")
    assert torch.load(tmp_path / "x.pt", map_location="cuda")["x"].is_cuda
    assert torch.load(tmp_path / "x.pt", map_location="cpu")["x"].is_cpu


def test_one_emulation_within_another():
    x = torch.ones(3, device="cuda")
    inner = Emulation(parse_arch("sm_100"))
    with inner.active():
        assert x.is_cuda and x.to("cuda") is x and torch.empty(2, device="cuda").is_cuda
        assert not x.cpu().is_cuda
        assert torch.cuda.get_device_capability() == (10, 0)
    assert torch.cuda.get_device_capability() == (9, 0)
