"""The guarded allocator of one run: it owns the regions and finds the one that an address belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from ..errors import UnsupportedError, UsageError
from .alive import Storages
from .layouts import CONTIGUOUS, Layout
from .poison import Poison
from .region import ADDRESSABLE, Bytes, Region, Role, foreign, foreign_bytes, guarded, guarded_strided

#: A pointer of the simulator has 14 bits for the number of its region.
MOST_REGIONS = (1 << 14) - 1


#: A forgetful memory looks for regions to forget when it has taken in so many more, or so many bytes more.
_MORE_REGIONS, _MORE_BYTES = 256, 1 << 26

#: Numbers that a forgetful memory leaves for tensors that it does not guard, and kernels are given.
_SPARE = 1 << 10

#: Regions of one name among which a forgetful memory looks for one to forget.
_NAMES_TRIED = 32


@dataclass(eq=False)
class Snapshot:
    """What regions held: storage, shadow, and whether it was sealed."""

    regions: list[tuple[Region, Bytes, Bytes, bool]]

    def __iter__(self) -> Iterator[tuple[Region, Bytes, Bytes, bool]]:
        return iter(self.regions)


def _held(region: Region) -> tuple[Region, Bytes, Bytes, bool]:
    """A region with what it holds."""
    storage, shadow = region.contents()
    return region, storage.copy(), shadow.copy(), region.sealed


class Memory:
    """Regions by name and by address. `device_type` says on which sort of torch's devices they lie.

    One that is `forgetful` keeps a region, and the memory of it, no longer than torch keeps the tensor that lies in it:
    code that allocates for ever does not fill it, and what torch allocates where a dead tensor lay is another region.
    """

    device_type = "cpu"

    def __init__(self, poison: Poison, forgetful: bool = False) -> None:
        self.poison = poison
        self.regions: list[Region] = []
        self._forgetful = forgetful
        self._numbered: dict[int, Region] = {}
        self._holders: dict[str, Region] = {}
        self._last_number = 0
        self._look_at, self._bytes_left = _MORE_REGIONS, _MORE_BYTES
        self._left_out = 0
        self._snapshots: WeakSet[Snapshot] = WeakSet()
        self._starts: list[int] = []
        self._by_start: list[Region] = []
        self._names: dict[str, int] = {}

    def __iter__(self) -> Iterator[Region]:
        return iter(self.regions)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def add(self, region: Region) -> Region:
        """Take in a region; later ones of the same name get `name#2`, `name#3`, ..."""
        self._bytes_left -= len(region.storage)
        if self._forgetful and (len(self.regions) >= self._look_at or self._bytes_left < 0):
            self._forget_expired()
        if len(self.regions) == MOST_REGIONS:
            raise UnsupportedError(f"code with more than {MOST_REGIONS} tensors at a time")
        region.name = self._free_name(region.name)
        self._names[region.name] = 1
        self._holders[region.name] = region
        region.number = self._free_number()
        self._numbered[region.number] = region
        self.regions.append(region)
        if not len(region.storage):
            return region  # it holds no address, and its own may be anywhere
        at = bisect_right(self._starts, region.address)
        self._starts.insert(at, region.address)
        self._by_start.insert(at, region)
        return region

    def has_room(self) -> bool:
        """Whether to guard one more tensor: a forgetful memory, whose code may have any number, leaves the rest be."""
        if not self._forgetful or len(self.regions) < MOST_REGIONS - _SPARE:
            return True
        if self._left_out % _MORE_REGIONS == 0:
            self._forget_expired()
        self._left_out += 1
        return len(self.regions) < MOST_REGIONS - _SPARE

    def _free_name(self, base: str) -> str:
        name = base
        if self._forgetful:  # the same line, the same names, however often it has been run
            for count in range(2, _NAMES_TRIED):
                holder = self._holders.get(name)
                if holder is not None and holder.expired:
                    self.forget(holder)
                    holder = None
                if holder is None:
                    return name
                name = f"{base}#{count}"
        while name in self._names:
            count = self._names[base] = self._names.get(base, 1) + 1
            name = f"{base}#{count}"
        return name

    def _free_number(self) -> int:
        """The next one in turn: a pointer that has outlived its region is then not one into another."""
        self._last_number = self._last_number % MOST_REGIONS + 1
        while self._last_number in self._numbered:
            self._last_number = self._last_number % MOST_REGIONS + 1
        return self._last_number

    def numbered(self, number: int) -> Region | None:
        """The region of that number, from 1; None when there is none."""
        return self._numbered.get(number)

    def lend(self, region: Region) -> torch.Tensor:
        """The tensor of a region, for code that is not ours. When that is gone, no address is the region's any more,
        and a forgetful memory does not keep it.
        """
        tensor = region.tensor
        region.owner = _weakly(tensor.untyped_storage())
        return tensor

    def forget(self, *regions: Region) -> None:
        """Know regions no more: their names, numbers and addresses are free."""
        gone = set(map(id, regions))
        for region in regions:
            del self._names[region.name], self._numbered[region.number], self._holders[region.name]
        self.regions = [region for region in self.regions if id(region) not in gone]
        self._by_start = [region for region in self._by_start if id(region) not in gone]
        self._starts = [region.address for region in self._by_start]

    def _forget_expired(self) -> None:
        if expired := [region for region in self.regions if region.expired]:
            self.forget(*expired)
        self._look_at = 2 * len(self.regions) + _MORE_REGIONS
        self._bytes_left = _MORE_BYTES

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

    def place(
        self, name: str, role: Role, values: torch.Tensor, layout: Layout = CONTIGUOUS,
        undefined: np.ndarray[Any, Any] | None = None,
    ) -> Region:  # fmt: skip
        """A region that holds a copy of `values`, initialised but for what is `undefined`, bool [*shape]."""
        region = self.empty(name, role, tuple(values.shape), values.dtype, layout)
        region.tensor.copy_(values)
        region.seal()
        if undefined is not None:
            region.forget(undefined, self.poison)
        return region

    def find(self, address: int) -> Region | None:
        """The region whose storage, red zones included, holds a machine address."""
        while (at := bisect_right(self._starts, address) - 1) >= 0:
            region = self._by_start[at]
            if not region.expired:
                return region if address < region.address + len(region.storage) else None
            if not self._forgetful:
                return None
            self.forget(region)  # what lies there now may be another tensor's
        return None

    def snapshot(self, regions: Iterable[Region] | None = None) -> Snapshot:
        """What every region holds, or each of some, to go back to; and what of torch's own is met from now on."""
        # Not those whose tensors are gone: where unguarded ones lay, torch and numpy keep other things now.
        kept = [region for region in (self.regions if regions is None else regions) if not region.expired]
        taken = Snapshot([_held(region) for region in kept])
        self._snapshots.add(taken)
        return taken

    def restore(self, snapshot: Snapshot) -> None:
        """Put back what regions held."""
        for region, storage, shadow, sealed in snapshot:
            if region.expired:
                continue
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
        storage = tensor.untyped_storage()
        region = self.find(storage.data_ptr())
        if region is not None and self._forgetful and not _lies_in(storage, region):
            self.forget(region)
            region = None
        if region is None:
            with torch._C.DisableTorchFunction():  # an emulated GPU would answer
                device = tensor.device
            if device.type != "cpu":
                raise UsageError(f"{name}.device={str(device)!r}: the simulator takes tensors on 'cpu' only")
            region = self._take_in(foreign(name, tensor), storage)
        return region

    def pointed_to(self, address: int, alive: Storages) -> Region | None:
        """As `find`, for an address that a kernel was given without its tensor, which nobody may guard."""
        region = self.find(address)
        if region is None and (storage := alive.holding(address)) is not None:
            region = self._take_in(foreign_bytes("a tensor of torch's own", storage), storage)
        return region

    def _take_in(self, region: Region, storage: torch.UntypedStorage) -> Region:
        """Add a region that is nobody's but torch's."""
        if self._forgetful:
            region.keep, region.owner = None, _weakly(storage)
        for snapshot in self._snapshots:
            snapshot.regions.append(_held(region))
        return self.add(region)

    def note_host_write(self, tensor: torch.Tensor) -> None:
        """Mark a tensor's elements as initialised: code on the host wrote them."""
        region = self.find(tensor.data_ptr()) if tensor.numel() else None
        if region is None or region.sealed:
            return
        touched = region.select(tensor, region.shadow)
        np.bitwise_or(touched, (touched & ADDRESSABLE) << 1, out=touched)


def _weakly(storage: torch.UntypedStorage) -> StorageWeakRef:
    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]


def _lies_in(storage: torch.UntypedStorage, region: Region) -> bool:
    """Whether a storage at the address of a region is the region's still: torch may have moved or grown it."""
    if region.role is not Role.FOREIGN:
        return True
    return region.address == storage.data_ptr() and len(region.storage) == storage.nbytes()
