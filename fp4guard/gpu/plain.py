"""The memory of a launch without guards: what a case costs, and what other tools see, where fp4guard does nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..fuzzing.case import Case
from ..memory import ORDINARY, Poison
from .memory import DeviceMemory
from .region import DeviceRegion, storage_order


class _PlainRegion(DeviceRegion):
    def fill(self, poison: Poison) -> None:
        """An input gets its values, and nothing else is written."""
        if self.given is not None:
            # By a kernel of torch: the profiler could not tell a copy from those that a target makes of its own.
            torch.bitwise_or(self._values(), 0, out=self._bytes())

    def forget(self, mask: np.ndarray[Any, Any], poison: Poison) -> None:
        """Elements (bool [*shape]) that nothing is ever written to; the others get their values."""
        kept = torch.from_numpy(np.asarray(~mask)).to(self.buffer.device)
        self._bytes()[kept] = self._values()[kept]

    def _values(self) -> torch.Tensor:
        """What it was given, uint8 [*shape, itemsize]."""
        assert self.given is not None
        order = storage_order(self.strides)
        ordered = self.given.view(*(self.shape[d] for d in order), self.dtype.itemsize)
        return ordered.permute(*np.argsort(order).tolist(), len(order))

    def _bytes(self) -> torch.Tensor:
        """The elements as uint8 [*shape, itemsize]: not all types can be indexed."""
        size = self.dtype.itemsize
        strides = (*(stride * size for stride in self.strides), 1)
        return self.buffer.as_strided((*self.shape, size), strides, int(self.buffer.storage_offset()) + self.base)


class PlainMemory(DeviceMemory):
    """Tensors as torch's own allocator gives them, in the case's layouts; what is undefined is what was there."""

    region = _PlainRegion

    def __init__(self, case: Case, cache: dict[str, Any], device: torch.device) -> None:
        super().__init__(case, ORDINARY, cache, _Torch(device))


class _Torch:
    """An allocator without guards."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def take(self, inside: int, zone: int) -> tuple[torch.Tensor, int]:
        return torch.empty(max(inside, 1), dtype=torch.uint8, device=self.device), 0
