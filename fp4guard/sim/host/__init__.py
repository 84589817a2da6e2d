"""Host code written for a GPU, unchanged: `device="cuda"`, `torch.cuda` and Triton's driver answer for an architecture.

`Emulation(arch).active()` is the one way in; it undoes itself.
"""

from .current import current
from .emulation import Emulation, patched

__all__ = ["Emulation", "current", "patched"]
