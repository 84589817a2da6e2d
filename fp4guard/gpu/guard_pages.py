"""Buffers that lie between pages that are not mapped: an access of one element too many is a fault of the GPU.

Through CUDA's virtual-memory API, as its driver offers it (CUDA Driver API, 6.14). Memory is mapped in units of the
card's granularity, 2 MiB so far; a mapping is kept and used again, for making one takes half a millisecond.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from ..errors import UsageError

#: A buffer touches the page before it, or the one behind it.
ENDS = ("behind", "before")

#: A buffer that ends at a page begins where Triton's specialisation for aligned pointers still holds, so that what it
#: lies on is compiled as ever: up to 15 bytes lie between its end and the page. They are guard bytes.
SLACK = 16

_DEVICE, _PINNED, _READ_WRITE = 1, 1, 3
_OUT_OF_MEMORY = 2


class _Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


class _Properties(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("handle_types", ctypes.c_int), ("location", _Location),
        ("win32", ctypes.c_void_p), ("flags", ctypes.c_ubyte * 8),
    ]  # fmt: skip


class _Access(ctypes.Structure):
    _fields_ = [("location", _Location), ("flags", ctypes.c_int)]


class _Bytes:
    """Memory of the device as others take it over (the CUDA array interface, version 3)."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size,), "typestr": "|u1", "data": (address, False), "strides": None, "version": 3,
        }  # fmt: skip


class _Mapping:
    """Mapped memory, and the storage of torch that was made of it last."""

    def __init__(self, address: int, size: int) -> None:
        self._address, self._size = address, size
        self._storage: StorageWeakRef | None = None

    @property
    def free(self) -> bool:
        """Whether no tensor lies in it."""
        return self._storage is None or bool(self._storage.expired())  # type: ignore[no-untyped-call]

    def tensor(self, device: torch.device) -> torch.Tensor:
        """All of it, uint8 [size]."""
        whole = torch.as_tensor(_Bytes(self._address, self._size), device=device)
        self._storage = StorageWeakRef(whole.untyped_storage())  # type: ignore[no-untyped-call]
        return whole


class GuardPages:
    """An allocator that puts each buffer beside a page that is not mapped: `behind` it, or `before` it."""

    def __init__(self, device: torch.device, end: str) -> None:
        if device.type != "cuda" or torch.version.hip:
            raise UsageError("guard_pages=True: CUDA's driver alone has them; allowed is False")
        self.device = device
        self._end = end
        self._mapped: dict[int, list[_Mapping]] = {}

    def take(self, inside: int, zone: int) -> tuple[torch.Tensor, int]:
        granule = _granularity(self.device.index)
        size = _class(max(-(-inside // granule), 1)) * granule
        of_size = self._mapped.setdefault(size, [])
        mapping = next((mapping for mapping in of_size if mapping.free), None)
        if mapping is None:
            mapping = _Mapping(self._map(size, granule), size)
            of_size.append(mapping)
        storage = mapping.tensor(self.device)
        # Of a buffer of no bytes, too, the place is one of the mapping's.
        return storage, 0 if self._end == "before" else size - max(-(-inside // SLACK), 1) * SLACK

    def _map(self, size: int, granule: int) -> int:
        try:
            return _map(self.device, size, granule)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # what torch keeps for later is no lack of memory
            return _map(self.device, size, granule)


#: Granules that make a region as large as one may be, where a granule is 2 MiB.
_MOST = 1020


def _class(granules: int) -> int:
    """Few sizes, so that few mappings are ever made: powers of two up to a gigabyte, then eighths of it."""
    if granules <= 512:
        return 1 << (granules - 1).bit_length()
    return max(min(-(-granules // 64) * 64, _MOST), granules)


def _map(device: torch.device, size: int, granule: int) -> int:
    """The address of memory with a granule on both sides that nothing is mapped to. It is never unmapped."""
    start, handle = ctypes.c_uint64(), ctypes.c_uint64()
    total = size + 2 * granule
    _call(
        "cuMemAddressReserve", ctypes.byref(start), _size(total), _size(granule), ctypes.c_uint64(0), ctypes.c_uint64(0)
    )
    properties = _properties(device.index)
    _call("cuMemCreate", ctypes.byref(handle), _size(size), ctypes.byref(properties), ctypes.c_uint64(0))
    address = start.value + granule
    _call("cuMemMap", ctypes.c_uint64(address), _size(size), _size(0), handle, ctypes.c_uint64(0))
    access = _Access(_Location(_DEVICE, device.index), _READ_WRITE)
    _call("cuMemSetAccess", ctypes.c_uint64(address), _size(size), ctypes.byref(access), _size(1))
    return address


@cache
def _granularity(index: int) -> int:
    found = ctypes.c_size_t()
    properties = _properties(index)
    _call("cuMemGetAllocationGranularity", ctypes.byref(found), ctypes.byref(properties), ctypes.c_int(0))
    return found.value


def _properties(index: int) -> _Properties:
    return _Properties(_PINNED, 0, _Location(_DEVICE, index), None)


_size = ctypes.c_size_t


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_driver(), name)(*arguments)
    if status == _OUT_OF_MEMORY:
        raise torch.OutOfMemoryError(f"{name} of CUDA's driver: out of memory")
    if status:
        raise RuntimeError(f"{name} of CUDA's driver gave error {status}")


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")
