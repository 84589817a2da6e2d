"""Intercepts kernel launches and executes them: the same call that would start a GPU kernel runs here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
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

_lower = lru_cache(maxsize=None)(lower)


class Simulator:
    """Executes launches against one memory; what they do wrong gathers in `trace`."""

    def __init__(self, memory: Memory, arch: Arch) -> None:
        self.memory, self.arch, self.trace = memory, arch, Trace()
        self.launches = 0

    @contextmanager
    def intercepting(self) -> Iterator[None]:
        """While active, `kernel[grid](...)` of any `triton.jit` function runs here."""
        simulator = self

        def run(kernel: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
            if not warmup:
                simulator.launch(kernel, grid, args, kwargs)

        with patch.object(JITFunction, "run", run):
            yield

    def launch(self, kernel: Any, grid: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run one launch to its end."""
        for hook in kernel.pre_run_hooks:
            hook(*args, **kwargs)
        compiled, bound = compile_launch(kernel, self.arch, args, kwargs)
        self._execute(_lower(compiled), compiled, bound, _grid(grid(bound) if callable(grid) else grid))

    def _execute(
        self, program: Program, compiled: Compiled, bound: dict[str, Any], grid: tuple[int, int, int]
    ) -> None:
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
            return np.array([base_address(number) + value.data_ptr() - region.address], np.int64)
        return np.array([value]).astype(element_of(type_).held)


def _grid(grid: Any) -> tuple[int, int, int]:
    """Three sizes; UsageError when one is no positive integer."""
    sizes = tuple(grid) if isinstance(grid, (tuple, list)) else (grid,)
    if not 1 <= len(sizes) <= 3 or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in sizes):
        raise UsageError(f"grid={grid!r}: allowed are 1 to 3 integers of 0 or more")
    x, y, z = (*map(int, sizes), 1, 1)[:3]
    return x, y, z
