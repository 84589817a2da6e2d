"""Guards what the target allocates itself: `torch.empty` and its kin become regions named by the line that calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .memory import Memory
from .placement import on_device, put
from .region import Region, Role

_aten = torch.ops.aten

#: Every way in which torch makes memory without writing it, as it arrives below the Python API; `Tensor.new_empty` and
#: the rest all end in one of these.
_EMPTY = frozenset(
    {
        _aten.empty.memory_format,
        _aten.empty_strided.default,
        _aten.empty_permuted.default,
        _aten.empty_like.default,
        _aten.new_empty.default,
        _aten.new_empty_strided.default,
    }
)

#: Those that write what they make; the fill value from the operator's arguments.
_FILLED: dict[Any, Callable[[Sequence[Any]], Any]] = {
    _aten.zeros.default: lambda args: 0,
    _aten.ones.default: lambda args: 1,
    _aten.full.default: lambda args: args[1],
    _aten.new_zeros.default: lambda args: 0,
    _aten.new_ones.default: lambda args: 1,
    _aten.new_full.default: lambda args: args[2],
    _aten.zeros_like.default: lambda args: 0,
    _aten.ones_like.default: lambda args: 1,
    _aten.full_like.default: lambda args: args[1],
}

#: Those that make other values: torch runs, and what it gives is moved to guarded memory.
_VALUED = frozenset(
    "aten::" + name
    for name in (
        "arange", "linspace", "logspace", "eye", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like",
        "randperm", "normal", "clone", "_to_copy",
    )
)  # fmt: skip

#: Operators of other names are custom: Python code that torch calls, with launches in it.
_OF_TORCH = ("aten", "prim", "prims", "profiler", "quantized", "mkldnn", "c10d")


class GuardAllocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, memory that torch makes is guarded, and what torch writes counts as initialised.

    `within` is entered around custom operators: what else is to be active in their Python code.
    """

    def __init__(self, memory: Memory, within: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memory, self._within = memory, within

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._memory.device_type != "cpu":
            return self._run(func, args, kwargs or {})
        if func.namespace not in _OF_TORCH:
            with self, self._within():
                # Not func(...) for a key: that would ask what is in force within, which would ask here again.
                return func.redispatch(_kernels(func), *args, **(kwargs or {}))
        # Where an emulation of a GPU is active, it would answer what is asked of tensors here.
        with torch._C.DisableTorchFunction():
            self.about_to_run(func, args, kwargs or {})
            given = [tensor for tensor in _tensors((*args, *(kwargs or {}).values())) if on_device(tensor)]
            result = self._run(func, args, kwargs or {})
            if func._schema.name in _VALUED and isinstance(result, torch.Tensor) and _movable(result):
                # An array that is a region's own (`region.tensor`) is lifted too, and stays where it is.
                there = self._memory.find(result.data_ptr()) is not None or not self._memory.has_room()
                result = result if there else self._moved(result)
            if given and _gives_new(func):
                for tensor in _tensors((result,)):
                    put(tensor, tensor.device.type == "cpu")
        return result

    def about_to_run(self, func: Any, args: Any, kwargs: Any) -> None:
        """Is told of every operator of torch on the CPU before it runs; nothing is done here."""

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        made = func in _EMPTY or func in _FILLED
        if made and _guardable(args, kwargs, self._memory.device_type) and self._memory.has_room():
            region = self._make(func, args, kwargs)
            tensor = put(self._memory.lend(region), False)
            if func in _FILLED:
                tensor.fill_(_FILLED[func](args))
                region.seal()
            return tensor
        result = func(*args, **kwargs)
        for place, name in _written(func):
            self._wrote(args[place] if place < len(args) else kwargs.get(name))
        return result

    def _make(self, func: Any, args: Any, kwargs: Any) -> Region:
        """A region of the shape, strides and dtype that torch itself would choose."""
        like = func(*args, **{**kwargs, "device": "meta", "pin_memory": None})
        name = f"made at {_caller()}"
        return self._memory.empty_strided(name, Role.SCRATCH, tuple(like.shape), tuple(like.stride()), like.dtype)

    def _moved(self, values: torch.Tensor) -> torch.Tensor:
        """The same values in guarded memory."""
        shape, strides = tuple(values.shape), tuple(values.stride())
        region = self._memory.empty_strided(f"made at {_caller()}", Role.SCRATCH, shape, strides, values.dtype)
        tensor = put(self._memory.lend(region), False)
        tensor.copy_(values)
        region.seal()
        return tensor

    def _wrote(self, value: Any) -> None:
        for tensor in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self._memory.note_host_write(tensor)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _movable(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a plain one in memory of its own; a number that torch wraps for itself is not worth it."""
    return (
        tensor.dim() > 0
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and type(tensor) is torch.Tensor
    )


@cache
def _gives_new(func: Any) -> bool:
    """Whether an operator's results are tensors of their own, and no views."""
    return all(result.alias_info is None for result in func._schema.returns)


@cache
def _kernels(func: Any) -> Any:
    """Where to find the kernel of a custom operator: the GPU's, whose memory is the CPU's here, else the CPU's."""
    keys = torch._C.DispatchKey
    for key in (keys.CUDA, keys.CPU):
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key.name):
            return torch._C.DispatchKeySet(key)
    key = keys.CPU if func.has_kernel_for_dispatch_key(keys.CPU) else keys.CompositeExplicitAutograd
    return torch._C.DispatchKeySet(key)


@cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """The arguments whose elements an operator writes: position and name."""
    # `unsqueeze_` and its kin change what a tensor is a view of, `empty.out` its size: no element.
    if torch.Tag.inplace_view in func.tags or func._schema.name.startswith("aten::empty"):
        return ()
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def _guardable(args: Any, kwargs: Any, device_type: str) -> bool:
    """Whether it makes a plain tensor where the memory is; sparse ones and other devices' are torch's own affair."""
    like = args[0] if args and isinstance(args[0], torch.Tensor) else None
    layout = kwargs.get("layout") or (torch.strided if like is None else like.layout)
    device = kwargs.get("device")
    if device is None:
        device = torch.get_default_device() if like is None else like.device
    return layout is torch.strided and torch.device(device).type == device_type


def _caller() -> str:
    """`launch.py:88`, the innermost frame that is neither torch's nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not _is_inner(file):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


_HERE = Path(__file__).parent
_INNER = (Path(torch.__file__).parent, _HERE, _HERE.with_name("sim"), _HERE.with_name("session"))


@cache
def _is_inner(file: str) -> bool:
    return any(Path(file).is_relative_to(root) for root in _INNER)
