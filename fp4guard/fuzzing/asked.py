"""What the methods of `mem` are asked for: refused here, by name, where it is not what it may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..memory import Layout

#: Types of integers that tensors are drawn of.
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check(method: str, name: Any, shape: Any, layouts: Any, axes: int | None = None) -> None:
    """UsageError unless `name` is a string, `shape` a tuple or list of sizes, of so many axes, and `layouts` one of at
    least one layout.
    """
    call = f"mem.{method}({name!r}"
    if not isinstance(name, str):
        raise UsageError(f"{call}): the name is a string")
    if not isinstance(shape, (tuple, list)) or not all(_is_size(size) for size in shape):
        raise UsageError(f"{call}, shape={shape!r}): allowed is a tuple of integers of 0 or more")
    if axes is not None and len(shape) != axes:
        raise UsageError(f"{call}, shape={tuple(shape)}): allowed are {axes} sizes")
    if not isinstance(layouts, (tuple, list)) or not layouts or not all(isinstance(one, Layout) for one in layouts):
        known = "PLAIN, ROWS, STRIDED, WIDE, WIDE_ROWS"
        raise UsageError(f"{call}, layouts={layouts!r}): allowed are {known}, and other tuples of Layout")


def check_type(method: str, name: str, dtype: Any) -> None:
    """UsageError unless `dtype` is one of torch's."""
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"mem.{method}({name!r}, dtype={dtype!r}): allowed is a dtype of torch, such as torch.float32")


def check_range(name: str, low: Any, high: Any, dtype: torch.dtype) -> None:
    """UsageError unless all integers from `low` to `high` are of the dtype, and there is one."""
    if dtype not in INTEGERS:
        raise UsageError(f"mem.integers({name!r}, dtype={dtype}): allowed are {', '.join(map(str, INTEGERS))}")
    info = torch.iinfo(dtype)
    whole = all(isinstance(end, (int, np.integer)) for end in (low, high))
    if not whole or not info.min <= low <= high <= info.max:
        raise UsageError(
            f"mem.integers({name!r}, low={low!r}, high={high!r}): allowed are integers from {info.min} to {info.max}, "
            f"which {dtype} holds, and low <= high"
        )


def _is_size(size: Any) -> bool:
    return isinstance(size, (int, np.integer)) and bool(size >= 0)
