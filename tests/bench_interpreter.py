"""How long one examined case takes, beside Triton's own interpreter on the plain launch of the same kernel.

    python tests/bench_interpreter.py [--json] [--rounds N]

Each side is a process of its own (TRITON_INTERPRET is read when a kernel is imported) that stays alive. The parent
asks them in turn for one timing at a time, so that both see the same machine; the ratio is the median over the
rounds. The fp4guard side is a whole case: data, every run, every check; the compile cache is warm. Needs Triton 3.8
or later, whose interpreter knows tl.dot_scaled.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASE = {"m": 101, "n": 97, "k": 224, "config": "BM32_BN32_BK128", "dtype": "bf16"}
SIDES = ("interpreter", "fp4guard")


def interpreter_side() -> Callable[[], object]:
    import torch

    from fp4guard import Case, Memory
    from fp4guard.memory import ALL_ONES
    from kernels.gemm_afp4wfp4.configs import CONFIGS
    from kernels.gemm_afp4wfp4.launch import gemm_afp4wfp4

    memory = Memory(Case(CASE, seed=0, regime="exact", layout=0), ALL_ONES, {})
    a, b = memory.mxfp4("a", (CASE["m"], CASE["k"])), memory.mxfp4("b", (CASE["n"], CASE["k"]))
    out = memory.output("out", (CASE["m"], CASE["n"]), torch.bfloat16)
    config = CONFIGS[CASE["config"]]
    return lambda: gemm_afp4wfp4(a.codes, b.codes, a.scales, b.scales, out, config=config)


def fp4guard_side() -> Callable[[], object]:
    import fp4guard

    def case() -> None:
        report = fp4guard.examine("kernels.gemm_afp4wfp4::gemm_afp4wfp4", **CASE)
        assert not report.findings, report.describe()

    return case


def serve(side: str) -> None:
    """Answer each line on stdin with the milliseconds of one run."""
    sys.path.insert(0, str(ROOT))
    run = {"interpreter": interpreter_side, "fp4guard": fp4guard_side}[side]()
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print((time.perf_counter() - start) * 1e3, flush=True)


def start(side: str) -> subprocess.Popen[str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = {**os.environ, **threads, "TRITON_INTERPRET": str(int(side == "interpreter"))}
    command = [sys.executable, __file__, "--serve", side]
    child = subprocess.Popen(command, env=env, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    if child.stdout.readline() != "ready\n":
        raise SystemExit(f"the {side} side did not start (exit {child.wait()})")
    return child


def ask(child: subprocess.Popen[str]) -> float:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return float(child.stdout.readline())


def measure(rounds: int) -> dict[str, float]:
    children = {side: start(side) for side in SIDES}
    try:
        pairs = [{side: ask(child) for side, child in children.items()} for _ in range(rounds)]
    finally:
        for child in children.values():
            child.communicate()  # closes its stdin, which ends it
    medians = {f"{side}_ms": statistics.median(pair[side] for pair in pairs) for side in SIDES}
    return {**medians, "ratio": statistics.median(pair["interpreter"] / pair["fp4guard"] for pair in pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    found = measure(options.rounds)
    if options.json:
        print(json.dumps({"case": CASE, "rounds": options.rounds, **found}))
        return
    print("gemm_afp4wfp4 " + " ".join(f"{name}={value}" for name, value in CASE.items()))
    print(f"  Triton's interpreter, plain launch   {found['interpreter_ms']:8.1f} ms")
    print(f"  fp4guard, whole examined case        {found['fp4guard_ms']:8.1f} ms")
    print(f"  ratio                                {found['ratio']:8.1f}")


if __name__ == "__main__":
    main()
