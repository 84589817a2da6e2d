"""Seeded inputs: a table of data regimes, each for block-scaled matrices, dense tensors and what is to be quantized.

Operands of one certified regime, one k and one accumulator are certified in any pairing, block-scaled with dense
included: every output has one right answer (`certificate`). Every result depends on its arguments and the generator's
state alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator

from fp4guard.formats import FORMATS, MXFP4, BlockFormat, BlockScaled, FloatFormat
from fp4guard.formats.rounding import output_type
from fp4guard.oracle.certificate import FP32, Accumulator
from fp4guard.oracle.operand import Float64
from fp4guard.oracle.regimes import blocks as blocks_regimes
from fp4guard.oracle.regimes import dense as dense_regimes
from fp4guard.oracle.regimes import quantizable as quantizable_regimes


@dataclass(frozen=True)
class Regime:
    """A kind of data and what it is good for."""

    name: str
    summary: str
    certified: bool
    """Whether products of two operands of this regime are exact in the accumulator, in any order."""
    blocks: Callable[[BlockFormat, int, int, Generator, int], BlockScaled]
    dense: Callable[[int, int, FloatFormat, Generator, int], Float64]
    quantizable: Callable[[BlockFormat, int, int, FloatFormat, Generator], Float64]


def _regime_of(name: str, summary: str, certified: bool) -> Regime:
    tables = (blocks_regimes, dense_regimes, quantizable_regimes)
    return Regime(name, summary, certified, *(getattr(table, name) for table in tables))


_TABLE = (
    _regime_of("exact", "all codes, scales as far apart as exactness allows; values that quantize exactly", True),
    _regime_of("wild", "every size, NaN, Inf and the formats' ends", False),
    _regime_of("ties", "sums halfway between two outputs, values halfway between two codes", True),
    _regime_of("zeros", "zero elements and blocks, -0, any scale on them", True),
    _regime_of("nans", "exact but for NaN scales and elements, and Inf", True),
    _regime_of("maxima", "the largest elements and scales; values on both sides of every threshold", True),
)
REGIMES: dict[str, Regime] = {regime.name: regime for regime in _TABLE}

DENSE: dict[str, FloatFormat] = {name: fmt for name, fmt in FORMATS.items() if fmt.has_sign and fmt.width >= 8}
"""The formats of dense tensors: those that stand for numbers without a block's scale."""


def blocks(
    regime: str,
    rows: int,
    k: int,
    rng: Generator,
    format: BlockFormat = MXFP4,
    accumulator: Accumulator = FP32,
) -> BlockScaled:
    """A block-scaled matrix (rows, k) of a regime, certified for `accumulator`; the last block may be short.

    NVFP4 has a tensor scale of 1: a kernel's alpha is another argument.

    Raises ValueError for an unknown regime, a negative length, and for k too large for a certified regime (116508 at
    the most for MXFP4 and NVFP4 in float32 everywhere; "exact" takes fewer and fewer codes from there on).
    """
    if rows < 0 or k < 0:
        raise ValueError(f"shape ({rows}, {k}): allowed are rows and k from 0 on")
    return _regime(regime).blocks(format, rows, k, rng, accumulator.bits)


def dense(
    regime: str, shape: tuple[int, ...], dtype_name: str, rng: Generator, accumulator: Accumulator = FP32
) -> Float64:
    """A tensor of a regime: float64 values that a row of `DENSE` holds exactly: "float32", "bfloat16", "e4m3", ...

    Products are taken to sum over the last axis. Raises ValueError for an unknown regime or format, for a
    shape without an axis, and for a last axis too long for a certified regime.
    """
    rows, k = _matrix(shape)
    try:
        fmt = DENSE[dtype_name]
    except KeyError:
        raise ValueError(f"dtype_name: {dtype_name!r}; allowed are {', '.join(DENSE)}") from None
    return _regime(regime).dense(rows, k, fmt, rng, accumulator.bits).reshape(shape)


def quantizable(
    regime: str, shape: tuple[int, ...], dtype_name: str, rng: Generator, format: BlockFormat = MXFP4
) -> Float64:
    """A tensor that is hard to quantize to `format`, along its last axis or along the one before: float64 values that
    "float32", "bfloat16" or "float16" holds exactly.

    Leading axes are rows. Raises ValueError as `dense`.
    """
    rows, columns = _matrix(shape)
    return _regime(regime).quantizable(format, rows, columns, output_type(dtype_name).format, rng).reshape(shape)


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    if not shape or min(shape) < 0:
        raise ValueError(f"shape {shape}: allowed is at least one axis, and no negative length")
    *leading, k = shape
    return math.prod(leading), k


def _regime(name: str) -> Regime:
    try:
        return REGIMES[name]
    except KeyError:
        raise ValueError(f"regime: {name!r}; allowed are {', '.join(REGIMES)}") from None
