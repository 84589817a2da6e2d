"""The exact product of two matrices, block-scaled or dense, and what may follow it in one kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from fp4guard.formats import BlockScaled, ScaleDecode
from fp4guard.formats.rounding import output_type
from fp4guard.oracle import steps
from fp4guard.oracle.certificate import FP32, Accumulator
from fp4guard.oracle.enclose import term
from fp4guard.oracle.expected import Expected, stack
from fp4guard.oracle.operand import Matrix, Operand, block_scaled, from_blocks, from_dense, group_of
from fp4guard.oracle.product import columns, enclosure, product


@dataclass(frozen=True)
class SplitK:
    """K cut into parts whose sums are stored and then added: part i is columns [i * size, (i + 1) * size).

    ValueError where `size` is not positive or `dtype_name` is no type that can be rounded to.
    """

    size: int
    """Columns of a part; the last may be shorter."""
    dtype_name: str = "float32"
    """The type that partials are stored in; they are added in float32."""

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise ValueError(f"size: {self.size}; allowed are numbers of columns from 1 on")
        output_type(self.dtype_name)


def gemm(
    a: Matrix | Expected,
    b: Matrix,
    accumulator: Accumulator = FP32,
    *,
    alpha: float | None = None,
    bias: torch.Tensor | NDArray[np.floating] | None = None,
    splits: SplitK | None = None,
    scale_decode: ScaleDecode = ScaleDecode.STANDARD,
) -> Expected:
    """The expected result of `alpha * decode(a) @ decode(b).T + bias`: a is (m, k), b is (n, k), the result (m, n).

    An operand is a BlockScaled of any format, anything with an attribute `matrix` that is one, or a dense 2-D matrix:
    a torch.Tensor (floats of 8 to 32 bits) or a numpy array. `a` may also be an Expected: the enclosure of what an
    earlier step of the kernel left. Products of two block-scaled matrices are cached by their identity.

    `accumulator` is how the kernel adds: `FP32_TRUNCATING` for tensor cores, `FP8_HOPPER` for FP8 on Ada and Hopper.
    What it decides is how far uncertified outputs may be off, and at how many bits others are certified.
    `alpha` is a float32 that multiplies the finished sum. It takes the place of the operands' tensor scales, as the
    kernel has it: whoever calls the kernel has divided by the scales' reciprocals, or not, and that changes bits.
    `bias` (n,) is added once, after `alpha`. Both may be fused with what precedes them, or rounded apart (see `steps`).
    `splits` matters where partials are rounded to a narrow type: in float32 the certificate covers every cut.
    `scale_decode` is what the kernel takes E8M0's ends for.

    NaN and Inf are IEEE 754's, order aside: an output is NaN where a NaN takes part, a scale byte 255
    included, whatever it is multiplied by (0 * NaN = NaN); where 0 * Inf does; and where +Inf and -Inf
    meet. Otherwise an output in which Inf takes part is that Inf.

    Raises TypeError for other operands; ValueError where a dense one is not 2-D, the two k differ, an operand has a
    tensor scale but no `alpha` is given, `alpha` or `bias` is no float32, or `bias` has another shape than (n,).
    """
    blocks_a, blocks_b = block_scaled(a), block_scaled(b)
    for name, blocks in (("a", blocks_a), ("b", blocks_b)):
        if alpha is None and blocks is not None and blocks.tensor_scale != 1:
            raise ValueError(
                f"alpha: None; {name} has tensor_scale {blocks.tensor_scale!r}, so the float32 that the kernel "
                "multiplies the sum with has to be given (1.0 where it leaves the tensor scales out)"
            )
    if blocks_a is not None and blocks_b is not None:
        result = _gemm_blocks(blocks_a, blocks_b, accumulator, splits, scale_decode)
    else:
        group = _group(blocks_a, blocks_b, splits)
        right = from_dense(b, "b", group) if blocks_b is None else from_blocks(blocks_b, "b", group, scale_decode)
        if isinstance(a, Expected):
            if splits is not None:
                raise ValueError("splits: not None; allowed with an Expected as a is None")
            result = enclosure(a, right, accumulator)
        else:
            left = from_dense(a, "a", group) if blocks_a is None else from_blocks(blocks_a, "a", group, scale_decode)
            result = _gemm(left, right, accumulator, splits)
    if alpha is not None:
        result = steps.multiply(result, _checked(term(alpha, "alpha"), "alpha", (), "a number"))
    if bias is not None:
        result = steps.add(result, _checked(term(bias, "bias"), "bias", (result.shape[1],), "one for each column"))
    return result


def _checked(operand: Expected, name: str, shape: tuple[int, ...], meaning: str) -> Expected:
    if operand.shape != shape:
        raise ValueError(f"{name}: shape {operand.shape}; allowed is {shape}, {meaning}")
    return operand


def _group(a: BlockScaled | None, b: BlockScaled | None, splits: SplitK | None) -> int:
    """Columns that share a lowest bit: never on both sides of a cut."""
    group = group_of(a, b)
    return group if splits is None else math.gcd(group, splits.size)


@lru_cache(maxsize=8)
def _gemm_blocks(
    a: BlockScaled, b: BlockScaled, accumulator: Accumulator, splits: SplitK | None, scale_decode: ScaleDecode
) -> Expected:
    # The fuzzer asks several times a case with the same two matrices, which are immutable.
    group = _group(a, b, splits)
    left, right = (from_blocks(x, name, group, scale_decode) for x, name in ((a, "a"), (b, "b")))
    return _gemm(left, right, accumulator, splits)


def _gemm(a: Operand, b: Operand, accumulator: Accumulator, splits: SplitK | None) -> Expected:
    k = a.values.shape[1]
    if splits is None or splits.dtype_name == "float32" or splits.size >= k:
        whole = product(a, b, accumulator)
        return whole if splits is None else steps.rounded(whole, splits.dtype_name)
    parts = []
    for start in range(0, k, splits.size):
        stop = start + splits.size
        part = product(columns(a, start, stop), columns(b, start, stop), accumulator)
        parts.append(steps.rounded(part, splits.dtype_name))
    return steps.total(stack(parts), axis=0)
