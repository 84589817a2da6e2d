"""`fp4guard bench oracle`: formats and the exact GEMM beside the libraries that are used for it, in one process.

One thread each. In every round both sides of a row are timed one after the other; times are medians over the rounds,
and the ratio is the median of the rounds' own: how many times as long the other one takes.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from .. import oracle
from ..formats import E2M1, BlockScaled, codec, mx, nvfp4
from ..oracle import generate
from . import peers
from .comparison import Comparison

#: 10^6 float32, and whole blocks in a row.
SHAPE = (3125, 320)
GEMM = (512, 512, 4096)
#: Of one side in one round: a single short run would time a processor that wakes up.
_SECONDS = 0.03

#: Makes what one run needs, untimed; the result is the run.
Side = Callable[[], Callable[[], Any]]


@dataclass(frozen=True)
class Row:
    """A piece of work, and both ways to do it; `prepare` makes them, so that data exist only while they are used."""

    op: str
    peer: str
    prepare: Callable[[], tuple[Side, Side]]
    """Theirs and ours."""


@dataclass(frozen=True)
class Measured:
    """A row of the result: medians of milliseconds, and of the rounds' ratios of the peer's time to ours."""

    op: str
    peer: str
    peer_ms: float
    ours_ms: float
    ratio: float

    def cells(self) -> tuple[str, ...]:
        """One of each column."""
        return self.op, self.peer, f"{self.peer_ms:.2f}", f"{self.ours_ms:.2f}", f"{self.ratio:.2f}"


def _values() -> np.ndarray[Any, np.dtype[np.float32]]:
    return (np.random.default_rng(0).standard_normal(SHAPE) * 2).astype(np.float32)


def _same(run: Callable[[], Any]) -> Side:
    """A run that can be repeated as it is."""
    return lambda: run


def _encode_ml_dtypes() -> tuple[Side, Side]:
    values = _values()
    return _same(lambda: peers.ml_dtypes_encode(values)), _same(lambda: codec.encode(E2M1, values))


def _encode_gfloat() -> tuple[Side, Side]:
    values = _values()
    return _same(lambda: peers.gfloat_encode(values)), _same(lambda: codec.encode(E2M1, values))


def _decode_ml_dtypes() -> tuple[Side, Side]:
    codes = codec.encode(E2M1, _values()).astype(np.uint8)
    return _same(lambda: peers.ml_dtypes_decode(codes)), _same(lambda: codec.decode(E2M1, codes))


def _mx() -> tuple[Any, Callable[[], Any]]:
    values = _values()

    def ours() -> Any:
        found = mx.quantize(values)
        return found.codes, found.scales

    return values, ours


def _mx_torch() -> tuple[Side, Side]:
    values, ours = _mx()
    tensor = torch.from_numpy(values)
    return _same(lambda: peers.torch_mx(tensor)), _same(ours)


def _mx_gfloat() -> tuple[Side, Side]:
    values, ours = _mx()
    return _same(lambda: peers.gfloat_mx(values)), _same(ours)


def _nvfp4() -> tuple[Any, float, Callable[[], Any]]:
    values = _values()
    g = float(nvfp4.EXACT.global_scale(np.abs(values).max()))

    def ours() -> Any:
        found = nvfp4.quantize(values, nvfp4.EXACT, g)
        return found.codes, found.scales

    return values, g, ours


def _nvfp4_torch() -> tuple[Side, Side]:
    values, g, ours = _nvfp4()
    tensor = torch.from_numpy(values)
    return _same(lambda: peers.torch_nvfp4(tensor, g)), _same(ours)


def _nvfp4_gfloat() -> tuple[Side, Side]:
    values, g, ours = _nvfp4()
    return _same(lambda: peers.gfloat_nvfp4(values, g)), _same(ours)


def _gemm() -> tuple[Side, Side]:
    m, n, k = GEMM
    rng = np.random.default_rng(0)
    operands = generate.blocks("exact", m, k, rng), generate.blocks("exact", n, k, rng)
    left, right = (operand.decode() for operand in operands)

    def fresh() -> Callable[[], Any]:
        # Products are cached by the operands' identity: others every time.
        a, b = (BlockScaled(x.format, x.elements, x.scales, x.tensor_scale) for x in operands)
        return lambda: oracle.gemm(a, b)

    return _same(lambda: left @ right.T), fresh


ROWS = (
    Row("E2M1 encode", "ml_dtypes", _encode_ml_dtypes),
    Row("E2M1 encode", "gfloat", _encode_gfloat),
    Row("E2M1 decode", "ml_dtypes", _decode_ml_dtypes),
    Row("MXFP4 quantize", "torch", _mx_torch),
    Row("MXFP4 quantize", "gfloat", _mx_gfloat),
    Row("NVFP4 quantize", "torch", _nvfp4_torch),
    Row("NVFP4 quantize", "gfloat", _nvfp4_gfloat),
    Row("exact GEMM 512x512x4096", "numpy float64", _gemm),
)


def compare(rounds: int, rows: Sequence[Row] = ROWS) -> Iterator[Measured]:
    """Measure rows, each as often as there are rounds. UsageError where a library is not installed."""
    for library in ("ml_dtypes", "gfloat"):
        if any(row.peer == library for row in rows):
            peers.required(library)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            for row in rows:
                yield _measure(row, rounds)
    finally:
        torch.set_num_threads(threads)


def _measure(row: Row, rounds: int) -> Measured:
    theirs, ours = row.prepare()
    theirs()(), ours()()  # tables are made, memory is touched
    pairs = [(_milliseconds(theirs), _milliseconds(ours)) for _ in range(rounds)]
    return Measured(
        row.op,
        row.peer,
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def _milliseconds(side: Side) -> float:
    """The median of as many runs as fit the time, at least one."""
    end = time.perf_counter() + _SECONDS
    found: list[float] = []
    while not found or time.perf_counter() < end:
        run = side()
        gc.disable()
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) * 1e3)
        gc.enable()
    return statistics.median(found)


COMPARISON = Comparison(
    "oracle", (("work", "<26"), ("peer", "<16"), ("peer ms", ">10"), ("ours ms", ">10"), ("ratio", ">8")), compare
)
