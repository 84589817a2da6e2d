"""What torch made, guarded or not: a kernel may be given no more of it than an address."""

from __future__ import annotations

import torch
from torch.multiprocessing.reductions import StorageWeakRef

#: Storages that are noted before those are looked for that are gone.
_FEW = 1 << 10


class Made:
    """Storages by where they begin, as long as torch keeps them."""

    def __init__(self) -> None:
        self._storages: dict[int, StorageWeakRef] = {}
        self._look_at = _FEW

    def note(self, tensor: torch.Tensor) -> None:
        """Take in the storage of a plain tensor on the CPU."""
        storage = tensor.untyped_storage()
        self._storages[storage.data_ptr()] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        if len(self._storages) >= self._look_at:
            self._storages = {start: one for start, one in self._storages.items() if not one.expired()}  # type: ignore[no-untyped-call]
            self._look_at = 2 * len(self._storages) + _FEW

    def holding(self, address: int) -> torch.UntypedStorage | None:
        """The storage that a machine address lies in; None where there is none."""
        for start, weak in self._storages.items():
            storage = torch.UntypedStorage._new_with_weak_ptr(weak.cdata) if start <= address else None
            if storage is not None and address < start + storage.nbytes():
                return storage
        return None
