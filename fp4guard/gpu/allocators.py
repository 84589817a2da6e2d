"""Where the bytes of regions come from: an arena, used anew for every run of a case."""

from __future__ import annotations

from typing import Protocol

import torch

from ..memory.region import ALIGNMENT

#: Bytes that an arena takes from torch at a time.
_BLOCK = 64 << 20


class Allocator(Protocol):
    """Gives storage on one device, in the order in which it is asked, and takes all of it back at once."""

    device: torch.device

    def take(self, inside: int, zone: int) -> tuple[torch.Tensor, int]:
        """Storage uint8 [n] and the place in it where `inside` bytes begin, with guard bytes on both sides."""

    def reset(self) -> None:
        """Everything that was taken may be given again."""


class Arena:
    """An allocator without a call to the device's own: two runs of a case have one each, and get the same places."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._blocks: list[torch.Tensor] = []
        self._block = self._used = 0

    def take(self, inside: int, zone: int) -> tuple[torch.Tensor, int]:
        total = 2 * zone + -(-inside // ALIGNMENT) * ALIGNMENT
        while self._block < len(self._blocks):
            block = self._blocks[self._block]
            if self._used + total <= len(block):
                storage = block[self._used : self._used + total]
                self._used += total
                return storage, zone
            self._block, self._used = self._block + 1, 0
        self._blocks.append(torch.empty(max(total, _BLOCK), dtype=torch.uint8, device=self.device))
        return self.take(inside, zone)

    def reset(self) -> None:
        self._block = self._used = 0
