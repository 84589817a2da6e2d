"""Tensors that torch has made itself, and that a kernel is given: guarded while it runs.

What `cat`, `pad` or arithmetic give lies in torch's own memory, where nobody sees an access beyond it. A launch gets a
copy of such a tensor's storage, in guarded memory, and what it leaves there is copied back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime.jit import JITFunction, TensorWrapper

from ..memory import Role
from ..sim.arguments import is_descriptor
from ..sim.hooks import Hooks
from . import guards
from .memory import DeviceMemory


class GuardedArguments:
    """The copies of one run. A parameter of a kernel has one, for all launches: their number has no bound."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory
        self._copies: dict[tuple[str, str, int, torch.dtype], torch.Tensor] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """While active, the launches of this thread get guarded copies.

        Not those on a stream of the target's own: others may be at work on the same tensors, or a graph is recorded.
        """
        with _LAUNCHES.installed():
            token = _current.set(self)
            try:
                yield
            finally:
                _current.reset(token)

    def launch(self, run: Callable[..., Any], kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A launch with copies of what is not guarded."""
        if self._memory.device_type != "cpu" and torch.cuda.current_stream() != torch.cuda.default_stream():
            return run(kernel, *args, **kwargs)
        lent = _Lent(kernel.fn.__name__, self._copy, self._memory)
        with _disable_current_modes():
            given = [lent.guarded(name, value) for name, value in zip(kernel.arg_names, args)]
            named = {name: lent.guarded(name, value) for name, value in kwargs.items()}
        result = run(kernel, *given, *args[len(given) :], **named)
        with _disable_current_modes():
            for whole, copy in lent.copies.values():
                whole.copy_(copy)
        return result

    def _copy(self, kernel: str, parameter: str, size: int, dtype: torch.dtype) -> torch.Tensor:
        """Guarded memory uint8 [size] for a parameter."""
        key = kernel, parameter, size, dtype
        if key not in self._copies:
            whole = dtype if size % dtype.itemsize == 0 else torch.uint8  # a storage may be cut into any elements
            tensor = self._memory.empty(parameter, Role.SCRATCH, (size // whole.itemsize,), whole).tensor
            self._copies[key] = tensor.view(torch.uint8)
        return self._copies[key]


@dataclass
class _Lent:
    """What one launch is given: by the address of a storage, the storage (uint8) and its copy."""

    kernel: str
    make: Callable[[str, str, int, torch.dtype], torch.Tensor]
    memory: DeviceMemory
    copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def guarded(self, name: str, value: Any) -> Any:
        """An argument, or its counterpart in guarded memory."""
        if type(value) is tuple:
            return tuple(self.guarded(f"{name}[{i}]", part) for i, part in enumerate(value))
        if isinstance(value, TensorWrapper):
            return TensorWrapper(self.guarded(name, value.base), value.dtype)
        if is_descriptor(value):
            return replace(value, base=self.guarded(name, value.base))
        return self._counterpart(name, value) if isinstance(value, torch.Tensor) and self._is_torch_s(value) else value

    def _is_torch_s(self, tensor: torch.Tensor) -> bool:
        storage = tensor.untyped_storage()
        if tensor.device.type != self.memory.device_type or not storage.nbytes():
            return False
        # Not the storage's address alone: an arena's begins with another region.
        region = self.memory.find(storage.data_ptr() + int(tensor.storage_offset()) * tensor.element_size())
        return region is None or region.role is Role.FOREIGN

    def _counterpart(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        storage, size = tensor.untyped_storage(), tensor.element_size()
        address = storage.data_ptr()
        if address not in self.copies:
            whole = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
            copy = self.make(self.kernel, name, storage.nbytes(), tensor.dtype)
            copy.copy_(whole)
            self.copies[address] = whole, copy
        _, copy = self.copies[address]
        elements = copy[: len(copy) // size * size].view(tensor.dtype)
        first = elements.storage_offset() + int(tensor.storage_offset())
        return elements.as_strided(tensor.shape, tensor.stride(), first)


_current: ContextVar[GuardedArguments | None] = ContextVar("current", default=None)


def _run(original: Callable[..., Any]) -> Callable[..., Any]:
    def run(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        current = _current.get()
        if current is None or kernel.fn.__module__ == guards.__name__:
            return original(kernel, *args, **kwargs)
        return current.launch(original, kernel, args, kwargs)

    return run


_LAUNCHES = Hooks((JITFunction, "run", _run))
