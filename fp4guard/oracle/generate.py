"""Seeded inputs: a table of data regimes, each for MXFP4 matrices and for dense float tensors.

Operands of one certified regime and one k are certified in any pairing, MXFP4 with dense included: every
output has one right answer (`certificate`). Every result depends on its arguments and the generator's state
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator

from fp4guard.formats import BLOCK, MXFP4, FloatFormat
from fp4guard.formats.rounding import output_type
from fp4guard.oracle import regimes_dense, regimes_mx
from fp4guard.oracle.operand import Float64


@dataclass(frozen=True)
class Regime:
    """A kind of data and what it is good for."""

    name: str
    summary: str
    certified: bool
    """Whether products of two operands of this regime are exact in float32, in any order."""
    mxfp4: Callable[[int, int, Generator], MXFP4]
    dense: Callable[[int, int, FloatFormat, Generator], Float64]


_TABLE = (
    Regime(
        "exact",
        "all codes, scales as far apart as exactness allows",
        True,
        regimes_mx.exact,
        regimes_dense.exact,
    ),
    Regime("wild", "every size, NaN and the formats' ends", False, regimes_mx.wild, regimes_dense.wild),
    Regime("ties", "sums halfway between two outputs", True, regimes_mx.ties, regimes_dense.ties),
    Regime(
        "zeros",
        "zero elements and blocks, -0, any scale on them",
        True,
        regimes_mx.zeros,
        regimes_dense.zeros,
    ),
    Regime("maxima", "the largest elements and scales", True, regimes_mx.maxima, regimes_dense.maxima),
)
REGIMES: dict[str, Regime] = {regime.name: regime for regime in _TABLE}


def mxfp4(regime: str, rows: int, k: int, rng: Generator) -> MXFP4:
    """An MXFP4 matrix (rows, k) of a regime.

    Raises ValueError for an unknown regime, for k that is no multiple of 32, and for k too large for a
    certified regime (116508 at the most everywhere; "exact" switches to {0, +-0.5, +-1} beyond).
    """
    if rows < 0 or k < 0 or k % BLOCK:
        raise ValueError(f"shape ({rows}, {k}): allowed are rows from 0 on, and k a multiple of {BLOCK}")
    return _regime(regime).mxfp4(rows, k, rng)


def dense(regime: str, shape: tuple[int, ...], dtype_name: str, rng: Generator) -> Float64:
    """A tensor of a regime: float64 values that "float32", "bfloat16" or "float16" holds exactly.

    Products are taken to sum over the last axis. Raises ValueError for an unknown regime or dtype, for a
    shape without an axis, and for a last axis too long for a certified regime.
    """
    if not shape or min(shape) < 0:
        raise ValueError(f"shape {shape}: allowed is at least one axis, and no negative length")
    *leading, k = shape
    values = _regime(regime).dense(math.prod(leading), k, output_type(dtype_name).format, rng)
    return values.reshape(shape)


def _regime(name: str) -> Regime:
    try:
        return REGIMES[name]
    except KeyError:
        raise ValueError(f"regime: {name!r}; allowed are {', '.join(REGIMES)}") from None
