"""Where the bytes of regions come from: memory of torch's own, which lives as long as a tensor that lies in it."""

from __future__ import annotations

from typing import Protocol

import torch

from ..memory.region import ALIGNMENT


class Allocator(Protocol):
    """Gives storage on one device. It is given again when no tensor lies in it any more.

    Not when a run is over: a target may keep what it has allocated, tables and workspaces, for all runs to come.
    """

    device: torch.device

    def take(self, inside: int, zone: int) -> tuple[torch.Tensor, int]:
        """Storage uint8 [n] and the place in it where `inside` bytes begin, with guard bytes on both sides."""


class TorchAllocator:
    """Asks torch each time, which keeps what is given back."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def take(self, inside: int, zone: int) -> tuple[torch.Tensor, int]:
        total = 2 * zone + -(-inside // ALIGNMENT) * ALIGNMENT
        return torch.empty(total, dtype=torch.uint8, device=self.device), zone
