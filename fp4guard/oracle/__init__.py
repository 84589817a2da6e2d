"""Exact results: what a correct kernel must give, bit for bit where certain and bounded where not."""

from fp4guard.oracle import generate
from fp4guard.oracle.certificate import FP8_HOPPER, FP32, FP32_TRUNCATING, Accumulator
from fp4guard.oracle.compare import Element, Mismatch, compare
from fp4guard.oracle.expected import Expected, Interval, exactly, within
from fp4guard.oracle.gemm import gemm
from fp4guard.oracle.generate import REGIMES, Regime

__all__ = [
    "FP8_HOPPER",
    "FP32",
    "FP32_TRUNCATING",
    "REGIMES",
    "Accumulator",
    "Element",
    "Expected",
    "Interval",
    "Mismatch",
    "Regime",
    "compare",
    "exactly",
    "gemm",
    "generate",
    "within",
]
