"""What a kernel tells the compiler about its values: `tl.multiple_of`. A false hint of a program that runs is found.

Vectorised and asynchronous accesses are built on it. In a tensor it speaks of the first element of each contiguous run,
as Triton's axis analysis reads it, so that `tl.multiple_of(offsets % n, BLOCK)` is true where a run begins at 0. Hints
on arguments of the kernel do not reach TTIR, nor any later pass.
"""

from __future__ import annotations

import re

import numpy as np

from ..ttir import Operation, parse_type
from .control import Step
from .elements import Array, element_of
from .machine import Machine
from .trace import Site

_HINT = "tt.divisibility"


def hint_step(op: Operation, kernel: str) -> Step | None:
    """The check of an operation's hint, to run behind it; None when it has none."""
    if _HINT not in op.attributes or len(op.results) != 1 or op.result.type.element[:1] not in "ip":
        return None
    numbers = [int(n) for n in re.findall(r"\d+", str(op.attributes[_HINT]).split(":")[0])]
    slot, type_ = op.result.index, op.result.type
    site = Site(kernel, op, element_of(type_))
    step = element_of(parse_type(type_.pointee)).width if type_.pointee else 1
    if len(numbers) != max(len(type_.shape), 1) or not any(n > 1 for n in numbers):
        return None

    def check(m: Machine) -> None:
        value = m.slots[slot]
        false = np.zeros(value.shape[:1], bool)
        for axis, number in enumerate(numbers):
            if number > 1:
                false |= _fails(value, axis + 1, number, step)
        if m.active is not None:
            false = false & m.active
        if false.any():
            m.report("assert-failed", site, None, None, np.flatnonzero(false))

    return check


def _fails(value: Array, axis: int, number: int, step: int) -> Array:
    """Bool [programs]: whether a run along the axis begins at what is no multiple."""
    odd: Array = value % number != 0
    if value.ndim > 1 and value.shape[axis] > 1:
        begins = np.ones(value.shape, bool)
        inner = tuple(slice(1, None) if i == axis else slice(None) for i in range(value.ndim))
        begins[inner] = np.diff(value, axis=axis) != step
        odd = odd & begins
    return np.asarray(odd.reshape(len(value), -1).any(axis=1))
