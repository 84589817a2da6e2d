"""The guarded allocator of one run: it owns the regions and finds the one that an address belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import torch

from ..errors import UnsupportedError, UsageError
from .layouts import CONTIGUOUS, Layout
from .poison import Poison
from .region import ADDRESSABLE, Bytes, Region, Role, foreign, guarded, guarded_strided

#: A pointer of the simulator has 14 bits for the number of its region.
MOST_REGIONS = (1 << 14) - 1


class Memory:
    """Regions by name and by address."""

    def __init__(self, poison: Poison) -> None:
        self.poison = poison
        self.regions: list[Region] = []
        self._starts: list[int] = []
        self._by_start: list[Region] = []
        self._names: dict[str, int] = {}

    def __iter__(self) -> Iterator[Region]:
        return iter(self.regions)

    def add(self, region: Region) -> Region:
        """Take in a region; later ones of the same name get `name#2`, `name#3`, ..."""
        if len(self.regions) == MOST_REGIONS:
            raise UnsupportedError(f"a target with more than {MOST_REGIONS} tensors")
        base, name = region.name, region.name
        while name in self._names:
            count = self._names[base] = self._names.get(base, 1) + 1
            name = f"{base}#{count}"
        self._names[name] = 1
        region.name = name
        self.regions.append(region)
        if not len(region.storage):
            return region  # it holds no address, and its own may be anywhere
        at = bisect_right(self._starts, region.address)
        self._starts.insert(at, region.address)
        self._by_start.insert(at, region)
        return region

    def empty(
        self, name: str, role: Role, shape: tuple[int, ...], dtype: torch.dtype, layout: Layout = CONTIGUOUS
    ) -> Region:
        """A region of poison; reading it before writing it is an `uninitialized-read`."""
        return self.add(guarded(name, role, shape, dtype, layout, self.poison))

    def empty_strided(
        self, name: str, role: Role, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype
    ) -> Region:
        """As `empty`, with the strides given in elements."""
        return self.add(guarded_strided(name, role, shape, dtype, strides, 0, self.poison))

    def place(self, name: str, role: Role, values: torch.Tensor, layout: Layout = CONTIGUOUS) -> Region:
        """A region that holds a copy of `values`, wholly initialised."""
        region = self.empty(name, role, tuple(values.shape), values.dtype, layout)
        region.tensor.copy_(values)
        region.seal()
        return region

    def find(self, address: int) -> Region | None:
        """The region whose storage, red zones included, holds a machine address."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        region = self._by_start[at]
        return region if address < region.address + len(region.storage) else None

    def snapshot(self) -> list[tuple[Region, Bytes, Bytes, bool]]:
        """What every region holds, to go back to."""
        return [(r, *(whole.copy() for whole in r.contents()), r.sealed) for r in self.regions]

    def restore(self, snapshot: list[tuple[Region, Bytes, Bytes, bool]]) -> None:
        """Put back what regions held."""
        for region, storage, shadow, sealed in snapshot:
            for now, before in zip(region.contents(), (storage, shadow), strict=True):
                now[...] = before
            region.sealed = sealed

    def named(self, name: str) -> Region:
        """The region of that name; KeyError when there is none."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    def region_of(self, tensor: torch.Tensor, name: str) -> Region:
        """The region of a tensor; one that fp4guard did not allocate becomes a foreign region called `name`.

        Raises UsageError for a tensor that is not on the CPU.
        """
        region = self.find(tensor.untyped_storage().data_ptr())
        if region is None:
            if tensor.device.type != "cpu":
                raise UsageError(f"{name}.device={str(tensor.device)!r}: the simulator takes tensors on 'cpu' only")
            region = self.add(foreign(name, tensor))
        return region

    def note_host_write(self, tensor: torch.Tensor) -> None:
        """Mark a tensor's elements as initialised: code on the host wrote them."""
        region = self.find(tensor.data_ptr()) if tensor.numel() else None
        if region is None or region.sealed:
            return
        touched = region.select(tensor, region.shadow)
        np.bitwise_or(touched, (touched & ADDRESSABLE) << 1, out=touched)
