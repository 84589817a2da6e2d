"""fp4guard: a correctness fuzzer and out-of-bounds harness for FP4 GPU kernels in Triton.

    import fp4guard as fg
    from fp4guard import dims, oracle

    @fg.fuzz(m=dims(), n=dims(tile=128), k=dims(multiple_of=32, tile=256))
    def test_my_gemm(mem, m, n, k):
        a, b = mem.mxfp4("a", (m, k)), mem.mxfp4("b", (n, k))
        out = mem.output("out", (m, n), torch.bfloat16)
        my_gemm(a.codes, a.scales, b.codes, b.scales, out)
        mem.expect(out, oracle.gemm(a, b))

What this module offers is imported when it is first used: torch and Triton take seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import formats, oracle
    from .checks import KINDS, Finding, FindingError
    from .errors import DefectError, Fp4guardError, UnsupportedError, UsageError
    from .fuzzing.case import Case
    from .fuzzing.examine import Report
    from .fuzzing.memory import CaseMemory as Memory
    from .fuzzing.strategies import dims
    from .fuzzing.target import Target, fuzz
    from .isolation import examine
    from .memory.layouts import PLAIN, ROWS, STRIDED, WIDE, WIDE_ROWS, Layout
    from .report.replay import replay
    from .sim.tuning import configs, tuned

_WHERE = {
    "Case": "fuzzing.case",
    "DefectError": "errors",
    "Finding": "checks",
    "FindingError": "checks",
    "Fp4guardError": "errors",
    "KINDS": "checks",
    "Layout": "memory.layouts",
    "PLAIN": "memory.layouts",
    "ROWS": "memory.layouts",
    "Report": "fuzzing.examine",
    "STRIDED": "memory.layouts",
    "WIDE": "memory.layouts",
    "WIDE_ROWS": "memory.layouts",
    "Target": "fuzzing.target",
    "UnsupportedError": "errors",
    "UsageError": "errors",
    "configs": "sim.tuning",
    "dims": "fuzzing.strategies",
    "examine": "isolation",
    "fuzz": "fuzzing.target",
    "replay": "report.replay",
    "tuned": "sim.tuning",
}

__all__ = [
    "KINDS",
    "PLAIN",
    "ROWS",
    "STRIDED",
    "WIDE",
    "WIDE_ROWS",
    "Case",
    "DefectError",
    "Finding",
    "FindingError",
    "Fp4guardError",
    "Layout",
    "Memory",
    "Report",
    "Target",
    "UnsupportedError",
    "UsageError",
    "configs",
    "dims",
    "examine",
    "formats",
    "fuzz",
    "oracle",
    "replay",
    "tuned",
]


def __getattr__(name: str) -> Any:
    if name == "Memory":
        return importlib.import_module(".fuzzing.memory", __name__).CaseMemory
    if name in _WHERE:
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    if name in ("formats", "oracle"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
