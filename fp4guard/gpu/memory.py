"""The guarded allocator of one run of a case on a GPU: what a target sees as `mem`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from ..errors import UnsupportedError
from ..fuzzing.case import Case
from ..fuzzing.memory import CaseMemory
from ..memory import Layout, Poison, Region, Role
from ..memory.layouts import CONTIGUOUS, span
from ..memory.region import ALIGNMENT
from .allocators import Allocator
from .region import DeviceRegion, pattern, storage_order

#: Red zones are as wide as a row of the tensor, but at least and at most so. No tile that is known has a row wider than
#: the least; without the most, those of a tensor of one dimension would each be as large as it.
ZONE, WIDEST_ZONE = 4096, 1 << 16

#: Offsets of the guard kernels are 32-bit. It is a number of granules of guard pages, which round sizes up to that.
MOST_BYTES = 2**31 - (8 << 20)


class DeviceMemory(CaseMemory):
    """`CaseMemory` whose tensors are on a GPU.

    Layouts whose parts lie 2^31 elements apart are the simulator's: it alone pays nothing for what lies between.
    """

    def __init__(self, case: Case, poison: Poison, cache: dict[str, Any], allocator: Allocator) -> None:
        super().__init__(case, poison, cache)
        self._allocator = allocator
        self.device, self.device_type = allocator.device, allocator.device.type

    #: What a region is made of.
    region = DeviceRegion

    def empty(
        self, name: str, role: Role, shape: tuple[int, ...], dtype: torch.dtype, layout: Layout = CONTIGUOUS
    ) -> Region:
        return self._make(name, role, shape, dtype, layout.strides(shape), layout.offset)

    def empty_strided(
        self, name: str, role: Role, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype
    ) -> Region:
        return self._make(name, role, shape, dtype, strides, 0)

    def place(
        self, name: str, role: Role, values: torch.Tensor, layout: Layout = CONTIGUOUS,
        undefined: np.ndarray[Any, Any] | None = None,
    ) -> Region:  # fmt: skip
        shape = tuple(values.shape)
        strides = layout.strides(shape)
        given = self._uploaded(values, strides)
        return self._make(name, role, shape, values.dtype, strides, layout.offset, given, undefined)

    def region_of(self, tensor: torch.Tensor, name: str) -> Region:
        if tensor.device.type != self.device_type:
            return super().region_of(tensor, name)
        whole = tensor.untyped_storage()
        # Not data_ptr(), which is 0 for a tensor of no elements.
        region = self.find(whole.data_ptr() + int(tensor.storage_offset()) * tensor.element_size())
        if region is None:
            with _disable_current_modes():
                storage = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(whole)
            count = whole.nbytes() // tensor.element_size()
            # Without the bytes that make no element: nobody has put poison there.
            storage = storage[: count * tensor.element_size()]
            foreign = DeviceRegion(name, Role.FOREIGN, storage, tensor.dtype, (count,), (1,), 0)
            foreign.held = self._pattern(tensor.dtype)
            region = self.add(foreign)
            region.keep = tensor  # the addresses must not be given to another tensor while the region is known
        return region

    def lend(self, region: Region) -> torch.Tensor:
        """The tensor of a region, which is checked at the end of the run though the tensor may be gone."""
        return region.tensor

    def remember(self, region: Region) -> None:
        """The device has what an input was given."""

    def note_host_write(self, tensor: torch.Tensor) -> None:
        """Regions of the device have no shadow to note it in."""

    def _make(
        self, name: str, role: Role, shape: tuple[int, ...], dtype: torch.dtype, strides: tuple[int, ...],
        offset: int, given: torch.Tensor | None = None, undefined: np.ndarray[Any, Any] | None = None,
    ) -> Region:  # fmt: skip
        size = dtype.itemsize
        inside = (span(shape, strides) + offset) * size
        row = shape[-1] * size if shape else 0
        zone = min(max(ZONE, -(-row // ALIGNMENT) * ALIGNMENT), WIDEST_ZONE)
        if inside + 2 * zone > MOST_BYTES:
            raise UnsupportedError(f"a tensor of {inside} bytes (`{name}`) in guarded memory on a GPU")
        with _disable_current_modes():
            storage, base = self._allocator.take(inside, zone)
            region = self.region(name, role, storage, dtype, shape, strides, base + offset * size)
            region.given, region.held = given, self._pattern(dtype)
            if undefined is None:
                region.fill(self.poison)
            else:
                region.forget(undefined, self.poison)
        return self.add(region)

    def _pattern(self, dtype: torch.dtype) -> torch.Tensor:
        """The run's poison, on the device; made anew for every case, for a kernel may write anywhere."""
        known = self._cache.setdefault("poison on the device", {})
        key = self.poison.pattern, dtype
        if key not in known:
            with _disable_current_modes():
                known[key] = torch.from_numpy(pattern(self.poison, dtype)).to(self._allocator.device)
        return known[key]  # type: ignore[no-any-return]

    def renew_patterns(self) -> None:
        """Send the poison to the device again, for the check: a kernel that writes anywhere may have written to it."""
        self._cache.pop("poison on the device", None)
        for region in self:
            if isinstance(region, DeviceRegion):
                region.held = self._pattern(region.dtype)

    def _uploaded(self, values: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
        """The bytes of values in storage order, on the device; sent once a case where the host has them."""
        with _disable_current_modes():
            held = values.detach().permute(storage_order(strides)).reshape(-1).contiguous().view(torch.uint8)
            if held.device.type == self.device_type and self.device_type != "cpu":
                return held.clone()
            for known, sent in self._cache.setdefault("sent to the device", []):
                if known.shape == held.shape and torch.equal(known, held):
                    return sent  # type: ignore[no-any-return]
            sent = held.to(self._allocator.device, copy=True)
            # A copy: what the target gave is the target's, which may change it and give it again.
            self._cache["sent to the device"].append((held.clone(), sent))
            return sent

    def _layout(self, name: str, layouts: Sequence[Layout]) -> Layout:
        # The same number is the same layout as in the simulator. Where that one's parts lie too far apart, it is the
        # one with the widest gaps: whoever takes them to follow one another is wrong there as well.
        layout = super()._layout(name, layouts)
        near = [other for other in layouts if not other.reach]
        return max(near, key=lambda other: (other.plane_gap, other.row_gap)) if layout.reach and near else layout
