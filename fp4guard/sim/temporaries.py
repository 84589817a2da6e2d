"""Where numpy's temporary arrays live."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Bytes, below the largest threshold that glibc moves by itself (32 MiB).
_LARGE = 31 << 20


@lru_cache(maxsize=None)
def keep_temporaries() -> None:
    """Let memory that arrays give back stay with the process, up to 62 MiB of it.

    glibc hands freed memory back to the system above a threshold and gets it anew with a fault for every page, which
    costs many times what is then computed in it. The threshold follows the largest block that was freed so far, twice
    its size (mallopt(3), M_MMAP_THRESHOLD). Other allocators do not mind.
    """
    np.empty(_LARGE, np.uint8)
