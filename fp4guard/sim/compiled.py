"""What `kernel.warmup(...)` and a launch give back: a stand-in for Triton's compiled kernel."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn

from ..errors import UnsupportedError
from ..ttir import Compiled


class _Assembly(dict[str, str]):
    def __missing__(self, stage: str) -> NoReturn:
        raise UnsupportedError(f"the {stage} of a kernel, which is compiled no further than {next(iter(self)).upper()}")


class CompiledKernel:
    """What host code asks of a compiled kernel to choose its grid, and a way to launch it.

    Figures that only a GPU's compiler knows are plausible: 32 registers, nothing spilled, a little shared memory.
    """

    def __init__(self, compiled: Compiled, target: Any, launch: Callable[[Any, tuple[Any, ...]], None]) -> None:
        self.name, self.asm = compiled.kernel, _Assembly({compiled.stage: compiled.text})
        figures = {"warp_size": target.warp_size, **compiled.options, "shared": 1024}
        self.metadata = SimpleNamespace(**{**figures, "name": compiled.kernel, "target": target})
        self.n_regs, self.n_spills, self.n_max_threads = 32, 0, 1024
        self._launch = launch

    def _init_handles(self) -> None:
        """Host code calls it before it reads the figures."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        """What is returned takes every argument of the kernel by position, constants too."""
        return lambda *args, stream=None: self._launch(grid, args)
