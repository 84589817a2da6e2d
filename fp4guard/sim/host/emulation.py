"""A GPU for host code, where there is none: torch, `torch.cuda` and Triton's driver answer for an architecture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from typing import Any

import torch
import torch.utils._device as default_device
from torch.overrides import _get_current_function_mode_stack

from ...ttir import Arch
from . import cuda, driver, timing
from .cards import Card, card_of
from .current import Patches, in_force
from .devices import Devices
from .streams import Stream


class Emulation:
    """What host code of one thread is told."""

    def __init__(self, arch: Arch) -> None:
        self.arch = arch
        self.card: Card = card_of(arch)
        self.nvidia = arch.target.backend == "cuda"
        self.driver: Any = driver.Driver(self)
        self.default_stream: Stream = Stream()
        self.default_stream.cuda_stream = self.default_stream.stream_id = 0
        self.stream: Any = self.default_stream
        self.devices = Devices()

    @contextmanager
    def active(self) -> Iterator[None]:
        """While active, host code of this thread finds a GPU. Nothing of it is left behind."""
        # torch imports it at the first operator that a dispatch mode sees, and it must not find a GPU.
        import_module("torch._dynamo")
        before = default_device.CURRENT_DEVICE
        with ExitStack() as stack:
            stack.enter_context(_PATCHES.installed())
            stack.enter_context(in_force(self))
            stack.enter_context(self.devices)
            try:
                yield
            finally:
                if before != default_device.CURRENT_DEVICE:
                    torch.set_default_device(before)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Put the devices back in force, in Python code that torch calls while it handles one of their questions."""
        if self.devices in _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
            yield
            return
        with self.devices:
            yield


def patched() -> AbstractContextManager[None]:
    """A context in which to enter and leave emulations costs little. Nothing is in force through it alone."""
    return _PATCHES.installed()


_PATCHES = Patches(lambda: [*cuda.patches(), *driver.patches(), *timing.patches()])
