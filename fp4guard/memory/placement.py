"""Which tensors count as a GPU's: a mark on the storage, which every view of it shares.

All memory is the CPU's. Host code that was written for a GPU asks where a tensor is, and copies where that differs; so
each storage remembers what such code must be told.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")

_MARK = "_fp4guard_on_device"


def on_device(tensor: torch.Tensor) -> bool:
    """Whether a tensor counts as one in a GPU's memory."""
    try:
        return bool(getattr(tensor.untyped_storage(), _MARK, False))
    except (NotImplementedError, RuntimeError):  # a sparse tensor, or another without storage
        return False


def put(tensor: torch.Tensor, on: bool) -> torch.Tensor:
    """Have a tensor, and all that share its storage, count as a GPU's or as the CPU's; the tensor itself."""
    if on != on_device(tensor):
        with suppress(NotImplementedError, RuntimeError):  # one without storage stays where it is
            setattr(tensor.untyped_storage(), _MARK, on)
    return tensor


def unwatched(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run our own function on tensors past whatever guards and emulates for the code under test."""

    @wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    return run
