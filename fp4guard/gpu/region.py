"""A guarded buffer on a device: where it lies, what it was given, and how the guard kernels see it."""

from __future__ import annotations

import math
from operator import mul
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from ..errors import UnsupportedError
from ..memory import Poison, Region, Role
from .guards import ALIGNED, CHUNK, COLUMNS, DIMENSIONS, INPUT, OUTPUT, PATTERN, SCRATCH, WARPS, fill_kernel

_ROLES = {Role.INPUT: INPUT, Role.OUTPUT: OUTPUT, Role.SCRATCH: SCRATCH, Role.FOREIGN: OUTPUT}

#: Behind every offset of a region: the stride of a dimension of one element.
_FAR = 2**31 - 1


class DeviceRegion(Region):
    """As `Region`, but its bytes are `buffer`, torch.uint8 [n] on the device, and there is no shadow.

    `given` uint8 [n] holds the bytes of an input's elements in the order of their storage; None for other roles.
    `held` uint8 [PATTERN] is what its guards hold.
    """

    __slots__ = ("buffer", "given", "held")

    def __init__(
        self, name: str, role: Role, buffer: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...],
        strides: tuple[int, ...], base: int,
    ) -> None:  # fmt: skip
        storage: Any = buffer  # of whose bytes a memory asks the number and the address alone
        super().__init__(name, role, storage, dtype, shape, strides, base)
        self.buffer = buffer
        self.given: torch.Tensor | None = None
        self.held: torch.Tensor | None = None

    def _cast_shadow(self) -> None:
        """There is none."""

    @property
    def tensor(self) -> torch.Tensor:
        size = self.dtype.itemsize
        whole = self.buffer[: len(self.buffer) // size * size].view(self.dtype)
        return whole.as_strided(self.shape, self.strides, whole.storage_offset() + self.base // size)

    @property
    def address(self) -> int:
        return int(self.buffer.data_ptr())

    def seal(self) -> None:
        """There is no shadow: that something was written is seen by the poison that is gone."""

    def fill(self, poison: Poison) -> None:
        """Give the storage what it holds before the target runs; the device does it in its own time."""
        row = torch.tensor(self.row(self), dtype=torch.int64)
        fill_kernel[(-(-len(self.buffer) // CHUNK),)](
            row.to(self.buffer.device, non_blocking=True), CHUNK=CHUNK, num_warps=WARPS
        )

    def forget(self, mask: np.ndarray[Any, Any], poison: Poison) -> None:
        """Elements of an input (bool [*shape]) become poison, and are held to it as the others are to their values."""
        assert self.given is not None
        with _disable_current_modes():
            order = storage_order(self.strides)
            fresh = np.empty(len(self.buffer), np.uint8)
            poison.fill(fresh, self.dtype)
            of_poison = self.elements(fresh).transpose(*order, len(order))
            values = self.given.cpu().numpy().reshape(of_poison.shape).copy()
            chosen = mask.transpose(order)
            values[chosen] = of_poison[chosen]
            self.given = torch.from_numpy(values.reshape(-1)).to(self.buffer.device)
            self.fill(poison)

    def bits(self) -> np.ndarray[Any, Any]:
        """The elements' bytes as they were given, [*shape, itemsize]. Waits for the device."""
        assert self.given is not None
        order = storage_order(self.strides)
        ordered = self.given.cpu().numpy().reshape(*(self.shape[d] for d in order), self.dtype.itemsize)
        return np.asarray(ordered.transpose(*np.argsort(order), len(order)))

    def row(self, other: DeviceRegion, answered: bool = False) -> list[int]:
        """The region's row for the guard kernels, with its counterpart of the second run.

        `answered`: the target says what it has to hold, whatever its role.
        """
        sizes, steps = _merged(self.shape, self.strides, self.dtype.itemsize)
        values = [0 if r.given is None else r.given.data_ptr() for r in (self, other)]
        addresses = [r.address for r in (self, other)]
        aligned = all(place % ALIGNED == 0 for place in (*addresses, self.base, *values))
        row = [
            *addresses,
            len(self.buffer),
            self.base,
            self.dtype.itemsize,
            OUTPUT if answered and self.role is Role.SCRATCH else _ROLES[self.role],
            *values,
            *(0 if r.held is None else r.held.data_ptr() for r in (self, other)),
            sizes[0] * steps[0] if steps == [self.dtype.itemsize] and aligned else 0,
        ]
        missing = DIMENSIONS - len(sizes)
        row += [*[1] * missing, *sizes, *[_FAR] * missing, *steps]
        assert len(row) == len(COLUMNS)
        return row

    def mirror(self) -> Region:
        """A copy in the host's memory, for the checks that name what is wrong. Waits for the device."""
        host = self.buffer.to("cpu", copy=True).numpy()
        mirror = Region(self.name, self.role, host, self.dtype, self.shape, self.strides, self.base)
        mirror.huge = False  # the device has poison everywhere, however large it is
        return mirror

    def same_place(self, other: Any) -> bool:
        """Whether another run's region is this one's counterpart."""
        mine = (self.name, self.role, self.dtype, self.shape, self.strides, self.base, len(self.buffer))
        return isinstance(other, DeviceRegion) and mine == (
            other.name, other.role, other.dtype, other.shape, other.strides, other.base, len(other.buffer),
        )  # fmt: skip


def pattern(poison: Poison, dtype: torch.dtype) -> np.ndarray[Any, Any]:
    """uint8 [PATTERN]: poison for elements of a type, from the start of the storage on."""
    held = np.empty(PATTERN, np.uint8)
    poison.fill(held, dtype)
    return held


def storage_order(strides: tuple[int, ...]) -> list[int]:
    """The dimensions, the one with the largest stride first."""
    return sorted(range(len(strides)), key=lambda d: -strides[d])


def _merged(shape: tuple[int, ...], strides: tuple[int, ...], item: int) -> tuple[list[int], list[int]]:
    """Sizes, and strides in bytes, in storage order; dimensions that lie behind one another without a gap are one."""
    if math.prod(shape) == 0:
        return [0], [item]
    sizes: list[int] = []
    steps: list[int] = []
    for d in storage_order(strides):
        # A dimension of one element has no stride to speak of, and one of stride 0 is the same elements again.
        if shape[d] == 1 or strides[d] == 0:
            continue
        if steps and steps[-1] == shape[d] * strides[d] * item:
            sizes[-1] *= shape[d]
            steps[-1] = strides[d] * item
        else:
            sizes.append(shape[d])
            steps.append(strides[d] * item)
    # Where dimensions interleave or overlap, an element's place does not follow from dividing by strides.
    if len(sizes) > DIMENSIONS or any(step < inner for step, inner in zip(steps, map(mul, sizes[1:], steps[1:]))):
        raise UnsupportedError(f"a tensor of shape {shape} and strides {strides} in guarded memory on a GPU")
    return sizes or [1], steps or [item]
