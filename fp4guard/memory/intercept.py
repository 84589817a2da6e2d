"""Guards what the target allocates itself: `torch.empty` and its kin become regions named by the line that calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .memory import Memory
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


class GuardAllocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, memory that torch makes is guarded, and what torch writes counts as initialised."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memory = memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (func in _EMPTY or func in _FILLED) and _guardable(args, kwargs):
            region = self._make(func, args, kwargs)
            if func in _FILLED:
                region.tensor.fill_(_FILLED[func](args))
                region.seal()
            return region.tensor
        result = func(*args, **kwargs)
        for place, name in _written(func):
            self._wrote(args[place] if place < len(args) else kwargs.get(name))
        return result

    def _make(self, func: Any, args: Any, kwargs: Any) -> Region:
        """A region of the shape, strides and dtype that torch itself would choose."""
        like = func(*args, **{**kwargs, "device": "meta", "pin_memory": None})
        name = f"made at {_caller()}"
        return self._memory.empty_strided(name, Role.SCRATCH, tuple(like.shape), tuple(like.stride()), like.dtype)

    def _wrote(self, value: Any) -> None:
        for tensor in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self._memory.note_host_write(tensor)


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


def _guardable(args: Any, kwargs: Any) -> bool:
    """Whether it makes a plain tensor on the CPU; sparse ones and other devices' are torch's own affair."""
    like = args[0] if args and isinstance(args[0], torch.Tensor) else None
    layout = kwargs.get("layout") or (torch.strided if like is None else like.layout)
    device = kwargs.get("device")
    if device is None:
        device = torch.get_default_device() if like is None else like.device
    return layout is torch.strided and torch.device(device).type == "cpu"


def _caller() -> str:
    """`launch.py:88`, the innermost frame that is neither torch's nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not _is_inner(file):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


_INNER = (Path(torch.__file__).parent, Path(__file__).parent)


@cache
def _is_inner(file: str) -> bool:
    return any(Path(file).is_relative_to(root) for root in _INNER)
