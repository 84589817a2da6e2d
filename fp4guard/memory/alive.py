"""Tensors of torch's own at addresses that a kernel was given: so seldom asked for that nothing is noted before."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch.utils._python_dispatch import _disable_current_modes


def storages_at(addresses: Sequence[int]) -> list[torch.UntypedStorage]:
    """The storages on the CPU that hold machine addresses, of all tensors that Python still has; each once."""
    if not addresses:
        return []
    found: dict[int, torch.UntypedStorage] = {}
    # An emulated GPU would answer for its tensors, and GuardAllocations would see what is asked.
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        for one in gc.get_objects():
            if type(one) not in (torch.Tensor, torch.nn.Parameter):
                continue
            with suppress(NotImplementedError, RuntimeError):  # sparse ones and those of transformations have none
                storage = one.untyped_storage()
                start, size = storage.data_ptr(), storage.nbytes()
                if storage.device.type == "cpu" and any(start <= address < start + size for address in addresses):
                    found[start] = storage
    return list(found.values())
