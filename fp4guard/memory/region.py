"""One guarded buffer: its bytes, its red zones, and the shadow that says what each byte is."""

from __future__ import annotations

import ctypes
import mmap
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from .layouts import CONTIGUOUS, Layout, span
from .placement import put, unwatched
from .poison import Poison

#: Bits of a shadow byte. A byte of a red zone or of a gap between rows has neither.
ADDRESSABLE, INITIALISED = 1, 2
DEFINED = ADDRESSABLE | INITIALISED

#: A buffer of more bytes than this, most of them gaps between rows, is poisoned only in its elements and near its ends:
#: memory that nobody touches then costs nothing.
HUGE = 1 << 26

#: Address space that nobody has to be able to back with memory (Linux; Python names it since 3.11).
_NORESERVE = 0x4000

#: Red zones are at least this wide, and storage starts at this alignment, as CUDA's allocator's does.
ALIGNMENT = 256

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Role(Enum):
    """Whose buffer it is."""

    INPUT = "input"
    OUTPUT = "output"
    SCRATCH = "scratch"
    FOREIGN = "not guarded"


class Region:
    """A buffer with its shadow.

    `storage` uint8 [n] holds the red zones too; `shadow` uint8 [n] says of each byte whether it belongs to an element
    (ADDRESSABLE) and whether something defined was written to it (INITIALISED). `base` is the byte offset of the
    tensor's first element in `storage`; `first` and `last` bound the addressable bytes.

    `dense` means that no gap lies between `first` and `last`. `sealed` means that all addressable bytes are
    initialised. Both only save work. `number` is the one that the memory knows the region by; `owner` refers weakly to
    the storage of torch for whose sake it does, where it forgets regions when theirs is gone.
    """

    __slots__ = (
        "_views", "base", "dense", "dtype", "first", "huge", "keep", "last", "name", "number", "owner", "role",
        "sealed", "shadow", "shape", "storage", "strides",
    )  # fmt: skip

    def __init__(
        self, name: str, role: Role, storage: Bytes, dtype: torch.dtype, shape: tuple[int, ...],
        strides: tuple[int, ...], base: int,
    ) -> None:  # fmt: skip
        self.name, self.role, self.storage, self.dtype = name, role, storage, dtype
        self.shape, self.strides, self.base = shape, strides, base
        self.first, self.last = base, base + span(shape, strides) * dtype.itemsize
        self.huge = len(storage) > HUGE
        self.dense = self.sealed = False
        self.keep: Any = None
        self.number = 0
        self.owner: StorageWeakRef | None = None
        self._views: dict[tuple[str, int], np.ndarray[Any, Any]] = {}
        self._cast_shadow()

    def _cast_shadow(self) -> None:
        self.shadow: Bytes = zeros(len(self.storage))
        self.elements(self.shadow)[...] = ADDRESSABLE
        self.dense = not self.huge and bool(self.shadow[self.first : self.last].all())

    def elements(self, storage: Bytes) -> np.ndarray[Any, Any]:
        """The bytes of `storage` (or of the shadow) that are the tensor's, as [*shape, itemsize]."""
        size = self.dtype.itemsize
        return np.lib.stride_tricks.as_strided(
            storage[self.base :],
            shape=(*self.shape, size),
            strides=(*(stride * size for stride in self.strides), 1),
        )

    @property
    @unwatched
    def tensor(self) -> torch.Tensor:
        """The guarded tensor itself; a view of `storage`, as a new storage of torch. It counts as a GPU's."""
        size = self.dtype.itemsize
        whole = torch.from_numpy(self.storage).view(self.dtype)
        return put(whole.as_strided(self.shape, self.strides, self.base // size), True)

    @property
    def expired(self) -> bool:
        """Whether no tensor is left that lies in it."""
        return self.owner is not None and bool(self.owner.expired())  # type: ignore[no-untyped-call]

    @property
    def address(self) -> int:
        """The machine address of `storage`."""
        return int(self.storage.ctypes.data)

    def view(self, array: str, width: int) -> np.ndarray[Any, Any]:
        """`storage` or `shadow` as unsigned integers of `width` bytes; what is less than one at the end is left out."""
        key = (array, width)
        found = self._views.get(key)
        if found is None:
            whole: Bytes = getattr(self, array)
            found = self._views[key] = whole[: len(whole) // width * width].view(f"u{width}")
        return found

    def seal(self) -> None:
        """Mark every element as initialised."""
        self.elements(self.shadow)[...] = DEFINED
        self.sealed = True

    def forget(self, mask: np.ndarray[Any, Any], poison: Poison) -> None:
        """Make elements (bool [*shape]) uninitialised again: poison, and reading them is noted."""
        fresh = _fresh(len(self.storage))
        self.poison(poison, fresh)
        self.elements(self.storage)[mask] = self.elements(fresh)[mask]
        self.elements(self.shadow)[mask] = ADDRESSABLE
        self.sealed = self.sealed and not mask.any()

    def contents(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """What a launch may write to: storage and shadow, of a huge buffer the elements alone."""
        if self.huge:
            return self.elements(self.storage), self.elements(self.shadow)
        return self.storage, self.shadow

    def bits(self) -> np.ndarray[Any, Any]:
        """A copy of the elements' bytes, [*shape, itemsize]."""
        return np.array(self.elements(self.storage))

    def select(self, tensor: torch.Tensor, array: Bytes) -> np.ndarray[Any, Any]:
        """The bytes of `storage` or `shadow` that belong to a view of the region's tensor, [*shape, itemsize]."""
        size = tensor.dtype.itemsize
        return np.lib.stride_tricks.as_strided(
            array[tensor.data_ptr() - self.address :] if tensor.numel() else array,
            shape=(*tensor.shape, size),
            strides=(*(stride * size for stride in tensor.stride()), 1),
        )

    def uninitialised(self) -> np.ndarray[Any, Any]:
        """Bool [*shape]: elements with a byte that nothing defined was written to."""
        if self.sealed:
            return np.zeros(self.shape, bool)
        return np.asarray((self.elements(self.shadow) != DEFINED).any(axis=-1))

    def disturbed(self, poison: Poison) -> np.ndarray[Any, Any]:
        """Byte offsets in `storage` where a red zone or a gap no longer holds the poison."""
        if self.role is Role.FOREIGN:
            return np.zeros(0, np.int64)
        if self.huge:
            last = len(self.storage) - ALIGNMENT
            ends = np.r_[: self.base, last : len(self.storage)]
            expected = np.empty(len(ends), np.uint8)
            poison.fill(expected[: self.base], self.dtype)
            poison.fill(expected[self.base :], self.dtype)
            return ends[self.storage[ends] != expected]
        expected = np.empty_like(self.storage)
        poison.fill(expected, self.dtype)
        return np.flatnonzero((self.storage != expected) & (self.shadow == 0))

    def poison(self, poison: Poison, storage: Bytes) -> None:
        """Fill `storage`, or another array of its size, with poison; of a huge one the elements and the ends."""
        if not self.huge:
            poison.fill(storage, self.dtype)
            return
        poison.fill(storage[: self.base], self.dtype)
        poison.fill(storage[-ALIGNMENT:], self.dtype)
        one = np.empty(self.dtype.itemsize, np.uint8)
        poison.fill(one, self.dtype)
        self.elements(storage)[...] = one

    def holds(self, poison: Poison) -> np.ndarray[Any, Any]:
        """Bool [*shape]: elements that still hold the poison they were made with."""
        fresh = _fresh(len(self.storage))
        self.poison(poison, fresh)
        return np.asarray((self.elements(self.storage) == self.elements(fresh)).all(axis=-1))

    def describe(self) -> str:
        """`uint8 [33, 5] stride (21, 1), guarded`."""
        dtype = str(self.dtype).removeprefix("torch.")
        text = f"{dtype} {list(self.shape)}"
        if self.strides != CONTIGUOUS.strides(self.shape):
            text += f" stride {self.strides}"
        return f"{text}, {'not guarded' if self.role is Role.FOREIGN else 'guarded'}"


def guarded(
    name: str, role: Role, shape: tuple[int, ...], dtype: torch.dtype, layout: Layout, poison: Poison
) -> Region:
    """Allocate a region of poison with red zones on both sides, and between rows where the layout has gaps."""
    return guarded_strided(name, role, shape, dtype, layout.strides(shape), layout.offset, poison)


def guarded_strided(
    name: str,
    role: Role,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    strides: tuple[int, ...],
    offset: int,
    poison: Poison,
) -> Region:
    """As `guarded`, with strides and offset given in elements."""
    size = dtype.itemsize
    inside = (span(shape, strides) + offset) * size
    zone = ALIGNMENT * (1 + (shape[-1] * size if shape else 0) // ALIGNMENT)
    total = 2 * zone + -(-inside // ALIGNMENT) * ALIGNMENT
    raw = _fresh(total + ALIGNMENT)
    start = -raw.ctypes.data % ALIGNMENT
    region = Region(name, role, raw[start : start + total], dtype, shape, strides, zone + offset * size)
    region.poison(poison, region.storage)
    return region


def zeros(size: int) -> Bytes:
    """Zeros, uint8 [size]; of a huge array, memory is taken for the pages that are written alone."""
    return _sparse(size) if size > HUGE else np.zeros(size, np.uint8)


def _fresh(size: int) -> Bytes:
    return _sparse(size) if size > HUGE else np.empty(size, np.uint8)


def _sparse(size: int) -> Bytes:
    """As numpy's own, but in small pages: numpy asks for huge ones, and a byte a row then costs 2 MB a row."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def foreign(name: str, tensor: torch.Tensor) -> Region:
    """The region of a tensor that fp4guard did not allocate: its whole storage is addressable and initialised."""
    storage = tensor.untyped_storage()
    shape: tuple[int, ...] = (storage.nbytes() // tensor.dtype.itemsize,)
    if tensor.is_contiguous() and tensor.numel() == shape[0]:
        shape = tuple(tensor.shape)  # messages then show it as its owner knows it
    return _foreign(name, storage, tensor.dtype, shape)


def foreign_bytes(name: str, storage: torch.UntypedStorage) -> Region:
    """As `foreign`, of a storage whose tensors nobody has shown."""
    return _foreign(name, storage, torch.uint8, (storage.nbytes(),))


def _foreign(name: str, storage: torch.UntypedStorage, dtype: torch.dtype, shape: tuple[int, ...]) -> Region:
    # Through the address: torch operations would be seen by GuardAllocations, and some dtypes have no view as bytes.
    array = np.zeros(0, np.uint8)
    if storage.nbytes():
        array = np.ctypeslib.as_array((ctypes.c_uint8 * storage.nbytes()).from_address(storage.data_ptr()))
    region = Region(name, Role.FOREIGN, array, dtype, shape, CONTIGUOUS.strides(shape), 0)
    region.keep = storage  # the addresses must not be given to another tensor while the region is known
    region.seal()
    return region
