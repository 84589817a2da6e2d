"""Tensors that torch has made itself, and that a kernel is given: guarded while it runs.

What `cat`, `pad` or arithmetic give lies in torch's own memory, where nobody sees an access beyond it. A launch gets a
copy of such a tensor's storage, in guarded memory, and what it changes there is changed in the storage too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime.jit import JITFunction, TensorWrapper

from ..memory import Role
from ..sim.arguments import is_descriptor
from ..sim.hooks import Hooks
from . import guards
from .memory import DeviceMemory

#: Bytes that the copies of a run may take. What comes when they are spent stays where it is.
MOST_BYTES = 1 << 28


class GuardedArguments:
    """The copies of one run: one for each parameter of a kernel and size of a storage, used by all launches."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory
        self._copies: dict[tuple[str, str, int, torch.dtype], torch.Tensor] = {}
        self._left = MOST_BYTES

    def active(self) -> AbstractContextManager[None]:
        """While active, the launches of this thread get guarded copies.

        Not those on a stream of the target's own: others may be at work on the same tensors, or a graph is recorded.
        """
        return _LAUNCHES.telling(_current, self)

    def launch(self, run: Callable[..., Any], kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A launch with copies of what is not guarded."""
        if self._memory.device_type != "cpu" and torch.cuda.current_stream() != torch.cuda.default_stream():
            return run(kernel, *args, **kwargs)
        names = [*kernel.arg_names, *(f"argument {i}" for i in range(len(kernel.arg_names), len(args)))]
        with _disable_current_modes():
            lent = self._lent(kernel.fn.__name__, [*zip(names, args), *kwargs.items()])
            args = tuple(_with(value, lent) for value in args)
            kwargs = {name: _with(value, lent) for name, value in kwargs.items()}
        result = run(kernel, *args, **kwargs)
        with _disable_current_modes():
            for loan in lent.values():
                guards.give_back(loan.whole, loan.copy, loan.before)
        return result

    def _lent(self, kernel: str, given: list[tuple[str, Any]]) -> dict[int, _Loan]:
        """What a launch borrows, by the address of the storage."""
        wanted: dict[tuple[int, int], tuple[str, torch.Tensor]] = {}
        for name, value in given:
            for place, tensor in _tensors(name, value):
                storage = tensor.untyped_storage()
                if self._is_bare(tensor):
                    wanted.setdefault((storage.data_ptr(), storage.nbytes()), (place, tensor))
        apart = _apart(wanted)
        lent = {}
        for (address, size), (name, tensor) in wanted.items():
            if (address, size) not in apart:
                continue
            copy = self._copy(kernel, name, size, tensor.dtype)
            if copy is not None:
                whole = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
                lent[address] = _Loan(whole, copy.copy_(whole), whole.clone())
        return lent

    def _is_bare(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor lies in memory of the device that has no guards."""
        if type(tensor) not in _PLAIN or tensor.device != self._memory.device or not tensor.untyped_storage().nbytes():
            return False
        region = self._memory.find(tensor.untyped_storage().data_ptr())
        return region is None or region.role is Role.FOREIGN

    def _copy(self, kernel: str, parameter: str, size: int, dtype: torch.dtype) -> torch.Tensor | None:
        """Guarded memory uint8 [size] for a parameter; None where there is no more."""
        key = kernel, parameter, size, dtype
        if key not in self._copies:
            if size > self._left:
                return None
            self._left -= size
            whole = dtype if size % dtype.itemsize == 0 else torch.uint8  # a storage may be cut into any elements
            tensor = self._memory.empty(parameter, Role.SCRATCH, (size // whole.itemsize,), whole).tensor
            self._copies[key] = tensor.view(torch.uint8)
        return self._copies[key]


#: Others answer for themselves what is asked of them, and may have no storage.
_PLAIN = (torch.Tensor, torch.nn.Parameter)


@dataclass(frozen=True)
class _Loan:
    """A storage, its copy in guarded memory, and what both held before the launch; all uint8 [n]."""

    whole: torch.Tensor
    copy: torch.Tensor
    before: torch.Tensor


def _apart(extents: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Of storages by address and size, those that overlap no other: what is written to that must be seen in them."""
    apart, reach, farthest = set(), 0, (0, 0)
    for extent in sorted(extents):
        if extent[0] < reach:
            apart.discard(farthest)
        else:
            apart.add(extent)
        if sum(extent) > reach:
            reach, farthest = sum(extent), extent
    return apart


def _tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of an argument, each with a name of its own."""
    if isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from _tensors(f"{name}[{i}]", part)
    elif isinstance(value, TensorWrapper) or is_descriptor(value):
        yield from _tensors(name, value.base)
    elif isinstance(value, torch.Tensor):
        yield name, value


def _with(value: Any, lent: dict[int, _Loan]) -> Any:
    """An argument, with copies in the place of what is lent."""
    if isinstance(value, tuple):
        parts = [_with(part, lent) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, TensorWrapper):
        return TensorWrapper(_with(value.base, lent), value.dtype)
    if is_descriptor(value):
        return replace(value, base=_with(value.base, lent))
    if type(value) not in _PLAIN or (loan := lent.get(value.untyped_storage().data_ptr())) is None:
        return value
    size = value.element_size()
    elements = loan.copy[: len(loan.copy) // size * size].view(value.dtype)
    first = elements.storage_offset() + int(value.storage_offset())
    return elements.as_strided(value.shape, value.stride(), first)


_current: ContextVar[GuardedArguments | None] = ContextVar("current", default=None)


def _run(original: Callable[..., Any]) -> Callable[..., Any]:
    def run(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        current = _current.get()
        if current is None or kernel.fn.__module__ == guards.__name__:
            return original(kernel, *args, **kwargs)
        return current.launch(original, kernel, args, kwargs)

    return run


_LAUNCHES = Hooks((JITFunction, "run", _run))
