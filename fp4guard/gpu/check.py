"""What two runs of a case left on the device: one pass over all regions, one wait for the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..memory import ADDRESSABLE, Memory, Region, Role
from .guards import CHUNK, COUNTS, WARPS, check_kernel
from .memory import DeviceMemory
from .region import DeviceRegion


@dataclass(frozen=True)
class Verdict:
    """`counts` int32 [regions, COUNTS], bytes; None where the runs did not allocate the same, and cannot be paired."""

    counts: np.ndarray[Any, Any] | None

    @property
    def clean(self) -> bool:
        """Whether all guards and inputs are as they were, and no output depends on poison."""
        return self.counts is not None and not self.counts.any()

    @property
    def guards(self) -> int:
        """Guard bytes that changed, in either run."""
        return 0 if self.counts is None else int(self.counts[:, :2].sum())


def compare(first: DeviceMemory, second: DeviceMemory, device: torch.device) -> Verdict:
    """Check the guards and inputs of both runs, and the outputs of one against the other's."""
    ours = [_on_device(memory) for memory in (first, second)]
    if len(ours[0]) != len(ours[1]) or not all(map(DeviceRegion.same_place, *ours)):
        return Verdict(None)
    if not ours[0]:
        return Verdict(np.zeros((0, len(COUNTS)), np.int32))
    for memory in (first, second):
        memory.renew_patterns()
    # Whatever the target answers for counts as an output, whoever allocated it.
    answered = {second.region_of(tensor, name).name for name, (tensor, _) in second.expectations.items()}
    rows = torch.tensor([one.row(other, one.name in answered) for one, other in zip(*ours)], dtype=torch.int64)
    counts = torch.zeros((len(rows), len(COUNTS)), dtype=torch.int32, device=device)
    chunks = -(-max(len(region.storage) for region in ours[0]) // CHUNK)
    check_kernel[(chunks, len(rows))](rows.to(device), counts, CHUNK=CHUNK, num_warps=WARPS)
    return Verdict(counts.cpu().numpy())


def _on_device(memory: DeviceMemory) -> list[DeviceRegion]:
    return [region for region in memory if isinstance(region, DeviceRegion) and len(region.storage)]


def mirror(memory: DeviceMemory, names: set[str] | None = None) -> Memory:
    """The regions of those names (None: all) in the host's memory. Waits for the device."""
    host = Memory(memory.poison)
    for region in memory:
        if names is None or region.name in names:
            host.add(region.mirror() if isinstance(region, DeviceRegion) else region)
    return host


def counterpart(tensor: torch.Tensor, region: Region, host: Memory) -> torch.Tensor:
    """A tensor of the device's as a view of its region's mirror."""
    if not isinstance(region, DeviceRegion):
        return tensor
    mirrored = host.named(region.name)
    item = tensor.element_size()
    whole = tensor.untyped_storage().data_ptr() + tensor.storage_offset() * item
    storage = torch.from_numpy(mirrored.storage)
    # A view with another type of element may begin where the storage cannot be cut into elements of its own.
    begin = whole - region.address if tensor.numel() else 0
    cut = storage[begin:]
    return cut[: len(cut) // item * item].view(tensor.dtype).as_strided(tensor.shape, tensor.stride())


def note_written(first: Memory, second: Memory) -> None:
    """Give mirrors of two runs their shadow: an element that holds the poison of both was written in neither."""
    for one in first:
        if one.name not in second:
            continue
        other = second.named(one.name)
        if other.shape != one.shape or other.dtype != one.dtype:
            continue
        fresh = one.holds(first.poison) & other.holds(second.poison)
        for region in (one, other):
            region.seal()
            if region.role is Role.FOREIGN:
                continue
            region.elements(region.shadow)[fresh] = ADDRESSABLE
            region.sealed = not fresh.any()
