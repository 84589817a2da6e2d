"""How long one examined case takes, beside Triton's own interpreter on the plain launch of the same kernel.

    python tests/bench_interpreter.py [--json] [--rounds N]

The fp4guard side is a whole case: data, every run, every check; the compile cache is warm. Otherwise as
`fp4guard bench sim`, which compares single launches. Needs Triton 3.8 or later, whose interpreter knows tl.dot_scaled.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import fp4guard
from fp4guard.bench.duel import Side, duel, serve
from fp4guard.bench.rows import ROWS
from fp4guard.bench.sim import interpreter_side

ROW = next(row for row in ROWS if row.name == "gemm_afp4wfp4 101x97x224")
CASE = {**dict(zip("mnk", ROW.shape)), "config": "BM32_BN32_BK128", "dtype": "bf16"}


def examined(_: str) -> float:
    """Milliseconds of one case."""
    start = time.perf_counter()
    report = fp4guard.examine("kernels.gemm_afp4wfp4::gemm_afp4wfp4", **CASE)
    found = (time.perf_counter() - start) * 1e3
    assert not report.findings, report.describe()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(examined)
        return
    case = Side("fp4guard", (sys.executable, __file__, "--serve"), interpret=False)
    with interpreter_side() as interpreter, case:
        found = duel(interpreter, case, ROW.name, options.rounds)
    if options.json:
        times = {"interpreter_ms": found.first_ms, "fp4guard_ms": found.second_ms, "ratio": found.ratio}
        print(json.dumps({"case": CASE, "rounds": options.rounds, **times}))
        return
    print("gemm_afp4wfp4 " + " ".join(f"{name}={value}" for name, value in CASE.items()))
    print(f"  Triton's interpreter, plain launch   {found.first_ms:8.1f} ms")
    print(f"  fp4guard, whole examined case        {found.second_ms:8.1f} ms")
    print(f"  ratio                                {found.ratio:8.1f}")


if __name__ == "__main__":
    main()
