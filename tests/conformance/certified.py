"""The exactness certificate on a real GPU: certified products have the oracle's bits, whatever the tile shape.

    python tests/conformance/certified.py [--shapes 512] [--each 4] [--write [FOLDER]]

Random shapes and certified regimes, each through several configurations that cut and order the sums differently: the
included MXFP4 GEMM in all its configurations, `tl.dot` of bfloat16, and of FP8, certified at the 14 bits that Hopper
keeps. And the other way round: the same inputs two steps beyond the certificate, whose results have to lie within the
bound, and differ between configurations where the certificate means anything.

Exit status 0 where all is as certified, 1 where not, 2 without a CUDA GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from fp4guard.included.gemm_afp4wfp4.configs import CONFIGS  # noqa: E402
from fp4guard.included.gemm_afp4wfp4.launch import gemm_afp4wfp4  # noqa: E402

from conformance.__main__ import header  # noqa: E402
from fp4guard import oracle  # noqa: E402
from fp4guard.files import write_atomically  # noqa: E402
from fp4guard.formats import MXFP4, BlockScaled, round_to  # noqa: E402
from fp4guard.oracle import FP8_HOPPER, FP32, FP32_TRUNCATING, Accumulator, generate  # noqa: E402

REGIMES = [name for name, regime in generate.REGIMES.items() if regime.certified]
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
DTYPES = tuple(BITS)
#: Of the products beyond the certificate: shape, and how many.
BEYOND, BEYOND_SHAPES = (96, 80, 4096), 6


@triton.jit
def dot_kernel(a, b, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Out (M, N) = a (M, K) times b (N, K) transposed, all contiguous."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    n = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)
        left = tl.load(a + m * K + k[None, :], mask=(m < M) & (k[None, :] < K), other=0.0)
        right = tl.load(b + n * K + k[:, None], mask=(n < N) & (k[:, None] < K), other=0.0)
        acc = tl.dot(left, right, acc)
    tl.store(out + m * N + n, acc.to(out.dtype.element_ty), mask=(m < M) & (n < N))


@dataclass(frozen=True)
class Kind:
    """What is multiplied, how the card adds, and the tile shapes: a row of the table."""

    name: str
    accumulator: Accumulator
    """At which inputs are certified."""
    bound: Accumulator
    """How far inexact sums may be off on the card."""
    configs: tuple[Any, ...]


def _tiles(*ks: int) -> tuple[tuple[int, int, int, int], ...]:
    """(BM, BN, BK, warps)."""
    return tuple((m, n, k, w) for m, n, w in ((16, 16, 1), (32, 64, 4), (64, 64, 4), (128, 64, 8)) for k in ks)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("gemm_afp4wfp4", FP32, FP32_TRUNCATING, tuple(CONFIGS)),
        Kind("tl.dot bfloat16", FP32, FP32_TRUNCATING, _tiles(16, 32, 64)),
        Kind("tl.dot float8_e4m3fn", FP8_HOPPER, FP8_HOPPER, _tiles(32, 64, 128)),
    )
}


@dataclass
class Outcome:
    """What one configuration of a kind came to."""

    kind: str
    config: str
    shapes: set[int] = field(default_factory=set)
    launches: int = 0
    outputs: int = 0
    wrong: list[str] = field(default_factory=list)
    beyond: list[np.ndarray] = field(default_factory=list)
    inexact: list[float] = field(default_factory=list)
    """Of each product beyond: the share of outputs that are not the exact sum, rounded."""
    of_bound: float = 0.0
    """The largest error beyond, as a share of its bound."""
    unfit: str = ""


def inputs(kind: str, seed: int) -> tuple[Any, Any, oracle.Expected]:
    """Certified operands of a random shape: BlockScaled matrices or tensors on the CPU, and the expected product."""
    rng = np.random.default_rng([seed, len(kind)])
    m, n = (int(rng.choice([rng.integers(1, 300) | 1, 16 * rng.integers(1, 18)])) for _ in range(2))
    k = 32 * int(2 ** rng.uniform(0, 7))
    regime = str(rng.choice(REGIMES))
    if kind == "tl.dot float8_e4m3fn":
        k = min(k, 128 if regime == "ties" else 1024)  # what 14 bits hold
        a, b = (generate.dense(regime, (rows, k), "e4m3", rng, FP8_HOPPER) for rows in (m, n))
        a, b = (torch.from_numpy(x).to(torch.float8_e4m3fn) for x in (a, b))
        return a, b, oracle.gemm(a, b, FP8_HOPPER)
    if kind == "gemm_afp4wfp4":
        left, right = (generate.blocks(regime, rows, k, rng) for rows in (m, n))
        return left, right, oracle.gemm(left, right)
    a, b = (torch.from_numpy(generate.dense(regime, (rows, k), "bfloat16", rng)).bfloat16() for rows in (m, n))
    return a, b, oracle.gemm(a, b)


def beyond(kind: str, seed: int) -> tuple[Any, Any, oracle.Expected]:
    """Operands of positive numbers whose sums are two steps and more above the certificate's limit."""
    rng = np.random.default_rng([seed, 1000 + len(kind)])
    m, n, k = BEYOND
    if kind == "gemm_afp4wfp4":
        scales = rng.integers(0, 2, k // 32) * 8 + 123
        left, right = (
            BlockScaled(MXFP4, rng.integers(1, 8, (x, k), dtype=np.uint8), np.tile(scales.astype(np.uint8), (x, 1)))
            for x in (m, n)
        )
        return left, right, oracle.gemm(left, right, KINDS[kind].bound)
    dtype = torch.bfloat16
    if kind == "tl.dot float8_e4m3fn":  # fewer bits: shorter sums will do, and have a bound worth the name
        dtype, k = torch.float8_e4m3fn, k // 8
    a, b = (torch.from_numpy(rng.uniform(1, 2, (rows, k)).astype(np.float32)).to(dtype) for rows in (m, n))
    return a, b, oracle.gemm(a, b, KINDS[kind].bound)


def launch(kind: str, config: Any, a: Any, b: Any, dtype: torch.dtype) -> np.ndarray:
    """The product on the card, as bits."""
    if kind == "gemm_afp4wfp4":
        x, w, xs, ws = (torch.from_numpy(array.copy()).cuda() for array in (a.codes, b.codes, a.scales, b.scales))
        out = gemm_afp4wfp4(x, w, xs, ws, dtype=dtype, config=CONFIGS[config])
    else:
        bm, bn, bk, warps = config
        (m, k), n = a.shape, len(b)
        out = torch.empty((m, n), dtype=dtype, device="cuda")
        grid = (triton.cdiv(m, bm), triton.cdiv(n, bn))
        dot_kernel[grid](a.cuda(), b.cuda(), out, m, n, k, bm, bn, bk, num_warps=warps)
    return out.cpu().view(BITS[dtype]).numpy()


def examined(task: tuple[str, int, list[int]]) -> Outcome:
    """All shapes of a configuration."""
    name, index, seeds = task
    torch.set_num_threads(1)
    config = KINDS[name].configs[index]
    outcome = Outcome(name, str(config))
    try:
        for seed in seeds:
            a, b, expected = inputs(name, seed)
            assert expected.certified.all(), f"seed {seed}: inputs that are not certified"
            dtype = DTYPES[seed % 5] if seed % 5 < 3 else torch.float32
            wrong = oracle.compare(launch(name, config, a, b, dtype), str(dtype).removeprefix("torch."), expected)
            outcome.shapes.add(seed)
            outcome.launches += 1
            outcome.outputs += expected.value.size
            if wrong is not None:
                outcome.wrong.append(f"seed {seed}, {dtype}: " + str(wrong).replace("\n", " "))
        for seed in range(BEYOND_SHAPES):
            a, b, expected = beyond(name, seed)
            assert not expected.certified.any(), f"beyond {seed}: certified"
            bits = launch(name, config, a, b, torch.float32)
            outcome.beyond.append(bits)
            outcome.inexact.append(float((bits != round_to(expected.value, "float32").bits.view(np.int32)).mean()))
            error = np.abs(bits.view(np.float32) - expected.value) / expected.bound
            outcome.of_bound = max(outcome.of_bound, float(error.max()))
            wrong = oracle.compare(bits, "float32", expected)
            if wrong is not None:
                outcome.wrong.append(f"beyond {seed}: " + str(wrong).replace("\n", " "))
    except triton.runtime.errors.OutOfResources as error:
        outcome.unfit = str(error).split(".")[0]
    except Exception as error:
        outcome.wrong.append(f"{type(error).__name__}: {str(error)[:300]}")
    return outcome


def tasks(shapes: int, each: int) -> Iterator[tuple[str, int, list[int]]]:
    """Every configuration with its shapes; every shape goes to `each` of a kind's configurations."""
    for kind in KINDS.values():
        count = len(kind.configs)
        rng = np.random.default_rng(len(kind.name))
        chosen = [rng.choice(count, min(each, count), replace=False) for _ in range(shapes)]
        for index in range(count):
            yield kind.name, index, [seed for seed, configs in enumerate(chosen) if index in configs]


def rendered(outcomes: list[Outcome], facts: dict[str, str]) -> str:
    """The table, in Markdown."""
    lines = [
        "# The certificate and a real GPU",
        "",
        "Written by `python tests/conformance/certified.py --write`; see there for what is compared.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        "| kernel | configurations | shapes | launches | outputs compared | bits other than the oracle's |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    fitting = {name: [o for o in outcomes if o.kind == name and not o.unfit] for name in KINDS}
    for name, own in fitting.items():
        shapes = len(set().union(*(outcome.shapes for outcome in own)))
        launches, outputs = (sum(getattr(outcome, key) for outcome in own) for key in ("launches", "outputs"))
        wrong = sum("beyond" not in text for outcome in own for text in outcome.wrong)
        lines.append(f"| {name} | {len(own)} | {shapes} | {launches} | {outputs} | {wrong} |")
    lines += [
        "",
        "Beyond the certificate, the same products of positive numbers in every configuration: what is not the exact "
        "sum rounded,\nwhat differs between configurations, and the largest error as a share of its bound. Where "
        "nothing differs, the kernel adds\nalong K in one order, whatever the tile.",
        "",
        "| kernel | outputs | inexact | differ between configurations | largest error of bound | out of bound |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, own in fitting.items():
        whole = [outcome for outcome in own if len(outcome.beyond) == BEYOND_SHAPES]
        bits = np.array([outcome.beyond for outcome in whole])
        share = (bits != bits[0]).any(axis=0).mean() if len(bits) else np.nan
        inexact, most = np.mean([o.inexact for o in whole]), max((o.of_bound for o in whole), default=np.nan)
        outside = sum("beyond" in text for outcome in own for text in outcome.wrong)
        count = bits[0].size if len(bits) else 0
        lines.append(f"| {name} | {count} | {inexact:.1%} | {share:.1%} | {most:.3f} | {outside} |")
    unfit = [outcome for outcome in outcomes if outcome.unfit]
    if unfit:
        lines += ["", "Configurations that do not fit this GPU:", ""]
        lines += [f"- {outcome.kind} {outcome.config}: {outcome.unfit}" for outcome in unfit]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the table and what is wrong; with `--write`, keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=512, help="random shapes for each kernel")
    parser.add_argument("--each", type=int, default=4, help="configurations that each shape goes through")
    parser.add_argument("--write", metavar="FOLDER", nargs="?", const=HERE, type=Path, help="keep the table in FOLDER")
    parser.add_argument("--jobs", type=int, default=min(14, os.cpu_count() or 1), help="worker processes")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("No CUDA GPU here.", file=sys.stderr)
        return 2
    # Compiling takes most of the time, and a process that a fault kills takes no other with it.
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        outcomes = pool.map(examined, list(tasks(options.shapes, options.each)), chunksize=1)
    text = rendered(outcomes, header())
    print(text)
    if options.write:
        name = torch.cuda.get_device_name().split()[-1]
        write_atomically(options.write / f"{name}-certified.md", text)
    wrong = [(outcome, line) for outcome in outcomes for line in outcome.wrong]
    for outcome, line in wrong:
        print(f"WRONG {outcome.kind} {outcome.config}: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
