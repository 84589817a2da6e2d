"""Which devices there are, by the names that users give."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import UsageError

#: What `--device` takes. `auto` is the GPU where there is one, and the simulator elsewhere.
DEVICES = ("sim", "cuda", "hip", "auto")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as torch and Triton name it; `arch` is sm_<n> or gfx<n>."""

    device: torch.device
    arch: str


def resolve(name: str) -> str:
    """`sim`, `cuda` or `hip`; starts no GPU. UsageError for a name that is none, or a GPU that is not there."""
    if name not in DEVICES:
        raise UsageError(f"device={name!r}: allowed are {', '.join(DEVICES)}")
    if name == "sim":
        return name
    there = _there()
    if name == "auto":
        return there or "sim"
    if name != there:
        found = f"the GPU here is for {there!r}" if there else "no GPU is here"
        raise UsageError(f"device={name!r}: {found}; allowed are sim and auto{f', {there}' if there else ''}")
    return name


def current_gpu() -> Gpu:
    """The GPU of this process, which is started; UsageError where there is none."""
    there = _there()
    if there is None:
        raise UsageError("no GPU is here")
    device = torch.device("cuda", torch.cuda.current_device())
    if there == "hip":
        return Gpu(device, torch.cuda.get_device_properties(device).gcnArchName.split(":")[0])
    major, minor = torch.cuda.get_device_capability(device)
    return Gpu(device, f"sm_{major}{minor}")


def count() -> int:
    """GPUs that this process may use; starts none of them."""
    # Not is_available(), which starts the driver: it would read CUDA_VISIBLE_DEVICES, and no pinning come after it.
    return torch.cuda.device_count()


def _there() -> str | None:
    if not count():
        return None
    return "hip" if torch.version.hip else "cuda"
