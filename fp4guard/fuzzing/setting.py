"""Where cases execute."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the cases of a run execute.

    `device` is sim, cuda or hip, and auto until it is resolved; `guard_pages` places buffers so that they end, in a
    second pair of runs begin, at a page that is not mapped (cuda alone); `isolated` runs cases of the simulator in a
    process of their own, as those of a GPU always do; `timeout` is seconds for a case there, the compilation of its
    kernels included.
    """

    device: str = "sim"
    guard_pages: bool = False
    isolated: bool = False
    timeout: float = 120.0

    @property
    def in_process(self) -> bool:
        """Whether cases run in the process that asks for them."""
        return self.device == "sim" and not self.isolated

    def __str__(self) -> str:
        more = [name for name in ("guard_pages", "isolated") if getattr(self, name)]
        return ", ".join([self.device, *(name.replace("_", " ") for name in more)])


#: In the simulator, in the process that asks.
SIMULATED = Setting()
