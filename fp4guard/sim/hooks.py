"""What is replaced in Triton while someone needs it replaced, and put back when no one does any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from unittest.mock import patch

#: Given the method that is there: the one to put in its place.
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

Value = TypeVar("Value")


class Hooks:
    """Methods by class and name, each with its wrapper. Threads may overlap: the last to leave puts everything back."""

    def __init__(self, *methods: tuple[type, str, Wrap]) -> None:
        self._methods = methods
        self._lock, self._users, self._patches = threading.Lock(), 0, ExitStack()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While active, the methods are replaced."""
        with self._lock:
            if self._users == 0:
                for owner, name, wrap in self._methods:
                    self._patches.enter_context(patch.object(owner, name, wrap(getattr(owner, name))))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._patches.close()

    @contextmanager
    def telling(self, variable: ContextVar[Value], value: Value) -> Iterator[None]:
        """While active, the methods are replaced, and what replaces them finds the value, in this thread alone."""
        with self.installed():
            token = variable.set(value)
            try:
                yield
            finally:
                variable.reset(token)
