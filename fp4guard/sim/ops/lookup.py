"""tt.gather and tt.histogram."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ttir import Operation
from ..elements import Array
from ..machine import Machine
from ..trace import Site
from .shape import materialise
from .undefined import Effect, poisoned


def _gather(op: Operation) -> Callable[..., Any]:
    """Like torch.gather; an index out of range is undefined."""
    source, indices = (v.type for v in op.operands)
    axis = op.attributes["axis"] + 1
    size = source.shape[axis - 1]

    def apply(m: Machine, site: Site, x: Array, index: Array) -> Array:
        index = materialise(index, indices).view(f"u{index.dtype.itemsize}")
        bad = index >= size
        safe = np.where(bad, 0, index).astype(np.int64) if bad.any() else index.astype(np.int64)
        x = materialise(x, source)
        programs = max(len(x), len(safe))
        x, safe = (np.broadcast_to(a, (programs, *a.shape[1:])) for a in (x, safe))
        # Triton lets the other dimensions of the indices be no larger than the source's.
        places = list(np.ogrid[tuple(slice(n) for n in safe.shape)])
        places[axis] = safe
        return poisoned(m, site, x[tuple(places)], bad)

    return apply


def _histogram(op: Operation) -> Callable[..., Any]:
    """Bins of width 1 from 0. A value that is in none of them makes the whole histogram of its program undefined: the
    hardware's code looks at its lower bits only.
    """
    type_, bins = op.operands[0].type, op.result.type.shape[0]

    def apply(m: Machine, site: Site, x: Array, mask: Array | None = None) -> Array:
        x = materialise(x, type_)
        counted = np.ones((1, 1), bool) if mask is None else mask
        programs = max(len(x), len(counted))
        shape = (programs, *type_.shape)
        x, counted = np.broadcast_to(x, shape), np.broadcast_to(counted, shape)
        inside = (x >= 0) & (x < bins)
        rows = np.broadcast_to(np.arange(programs)[:, None], shape)
        chosen = inside & counted
        flat = rows[chosen] * bins + x[chosen]
        counts = np.bincount(flat.astype(np.int64), minlength=programs * bins).astype(np.int32)
        undefined: Array = np.any(counted & ~inside, axis=1, keepdims=True)
        return poisoned(m, site, counts.reshape(programs, bins), undefined)

    return apply


EFFECTS: dict[str, Effect] = {"tt.gather": _gather, "tt.histogram": _histogram}
