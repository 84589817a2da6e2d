"""Where numpy's temporary arrays live."""

from __future__ import annotations

import ctypes
from functools import cache

#: glibc's mallopt(3): blocks above the first are memory of their own, and freed memory above the second goes back.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_LARGEST_BLOCK, _KEPT = 32 << 20, 256 << 20


@cache
def keep_temporaries() -> None:
    """Let memory that arrays give back stay with the process, up to 256 MiB of it.

    glibc hands freed memory back to the system at once, and gets it anew with a fault for every page: that costs many
    times what is then computed in it. Other allocators are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
