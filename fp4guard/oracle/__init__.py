"""Exact results: what a correct kernel must give, bit for bit where certain and bounded where not."""

from fp4guard.oracle import activations, generate, steps
from fp4guard.oracle.activations import TANH_APPROX, TRITON, Functions
from fp4guard.oracle.certificate import FP8_HOPPER, FP32, FP32_TRUNCATING, Accumulator
from fp4guard.oracle.comparison.assertion import assert_matches
from fp4guard.oracle.comparison.compare import compare
from fp4guard.oracle.comparison.mismatch import CodeElement, CodesMismatch, Element, Mismatch, PaddingMismatch, places
from fp4guard.oracle.expected import Expected, Interval, exactly, within
from fp4guard.oracle.gated import ACTIVATIONS, activate
from fp4guard.oracle.gemm import SplitK, gemm
from fp4guard.oracle.generate import REGIMES, Regime
from fp4guard.oracle.moe import NoExpert, RouterWeight, WeightStage, moe, moe_gemm, moe_sum
from fp4guard.oracle.mqa_logits import Logits, PagedKeys, mqa_logits
from fp4guard.oracle.quantize import (
    CastTransposed,
    Quantized,
    Storage,
    cast_transpose,
    quantize_mx,
    quantize_nvfp4,
    requantize_mx,
    requantize_nvfp4,
)
from fp4guard.oracle.quantized import ExpectedCodes
from fp4guard.oracle.steps import NanOperand

__all__ = [
    "ACTIVATIONS",
    "FP8_HOPPER",
    "FP32",
    "FP32_TRUNCATING",
    "REGIMES",
    "TANH_APPROX",
    "TRITON",
    "Accumulator",
    "CastTransposed",
    "CodeElement",
    "CodesMismatch",
    "Element",
    "Expected",
    "ExpectedCodes",
    "Functions",
    "Interval",
    "Logits",
    "Mismatch",
    "NanOperand",
    "NoExpert",
    "PaddingMismatch",
    "PagedKeys",
    "Quantized",
    "Regime",
    "RouterWeight",
    "SplitK",
    "Storage",
    "WeightStage",
    "activate",
    "activations",
    "assert_matches",
    "cast_transpose",
    "compare",
    "exactly",
    "gemm",
    "generate",
    "moe",
    "moe_gemm",
    "moe_sum",
    "mqa_logits",
    "places",
    "quantize_mx",
    "quantize_nvfp4",
    "requantize_mx",
    "requantize_nvfp4",
    "steps",
    "within",
]
