"""Benchmarks of host code: what is to be timed runs once, for how long the simulator takes says nothing of a GPU."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import triton.testing

from .current import Patch, answering

if TYPE_CHECKING:
    from .emulation import Emulation

#: Triton's, as far as a release has them.
_BENCHMARKS = ("do_bench", "do_bench_cudagraph", "do_bench_proton")


def patches() -> list[Patch]:
    """What is replaced in Triton."""
    found = [name for name in _BENCHMARKS if hasattr(triton.testing, name)]
    return [(triton.testing, name, _once) for name in found]


def _once(original: Callable[..., Any]) -> Any:
    signature = inspect.signature(original)

    def bench(emulation: Emulation, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        start = time.perf_counter()
        given["fn"]()
        took = max((time.perf_counter() - start) * 1e3, 1e-3)
        quantiles = given.get("quantiles")
        if quantiles:
            return [took] * len(quantiles) if len(quantiles) > 1 else took
        return [took] if given.get("return_mode") == "all" else took

    return answering(bench)(original)
