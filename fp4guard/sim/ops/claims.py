"""What a kernel claims about its own values (device_assert, assume): a false claim of a running program is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ttir import Operation
from ..elements import Array
from ..machine import Machine
from ..trace import Site
from .undefined import Effect


def _claim(op: Operation) -> Callable[..., Any]:
    def apply(m: Machine, site: Site, condition: Array) -> None:
        if condition.all():
            return
        false = ~condition if m.active is None else ~condition & m.spread(m.active, condition.ndim)
        if false.any():
            m.report("assert-failed", site, None, None, np.nonzero(false)[0])

    return apply


#: An assumption (`tl.assume`) is a promise to the compiler: when it is false, anything may happen on a GPU.
EFFECTS: dict[str, Effect] = {"tt.assert": _claim, "llvm.intr.assume": _claim}
