"""The emulation that is in force in this thread, and patches that ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .emulation import Emulation

_current: ContextVar[Emulation | None] = ContextVar("emulation", default=None)


def current() -> Emulation | None:
    """What host code of this thread is told; None where it is told the truth."""
    return _current.get()


@contextmanager
def in_force(emulation: Emulation) -> Iterator[None]:
    """While active, `current` gives the emulation in this thread."""
    token = _current.set(emulation)
    try:
        yield
    finally:
        _current.reset(token)


#: An object, the name of an attribute, and what to put there, given what is there (None: nothing).
Patch = tuple[Any, str, Callable[[Any], Any]]


def answering(answer: Callable[..., Any]) -> Callable[[Any], Any]:
    """A patch for a function: while an emulation is in force in the thread, `answer(emulation, *args, **kwargs)`.

    Elsewhere the function itself, or AttributeError where there is none.
    """

    def patched(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            emulation = current()
            if emulation is not None:
                return answer(emulation, *args, **kwargs)
            if original is None:
                raise AttributeError("torch has no such function here")
            return original(*args, **kwargs)

        return wraps(original)(call) if callable(original) else call

    return patched


class Patches:
    """Attributes of modules and classes, replaced while at least one thread wants them replaced."""

    def __init__(self, patches: Callable[[], Sequence[Patch]]) -> None:
        self._find = patches
        self._made: dict[tuple[int, str], tuple[Any, Any]] = {}
        self._list: Sequence[Patch] = ()
        self._lock, self._users = threading.Lock(), 0
        self._undo: list[tuple[Any, str, Any]] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While active, they are replaced; the last to leave puts everything back, in reverse order."""
        with self._lock:
            if self._users == 0:
                self._install()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._remove()

    def _install(self) -> None:
        self._list = self._list or self._find()
        try:
            for owner, name, make in self._list:
                there = name in vars(owner) or name == "__class__"
                original = vars(owner)[name] if name in vars(owner) else getattr(owner, name, None)
                before, made = self._made.get((id(owner), name), (_ABSENT, None))
                if before is not original:
                    made = make(original)
                    self._made[id(owner), name] = original, made
                setattr(owner, name, made)
                self._undo.append((owner, name, original if there else _ABSENT))
        except BaseException:
            self._remove()
            raise

    def _remove(self) -> None:
        while self._undo:
            owner, name, original = self._undo.pop()
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


_ABSENT = object()
