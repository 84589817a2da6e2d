"""Intercepts kernel launches and executes them: the same call that would start a GPU kernel runs here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
import torch
from triton.runtime import Autotuner
from triton.runtime.jit import JITFunction

from ..errors import UnsupportedError, UsageError
from ..memory import Memory
from ..ttir import Arch, Compiled, Type, compile_launch
from .addresses import base_address
from .elements import Array, element_of
from .lower import Program, lower
from .machine import Machine
from .trace import Trace

#: Elements of the largest value of a batch of programs. Larger grids are cut into batches, so that memory is bounded.
BATCH_ELEMENTS = 1 << 20

_lowered: WeakKeyDictionary[Compiled, Program] = WeakKeyDictionary()


class Simulator:
    """Executes launches against one memory; what they do wrong gathers in `trace`."""

    def __init__(self, memory: Memory, arch: Arch) -> None:
        self.memory, self.arch, self.trace = memory, arch, Trace()
        self.launches = 0

    @contextmanager
    def intercepting(self) -> Iterator[None]:
        """While active, `kernel[grid](...)` of any `triton.jit` function runs here, in this thread."""
        with _hooks.installed():
            token = _current.set(self)
            try:
                yield
            finally:
                _current.reset(token)

    def launch(self, kernel: Any, grid: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run one launch to its end."""
        if kernel.is_gluon():
            raise UnsupportedError(f"the Gluon kernel {kernel.fn.__name__}")
        for hook in kernel.pre_run_hooks:
            hook(*args, **kwargs)
        compiled, bound = compile_launch(kernel, self.arch, args, kwargs)
        program = _lowered.get(compiled)
        if program is None:
            program = _lowered[compiled] = lower(compiled)
        self._execute(program, compiled, bound, _grid(grid(bound) if callable(grid) else grid))

    def _execute(self, program: Program, compiled: Compiled, bound: dict[str, Any], grid: tuple[int, int, int]) -> None:
        self.launches += 1
        machine = Machine(self.memory, self.trace, grid, program.slot_count)
        for slot, value in program.constants:
            machine.slots[slot] = value
        for (slot, type_), name in zip(program.arguments, compiled.parameters, strict=True):
            machine.slots[slot] = self._argument(name, type_, bound[name])
        count = grid[0] * grid[1] * grid[2]
        batch = max(1, BATCH_ELEMENTS // program.largest_value)
        filled = list(machine.slots)
        with np.errstate(all="ignore"):
            for start in range(0, count, batch):
                machine.slots[:] = filled
                machine.programs = np.arange(start, min(start + batch, count))
                program.run(machine)

    def _argument(self, name: str, type_: Type, value: Any) -> Array:
        if type_.element == "ptr":
            if not isinstance(value, torch.Tensor):
                raise UnsupportedError(f"the argument {name} of type {type(value).__name__} as a pointer")
            region = self.memory.region_of(value, name)
            number = self.memory.regions.index(region) + 1
            # Not data_ptr(), which is 0 for a tensor of no elements.
            start = value.untyped_storage().data_ptr() + value.storage_offset() * value.element_size()
            offset = start - region.address if len(region.storage) else 0
            return np.array([base_address(number) + offset], np.int64)
        return np.array([value]).astype(element_of(type_).held)


def _grid(grid: Any) -> tuple[int, int, int]:
    """Three sizes; UsageError when one is no integer of 0 or more."""
    sizes = tuple(grid) if isinstance(grid, (tuple, list)) else ()
    if not 1 <= len(sizes) <= 3 or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in sizes):
        raise UsageError(f"grid={grid!r}: allowed is a tuple of 1 to 3 integers of 0 or more")
    x, y, z = (*map(int, sizes), 1, 1)[:3]
    return x, y, z


#: The simulator that intercepts in this thread; launches of other threads go where they would without it.
_current: ContextVar[Simulator | None] = ContextVar("simulator", default=None)


class _Hooks:
    """What is replaced in Triton while any thread intercepts, and put back when none does any more."""

    def __init__(self) -> None:
        self._lock, self._users, self._patches = threading.Lock(), 0, ExitStack()

    @contextmanager
    def installed(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._patches.enter_context(patch.object(JITFunction, "run", _run(JITFunction.run)))
                self._patches.enter_context(patch.object(Autotuner, "_bench", _bench(Autotuner._bench)))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._patches.close()


_hooks = _Hooks()


def _run(original: Callable[..., Any]) -> Callable[..., Any]:
    def run(kernel: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> Any:
        simulator = _current.get()
        if simulator is None:
            return original(kernel, *args, grid=grid, warmup=warmup, **kwargs)
        if not warmup:
            simulator.launch(kernel, grid, args, kwargs)
        return None

    return run


def _bench(original: Callable[..., Any]) -> Callable[..., Any]:
    def bench(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        if _current.get() is None:
            return original(tuner, *args, **kwargs)
        raise UnsupportedError(
            f"{tuner.base_fn.__name__} is autotuned over several configurations, which takes a GPU",
            detail=f"launch one of them: {tuner.base_fn.__name__}.fn[grid](..., **config.all_kwargs())",
        )

    return bench
