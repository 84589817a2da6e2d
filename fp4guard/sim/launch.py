"""Intercepts kernel launches and executes them: the same call that would start a GPU kernel runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from operator import index
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from triton.runtime.jit import JITFunction

from ..errors import UnsupportedError
from ..memory import Memory
from ..ttir import Arch, Compiled, Type, compile_launch, promises
from .arguments import expanded, held_argument, tensor_of
from .callers import launching_line
from .compiled import CompiledKernel
from .control import MOST_TRIPS
from .elements import Array
from .hooks import Hooks
from .lower import Program, lower
from .machine import Machine
from .ordering import Ordering
from .promises import Promised, report_broken
from .races import Races
from .temporaries import keep_temporaries
from .trace import HangError, Trace
from .tuning import deciding

#: Where programs wait, and there are other turns for them to take, a loop that waits is given up sooner.
MOST_TRIPS_OF_A_TRY = 1 << 12

#: Elements of the largest value of a batch of programs. Larger grids are cut into batches, so that memory is bounded.
BATCH_ELEMENTS = 1 << 17

_lowered: WeakKeyDictionary[Compiled, Program] = WeakKeyDictionary()


class Simulator:
    """Executes launches against one memory; what they do wrong gathers in `trace`.

    Programs take their turns in the order of their numbers, or the other way round: which of them an atomic serves
    first is for the hardware to choose, and a race may be seen in one order alone (see `_turns`).
    """

    def __init__(self, memory: Memory, arch: Arch, backwards: bool = False) -> None:
        self.memory, self.arch, self.trace = memory, arch, Trace()
        self._step = -1 if backwards else 1
        self.launches = 0
        keep_temporaries()

    @contextmanager
    def intercepting(self) -> Iterator[None]:
        """While active, `kernel[grid](...)` of any `triton.jit` or `gluon.jit` function runs here, in this thread."""
        with _HOOKS.installed(), deciding():
            token = _current.set(self)
            try:
                yield
            finally:
                _current.reset(token)

    @contextmanager
    def backwards(self) -> Iterator[None]:
        """While active, programs take their turns the other way round."""
        self._step = -self._step
        try:
            yield
        finally:
            self._step = -self._step

    def launch(
        self, kernel: Any, grid: Any, args: tuple[Any, ...], kwargs: dict[str, Any], only: Compiled | None = None
    ) -> CompiledKernel:
        """Run one launch to its end. With `grid` None nothing runs: the kernel is compiled, no more.

        UnsupportedError names the line of the launch where no line of the kernel is to blame. `only`: see
        `compile_launch`.
        """
        try:
            for hook in kernel.pre_run_hooks:
                hook(*args, **kwargs)
            compiled, bound = compile_launch(kernel, self.arch, args, kwargs, only)
            program = _lowered.get(compiled)
            if program is None:
                program = _lowered[compiled] = lower(compiled)
            if grid is not None:
                self._execute(
                    program, compiled, bound, _grid(grid[0](bound) if callable(grid[0]) else grid[0], self.arch)
                )
        except UnsupportedError as error:
            if error.location is not None:
                raise
            raise UnsupportedError(error.what, launching_line(), error.detail) from None
        again = partial(self._launch_compiled, kernel, kwargs, compiled, promises(kernel, self.arch, args, kwargs))
        return CompiledKernel(compiled, self.arch.target, again)

    def _launch_compiled(
        self, kernel: Any, options: dict[str, Any], compiled: Compiled, promised: Promised, grid: Any,
        args: tuple[Any, ...],
    ) -> None:  # fmt: skip
        options = {name: value for name, value in options.items() if name not in kernel.arg_names}
        report_broken(self.trace, compiled.kernel, promised, promises(kernel, self.arch, args, options))
        self.launch(kernel, (grid,), args, options, compiled)

    def _execute(self, program: Program, compiled: Compiled, bound: dict[str, Any], grid: tuple[int, int, int]) -> None:
        self.launches += 1
        count = grid[0] * grid[1] * grid[2]
        arguments = expanded(program.arguments, compiled, bound)
        *others, last = self._turns(program, count)
        if not others:
            self._run(program, arguments, grid, last, MOST_TRIPS)
            return
        tries = [*((turns, MOST_TRIPS_OF_A_TRY) for turns in others), (last, MOST_TRIPS)]
        memory, trace = self.memory.snapshot(), self.trace.snapshot()
        hang: HangError | None = None
        for turns, most_trips in tries:
            if hang is not None:
                self.memory.restore(memory)
                self.trace.retry(trace)
            try:
                self._run(program, arguments, grid, turns, most_trips)
                hang = None
                break
            except HangError as error:
                hang = error
                if error.at_limit and most_trips < MOST_TRIPS:  # where no other turns lead anywhere, these may yet
                    tries.append((turns, MOST_TRIPS))
        self.trace.settle()
        if hang is not None:
            raise hang

    def _turns(self, program: Program, count: int) -> list[list[Array]]:
        """Programs that take every step together, one such group after the other. Where programs wait, there are others
        for when these end in a hang: at a lock they cannot advance together, and one after the other they may.
        """
        batch = max(1, BATCH_ELEMENTS // program.largest_value)
        everyone = np.arange(count)[:: self._step]
        together = _groups(everyone, batch)
        if not program.waits or count <= 1:
            return [together]
        alone = _groups(everyone, 1)
        if self._step > 0:
            return [together, alone]
        # Whoever waits for all others must not get through before the last of them has come.
        apart = [*_groups(everyone[:-1], batch), everyone[-1:]]
        return [apart, together, alone, alone[::-1]]

    def _run(
        self, program: Program, arguments: list[tuple[int, Type, str, Any]], grid: tuple[int, int, int],
        turns: list[Array], most_trips: int,
    ) -> None:  # fmt: skip
        """Run the programs of a grid in these turns."""
        count = grid[0] * grid[1] * grid[2]
        machine = Machine(self.memory, self.trace, grid, program.slot_count, most_trips)
        for slot, value in program.constants:
            machine.slots[slot] = value
        for slot, type_, name, given in arguments:
            machine.slots[slot] = held_argument(self.memory, name, type_, given)
        if count > 1:
            machine.races = Races(Ordering(count) if program.acquires else None)
            machine.watched = self._written(program, arguments)
        filled = list(machine.slots)
        with np.errstate(all="ignore"):
            for programs in turns:
                machine.slots[:] = filled
                machine.programs = programs
                program.run(machine)
        ordering = None if machine.races is None else machine.races.ordering
        self.trace.ordered |= ordering is not None and ordering.used

    def _written(self, program: Program, arguments: list[tuple[int, Type, str, Any]]) -> frozenset[str] | None:
        """The names of the regions that a launch may write; None when that cannot be told."""
        if program.written is None:
            return None
        given = [(name, value) for slot, _, name, value in arguments if slot in program.written]
        return frozenset(self.memory.region_of(tensor_of(name, value), name).name for name, value in given)


def _groups(programs: Array, size: int) -> list[Array]:
    # A last group of one program would do alone what the programs of others do alike, which looks like a race. (So may
    # what the one does that comes last of those that wait: but these come to an end only where nobody waits for it.)
    while size < len(programs) and len(programs) % size == 1 < size:
        size += 1
    return [programs[start : start + size] for start in range(0, len(programs), size)]


class GridError(TypeError):
    """A grid that Triton does not take, or the driver of the GPU."""


def _grid(grid: Any, arch: Arch) -> tuple[int, int, int]:
    """Three sizes, of which any that is 0 launches nothing, and, as Triton multiplies them, a negative one too.

    GridError for what is no grid, and for more than CUDA launches (CUDA C++ Programming Guide, table of technical
    specifications per compute capability). Triton takes what has an index, and leaves out what comes behind the third.
    """
    try:
        sizes = [index(grid[place]) for place in range(min(len(grid), 3))]
    except (TypeError, LookupError):
        sizes = []
    if not sizes:
        raise GridError(f"grid={grid!r}: allowed is a tuple of 1 to 3 integers")
    x, y, z = (*sizes, 1, 1)[:3]
    count = x * y * z
    if count <= 0 and max(map(abs, sizes)) < 2**31:
        return 0, 0, 0
    cuda = arch.name.startswith("sm_")
    if min(sizes) < 0 or max(sizes) >= 2**31 or (cuda and max(y, z) >= 2**16):
        most = "2147483647 x 65535 x 65535 on CUDA" if cuda else "2147483647 in each direction"
        raise GridError(f"grid={grid!r}: allowed are up to {most}")
    if count >= 2**31:
        raise GridError(f"grid={grid!r}: {count} programs, which Triton counts in 32 bits: allowed are 2147483647")
    return x, y, z


#: The simulator that intercepts in this thread; launches of other threads go where they would without it.
_current: ContextVar[Simulator | None] = ContextVar("simulator", default=None)


def _run(original: Callable[..., Any]) -> Callable[..., Any]:
    def run(kernel: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> Any:
        simulator = _current.get()
        if simulator is None:
            return original(kernel, *args, grid=grid, warmup=warmup, **kwargs)
        return simulator.launch(kernel, None if warmup else (grid,), args, kwargs)

    return run


_HOOKS = Hooks((JITFunction, "run", _run))
