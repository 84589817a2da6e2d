"""Triton's driver of the emulated GPU: what launchers ask it for a grid, an architecture, a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import triton.testing
from triton.runtime.driver import DriverConfig

from ...errors import UnsupportedError
from ..callers import launching_line
from .current import Patch, answering, current

if TYPE_CHECKING:
    from .emulation import Emulation


class Utilities:
    """`driver.active.utils`."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation

    def get_device_properties(self, device: int = 0) -> dict[str, Any]:
        """As the drivers of Triton name them; those of AMD's too."""
        card = self._emulation.card
        return {
            "max_shared_mem": card.shared,
            "max_num_regs": 65536,
            "multiprocessor_count": card.processors,
            "warpSize": card.warp,
            "sm_clock_rate": card.clock,
            "mem_clock_rate": card.memory_clock,
            "mem_bus_width": card.bus,
            "arch": self._emulation.arch.name,
            "max_threads_per_sm": card.threads,
        }

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return self._emulation.card.capability

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None: ...

    def get_default_stream(self, device: int = 0) -> int:
        return 0

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedError(f"driver.active.utils.{name}: there is no GPU", launching_line())


class Driver:
    """`triton.runtime.driver.active`."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation, self.utils = emulation, Utilities(emulation)

    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_target(self) -> Any:
        return self._emulation.arch.target

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None: ...

    def get_current_stream(self, device: int | None = None) -> int:
        return int(self._emulation.stream.cuda_stream)

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return self._emulation.card.capability

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        return torch.cuda

    def get_benchmarker(self) -> Callable[..., Any]:
        return triton.testing.do_bench

    def get_empty_cache_for_benchmark(self) -> torch.Tensor:
        return torch.empty(1, dtype=torch.int32, device="cuda")

    def clear_cache(self, cache: torch.Tensor) -> None: ...

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedError(f"driver.active.{name}: there is no GPU", launching_line())


def _active(original: Any) -> Any:
    def get(config: Any) -> Any:
        emulation = current()
        return original.__get__(config) if emulation is None else emulation.driver

    return property(get)


def _set_active(emulation: Emulation, config: Any, driver: Any) -> None:
    emulation.driver = driver


def _reset_active(emulation: Emulation, config: Any) -> None:
    emulation.driver = Driver(emulation)


def patches() -> list[Patch]:
    """What is replaced in Triton."""
    return [
        (DriverConfig, "active", _active),
        (DriverConfig, "default", _active),
        (DriverConfig, "set_active", answering(_set_active)),
        (DriverConfig, "reset_active", answering(_reset_active)),
    ]
