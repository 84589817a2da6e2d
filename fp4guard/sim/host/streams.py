"""Streams, events and generators of the emulated GPU: everything is done where it is asked for, so none has to wait."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from .current import current

if TYPE_CHECKING:
    from .emulation import Emulation

_numbers = itertools.count(1)


class Stream:
    """`torch.cuda.Stream`; what is launched on it runs at once."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.priority, self.cuda_stream = priority, next(_numbers)
        self.device = torch.device("cuda", 0)
        self.stream_id = self.cuda_stream

    def synchronize(self) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False

    def record_event(self, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.cuda_stream == self.cuda_stream

    def __hash__(self) -> int:
        return hash(self.cuda_stream)


class Event:
    """`torch.cuda.Event`; times are those of the simulation."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._time: float | None = None

    def record(self, stream: Any = None) -> None:
        self._time = time.perf_counter()

    def elapsed_time(self, end_event: Event) -> float:
        if self._time is None or end_event._time is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        return max((end_event._time - self._time) * 1e3, 1e-3)

    def query(self) -> bool:
        return True

    def wait(self, stream: Any = None) -> None: ...

    def synchronize(self) -> None: ...


@contextmanager
def entered(emulation: Emulation, *_: Any, **__: Any) -> Iterator[None]:
    """`torch.cuda.device(...)` and other guards that choose what there is one of."""
    yield


@contextmanager
def entered_stream(emulation: Emulation, stream: Any = None) -> Iterator[None]:
    """`torch.cuda.stream(...)`: the current stream is another one."""
    before = emulation.stream
    emulation.stream = before if stream is None else stream
    try:
        yield
    finally:
        emulation.stream = before


def standing_for(standin: type, original: Any) -> type:
    """A class to put in the place of `original`: it makes stand-ins where an emulation is in force, else the original.

    `isinstance` knows both.
    """

    class Meta(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            made = standin if current() is not None else original
            return made(*args, **kwargs)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, (standin, original) if original is not None else standin)

    return Meta(standin.__name__, (), {"__doc__": standin.__doc__, "__module__": standin.__module__})


class Generator(torch.Generator):
    """`torch.Generator(device="cuda")`: the numbers are the CPU's."""

    _shown: torch.device

    def __new__(cls, device: Any = "cpu") -> Generator:
        made: Generator = super().__new__(cls, device="cpu")  # type: ignore[call-arg]
        made._shown = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._shown
