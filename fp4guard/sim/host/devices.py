"""Devices of tensors: `device="cuda"` makes a tensor in the CPU's memory that says it is on the GPU.

What computes is torch on the CPU. Only where tensors are asked for their device, moved to another, or made on one, is
there something to do; results of computations follow their operands (see `fp4guard.memory.placement`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.utils._device as default_device
from torch.overrides import TorchFunctionMode

from ...memory.placement import on_device, put

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


def is_gpu(device: Any) -> bool:
    """Whether what was given as a device is the emulated GPU; RuntimeError for another GPU than the first."""
    if device is None or isinstance(device, torch.Tensor):
        return False
    if isinstance(device, int):
        device = torch.device("cuda", device)
    elif isinstance(device, str):
        if not device.startswith("cuda"):
            return False
        device = torch.device(device)
    if device.type != "cuda":
        return False
    if device.index not in (None, 0):
        raise RuntimeError(f"device={str(device)!r}: fp4guard emulates one GPU; allowed are 'cuda' and 'cuda:0'")
    return True


class Devices(TorchFunctionMode):
    """While active, torch has a GPU. `reading` is told of tensors whose elements are read without an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.reading: Callable[[torch.Tensor], None] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        special = _SPECIAL.get(func)
        if special is not None:
            return special(*args, **kwargs)
        if self.reading is not None and (func in _READING or (func in _SHOWING and _is_shown(args[0]))):
            self.reading(args[0])
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        device = kwargs.get("device")
        if device is None:
            if default_device.CURRENT_DEVICE is None or func not in default_device._device_constructors():
                return func(*args, **kwargs)
            device = default_device.CURRENT_DEVICE
        wanted = is_gpu(device)
        result = func(*args, **{**kwargs, "device": CPU if wanted else device})
        return _placed(result, wanted, (*args, *kwargs.values()), func)


def _is_shown(tensor: torch.Tensor) -> bool:
    """Whether the user is shown all of a tensor: not its corners alone, nor what pytest says of a failure."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    by_pytest = frame is not None and frame.f_globals.get("__name__", "").startswith("_pytest.")
    return not by_pytest and tensor.numel() <= torch._tensor_str.PRINT_OPTS.threshold


#: Packages through which a tensor is asked what it looks like.
_BETWEEN = ("fp4guard", "torch", "reprlib", "pprint")


def _placed(result: Any, wanted: bool, given: Any, func: Any) -> Any:
    if not isinstance(result, torch.Tensor) or result.device.type != "cpu":
        return result
    if func in _ALIASING and any(_shares(result, value) and on_device(result) != wanted for value in given):
        result = result.clone()  # a GPU's memory is not the CPU's: what changes there does not change here
    return put(result, wanted)


#: Functions that make a tensor on a device, unless what they are given is there already.
_ALIASING = (torch.as_tensor, torch.asarray)


def _shares(result: torch.Tensor, value: Any) -> bool:
    """Whether a result lies in the memory of what it was made from."""
    if isinstance(value, torch.Tensor):
        return value.untyped_storage().data_ptr() == result.untyped_storage().data_ptr()
    return isinstance(value, np.ndarray) or hasattr(value, "__array_interface__")


def _device(tensor: torch.Tensor) -> torch.device:
    return GPU if on_device(tensor) else tensor.device


def _get_device(tensor: torch.Tensor) -> int:
    return 0 if on_device(tensor) else tensor.get_device()


def _to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """`Tensor.to`, in all its forms."""
    copy = kwargs.pop("copy", False)
    if args and isinstance(args[0], torch.Tensor):
        kwargs["device"], kwargs["dtype"] = _device(args[0]), args[0].dtype
        args = args[1:]
    elif "other" in kwargs:
        other = kwargs.pop("other")
        kwargs["device"], kwargs["dtype"] = _device(other), other.dtype
    if args and isinstance(args[-1], bool) and len(args) > 2:  # to(device, dtype, non_blocking, copy)
        copy = args[3] if len(args) > 3 else copy
        args = args[:3]
    elif len(args) > 2 and isinstance(args[2], bool):
        copy, args = args[2], args[:2]
    if args and isinstance(args[0], int):
        args = (torch.device("cuda", args[0]), *args[1:])
    if args and isinstance(args[0], torch.dtype):  # to(dtype, non_blocking, copy)
        copy = args[2] if len(args) > 2 else copy
        kwargs["dtype"], args = args[0], ()
    device, dtype, _, layout = torch._C._nn._parse_to(*args, **{k: v for k, v in kwargs.items() if v is not None})
    return _moved(tensor, device, dtype, layout, copy)


def _moved(
    tensor: torch.Tensor, device: Any = None, dtype: Any = None, layout: Any = None, copy: bool = False
) -> torch.Tensor:
    """A tensor on a device (None: where it is); itself where nothing changes."""
    here = on_device(tensor)
    wanted = here if device is None else is_gpu(device)
    if not wanted and device is not None and torch.device(device).type != "cpu":
        return tensor.to(device=device, dtype=dtype, copy=copy)
    dtype = tensor.dtype if dtype is None else dtype
    layout = torch.preserve_format if layout is None else layout
    # No device is named: where one emulation is in force within another, it would be the CPU to the outer one.
    moved = tensor.to(dtype=dtype, copy=copy or wanted != here, memory_format=layout)
    return moved if moved is tensor else put(moved, wanted)


def _cuda(
    tensor: torch.Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None
) -> torch.Tensor:
    return _moved(tensor, GPU if device is None else device, layout=memory_format)


def _cpu(tensor: torch.Tensor, memory_format: Any = None) -> torch.Tensor:
    return _moved(tensor, CPU, layout=memory_format)


def _new_tensor(tensor: torch.Tensor, data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
    wanted = on_device(tensor) if device is None else is_gpu(device)
    if device is not None and not wanted:
        kwargs["device"] = device
    return put(tensor.new_tensor(data, **kwargs), wanted)


def _new(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return put(tensor.new(*args, **kwargs), on_device(tensor))


def _deepcopy(tensor: torch.Tensor, memo: Any) -> torch.Tensor:
    copied = tensor.__deepcopy__(memo)  # type: ignore[no-untyped-call]
    return put(copied, on_device(tensor))


def _type(tensor: torch.Tensor, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
    """`Tensor.type`: names such as torch.cuda.FloatTensor."""
    if dtype is None:
        name = tensor.type()
        return name.replace("torch.", "torch.cuda.") if on_device(tensor) else name
    if isinstance(dtype, str) and dtype.startswith("torch.cuda."):
        return _moved(tensor, GPU, getattr(torch, dtype.removeprefix("torch.cuda.")).dtype)
    return tensor.type(dtype, *args, **kwargs)


def _pinned(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return tensor.clone()


#: Methods that look at elements past torch's dispatch.
_READING = frozenset(
    getattr(torch.Tensor, name) for name in ("tolist", "numpy", "__array__", "__dlpack__", "__reduce_ex__")
)

_SHOWING = (torch.Tensor.__repr__, torch.Tensor.__format__)


def _nothing(*_: Any, **__: Any) -> None: ...


_Tensor = torch.Tensor

#: Functions that are answered here, each called with what it was called with.
_SPECIAL: dict[Any, Callable[..., Any]] = {
    torch.device: torch.device,  # `device` is the device itself
    _Tensor.device.__get__: _device,
    _Tensor.is_cuda.__get__: on_device,  # type: ignore[attr-defined]
    _Tensor.is_cpu.__get__: lambda tensor: not on_device(tensor) and tensor.is_cpu,  # type: ignore[attr-defined]
    _Tensor.get_device: _get_device,
    _Tensor.to: _to,
    _Tensor.cuda: _cuda,
    _Tensor.cpu: _cpu,
    _Tensor.type: _type,
    _Tensor.new: _new,
    _Tensor.new_tensor: _new_tensor,
    _Tensor.__deepcopy__: _deepcopy,
    _Tensor.pin_memory: _pinned,
    _Tensor.is_pinned: lambda tensor, *_, **__: False,
    _Tensor.record_stream: _nothing,
}
