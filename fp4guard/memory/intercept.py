"""Guards what the target allocates itself: `torch.empty` and its kin become regions named by the line that calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .layouts import CONTIGUOUS
from .memory import Memory
from .region import Region, Role

_aten = torch.ops.aten

#: Every way in which torch makes memory without writing it, as it arrives below the Python API; `torch.empty_like`,
#: `Tensor.new_empty` and the rest all end in one of these. The value: shape and strides from the operator's arguments.
_EMPTY: dict[Any, Callable[..., tuple[tuple[int, ...], tuple[int, ...] | None]]] = {
    _aten.empty.memory_format: lambda size, **_: (tuple(size), None),
    _aten.empty_strided.default: lambda size, stride, **_: (tuple(size), tuple(stride)),
    _aten.new_empty.default: lambda like, size, **_: (tuple(size), None),
    _aten.new_empty_strided.default: lambda like, size, stride, **_: (tuple(size), tuple(stride)),
    _aten.empty_like.default: lambda like, **_: (tuple(like.shape), _preserved(like)),
}

#: Those that write what they make; the fill value from the operator's arguments.
_FILLED: dict[Any, Callable[..., tuple[tuple[int, ...], Any]]] = {
    _aten.zeros.default: lambda size, **_: (tuple(size), 0),
    _aten.ones.default: lambda size, **_: (tuple(size), 1),
    _aten.full.default: lambda size, value, **_: (tuple(size), value),
    _aten.new_zeros.default: lambda like, size, **_: (tuple(size), 0),
    _aten.new_ones.default: lambda like, size, **_: (tuple(size), 1),
    _aten.new_full.default: lambda like, size, value, **_: (tuple(size), value),
    _aten.zeros_like.default: lambda like, **_: (tuple(like.shape), 0),
    _aten.ones_like.default: lambda like, **_: (tuple(like.shape), 1),
    _aten.full_like.default: lambda like, value, **_: (tuple(like.shape), value),
}


def _preserved(like: torch.Tensor) -> tuple[int, ...] | None:
    """torch.preserve_format keeps the strides of a dense tensor and makes any other contiguous."""
    dense = torch.empty_like(like, device="meta").stride()
    return None if dense == CONTIGUOUS.strides(tuple(like.shape)) else tuple(dense)


class GuardAllocations(TorchDispatchMode):  # type: ignore[misc]
    """While active, memory that torch makes is guarded, and what torch writes counts as initialised."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _EMPTY and _on_cpu(args, kwargs):
            shape, strides = _EMPTY[func](*args, **kwargs)
            return self._make(shape, strides, _dtype(args, kwargs, None)).tensor
        if func in _FILLED and _on_cpu(args, kwargs):
            shape, value = _FILLED[func](*args, **kwargs)
            region = self._make(shape, None, _dtype(args, kwargs, value if func is _aten.full.default else None))
            region.tensor.fill_(value)
            region.seal()
            return region.tensor
        result = func(*args, **kwargs)
        for place, name in _written(func):
            self._wrote(args[place] if place < len(args) else kwargs.get(name))
        return result

    def _make(self, shape: Any, strides: Any, dtype: torch.dtype) -> Region:
        name = f"made at {_caller()}"
        if strides is None:
            return self._memory.empty(name, Role.SCRATCH, shape, dtype)
        return self._memory.empty_strided(name, Role.SCRATCH, shape, strides, dtype)

    def _wrote(self, value: Any) -> None:
        for tensor in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self._memory.note_host_write(tensor)


@lru_cache(maxsize=None)
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """The arguments that an operator writes to: position and name."""
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def _dtype(args: Any, kwargs: Any, value: Any) -> torch.dtype:
    if kwargs.get("dtype") is not None:
        return kwargs["dtype"]  # type: ignore[no-any-return]
    if args and isinstance(args[0], torch.Tensor):
        return args[0].dtype
    if isinstance(value, bool):
        return torch.bool
    return torch.int64 if isinstance(value, int) else torch.get_default_dtype()


def _on_cpu(args: Any, kwargs: Any) -> bool:
    device = kwargs.get("device")
    if device is None and args and isinstance(args[0], torch.Tensor):
        device = args[0].device
    return torch.device(device if device is not None else torch.get_default_device()).type == "cpu"


def _caller() -> str:
    """`launch.py:88`, the innermost frame that is neither torch's nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if not any(path.is_relative_to(root) for root in _INNER):
            return f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


_INNER = (Path(torch.__file__).parent, Path(__file__).parent)
