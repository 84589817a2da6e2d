"""Tensors of torch's own at addresses that a kernel was given: so seldom asked for that nothing is noted before."""

from __future__ import annotations

import gc
from bisect import bisect_right
from contextlib import suppress

import torch
from torch.utils._python_dispatch import _disable_current_modes

#: Addresses below lie in no process' memory: what a table holds where it holds none.
_LOWEST = 1 << 16


class Storages:
    """The storages on the CPU of all tensors that Python has when it is first asked."""

    def __init__(self) -> None:
        self._found: list[tuple[int, int, torch.UntypedStorage]] | None = None

    def holding(self, address: int) -> torch.UntypedStorage | None:
        """The one that a machine address lies in; None where there is none."""
        if address < _LOWEST:
            return None
        if self._found is None:
            self._found = _outermost(_all())
        at = bisect_right(self._found, address, key=lambda one: one[0])
        # Two storages may share memory that is numpy's, and the one before may reach further.
        for start, end, storage in reversed(self._found[max(at - 2, 0) : at]):
            if start <= address < end:
                return storage
        return None


def _all() -> list[tuple[int, int, torch.UntypedStorage]]:
    found = []
    # An emulated GPU would answer for its tensors, and GuardAllocations would see what is asked.
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        for one in gc.get_objects():
            if not issubclass(type(one), torch.Tensor):  # isinstance would wake what is lazy
                continue
            with suppress(RuntimeError):  # sparse ones and those of transformations have none
                storage = one.untyped_storage()
                if storage.device.type == "cpu":
                    found.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes(), storage))
    return found


def _outermost(
    storages: list[tuple[int, int, torch.UntypedStorage]],
) -> list[tuple[int, int, torch.UntypedStorage]]:
    """By their starts, without those that lie within another."""
    kept: list[tuple[int, int, torch.UntypedStorage]] = []
    for one in sorted(storages, key=lambda one: (one[0], -one[1])):
        if not kept or one[1] > kept[-1][1]:
            kept.append(one)
    return kept
