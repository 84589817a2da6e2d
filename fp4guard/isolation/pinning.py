"""One GPU for each of several processes: chosen before CUDA starts, of those that the caller may use."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from ..gpu.device import count

#: Where a GPU's number, or its UUID, is named: CUDA reads the first, and ROCm's HIP both, its own before the other.
_VARIABLES = {"cuda": ("CUDA_VISIBLE_DEVICES",), "hip": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")}


def pin(worker: int, device: str, environment: MutableMapping[str, str] = os.environ) -> str | None:
    """Leave the n-th worker the n-th of the visible GPUs, or, of fewer, the n-th counted around; which one.

    None, and nothing is changed, where there is none.
    """
    names = _VARIABLES[device]
    name = next((name for name in names if name in environment), names[0])
    if name in environment:
        visible = [entry.strip() for entry in environment[name].split(",") if entry.strip()]
    else:
        visible = [str(i) for i in range(count())]
    if not visible:
        return None
    environment[name] = chosen = visible[worker % len(visible)]
    return chosen
