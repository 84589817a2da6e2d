"""A target's launches without its answers: the oracle takes longer than the kernels, and is not what is measured."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from ... import oracle
from ...fuzzing.target import Target


class _AskedError(Exception):
    """The target has asked the oracle: its launches are done."""


def launches_of(target: Target) -> Target:
    """A target up to its first question to the oracle; to be called within `unanswered`."""

    def function(mem: Any, **arguments: Any) -> None:
        with suppress(_AskedError):
            target.function(mem, **arguments)

    return replace(target, function=function)


@contextmanager
def unanswered() -> Iterator[None]:
    """While active, the functions of `fp4guard.oracle` end the target that calls them."""

    def asked(*args: Any, **kwargs: Any) -> None:
        raise _AskedError

    with ExitStack() as stack:
        for name, value in vars(oracle).items():
            if inspect.isfunction(value) and name in oracle.__all__:
                stack.enter_context(patch.object(oracle, name, asked))
        yield
