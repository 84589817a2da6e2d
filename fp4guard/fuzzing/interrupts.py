"""Ctrl-C ends a search, wherever it strikes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Python prints and forgets what is raised in a callback of the garbage collector, and hypothesis has one of this name.
_DEAF = "gc_callback"

_pending = threading.Event()


@contextmanager
def interruptible() -> Iterator[None]:
    """While active, an interrupt that is lost where it strikes is raised all the same: by `check`, or at the end.

    Lost: swallowed, or replaced by another error that it led to (hypothesis' clean-up asserts that it has begun).
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    previous = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except Exception as error:
        if _pending.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
        _pending.clear()


def check() -> None:
    """Raise the KeyboardInterrupt that is still due."""
    if _pending.is_set():
        _pending.clear()
        raise KeyboardInterrupt


def _interrupt(_signal: int, frame: FrameType | None) -> None:
    _pending.set()
    if frame is None or frame.f_code.co_name != _DEAF:
        raise KeyboardInterrupt
