"""Ctrl-C ends a command, wherever it strikes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: The exit status of a command that was interrupted: 128 and the number of the signal, as shells have it.
STATUS = 130

#: Python prints and forgets what is raised in a callback of the garbage collector, and hypothesis has one of this name.
_DEAF = "gc_callback"

#: Seconds until an interrupt strikes again: one that struck there, and one that somebody may have swallowed.
_SOON, _LATER = 0.01, 1.0

_pending = threading.Event()


@contextmanager
def at_once() -> Iterator[None]:
    """While active, an interrupt ends the process at the next step of Python, without an exception.

    For when there is nothing to tell yet. Torch and Triton are being imported then, and an exception of ours in a
    function that C++ has called may end in std::terminate.
    """
    with _handling(_end):
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """While active, an interrupt that is lost where it strikes is raised all the same: soon, by `check`, or at the end.

    Lost: swallowed, as in a `__del__`, or replaced by another error that it led to (hypothesis' clean-up asserts that
    it has begun).
    """
    try:
        with _handling(_interrupt):
            yield
    except Exception as error:
        if _pending.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        _pending.clear()


@contextmanager
def pythons_own() -> Iterator[None]:
    """While active, an interrupt is what it is to Python: code that is not ours may handle it, and go on."""
    with _handling(signal.default_int_handler):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def check() -> None:
    """Raise the KeyboardInterrupt that is still due."""
    if _pending.is_set():
        _pending.clear()
        raise KeyboardInterrupt


def _end(_signal: int, _frame: FrameType | None) -> None:
    # Not through sys.stderr: it may be what was being written to.
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"fp4guard: interrupted\n")
    os._exit(STATUS)


def _interrupt(_signal: int, frame: FrameType | None) -> None:
    _pending.set()
    deaf = frame is not None and frame.f_code.co_name == _DEAF
    # A case may go on for seconds, with a compilation or the import of what that needs.
    again = threading.Timer(_SOON if deaf else _LATER, _strike_again)
    again.daemon = True
    again.start()
    if not deaf:
        raise KeyboardInterrupt


def _strike_again() -> None:
    if _pending.is_set():
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)  # a real one: it ends a wait too
