"""A mixture of experts: two grouped GEMMs with an activation between them, and the sum over the chosen experts.

Every stage is a function of its own. `moe` runs all of them, each from the enclosure that the one before leaves. Where
a kernel's intermediate tensors are at hand, hold each against its stage and feed what the kernel stored to the next:
then no stage has to allow for the errors of those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import BlockScaled, ScaleDecode
from fp4guard.oracle.certificate import FP32, Accumulator
from fp4guard.oracle.expected import Expected, exactly
from fp4guard.oracle.gated import activate
from fp4guard.oracle.gemm import gemm
from fp4guard.oracle.operand import Float64, Matrix, block_scaled, to_float64
from fp4guard.oracle.steps import add, multiply, rounded, total

Experts: TypeAlias = "BlockScaled | Sequence[Matrix] | torch.Tensor | NDArray[np.floating]"
"""One (N, K) matrix for each local expert: a sequence, or one array (E, N, K)."""
Numbers: TypeAlias = "torch.Tensor | NDArray[np.floating]"


class RouterWeight(Enum):
    """When the router's weight multiplies."""

    AFTER_BIAS = "after the bias"
    """(sum + bias) * weight: vLLM."""
    BEFORE_BIAS = "before the bias"
    """sum * weight + bias."""


class NoExpert(Enum):
    """What the rows of a token hold whose expert is not on this device."""

    ZERO = "zero"
    """Zeros, which the kernel writes."""
    OPEN = "open"
    """Anything; they need not be written."""


class WeightStage(Enum):
    """Which of the two GEMMs applies the router's weights."""

    FIRST = "first"
    """On the input side: `apply_router_weight_on_input`."""
    SECOND = "second"
    """On the output side, the usual one."""


def moe_gemm(
    a: Numbers | Expected,
    experts: Experts,
    topk_ids: ArrayLike,
    weights: Numbers | None = None,
    bias: Numbers | None = None,
    *,
    expert_map: ArrayLike | None = None,
    router_weight: RouterWeight = RouterWeight.AFTER_BIAS,
    no_expert: NoExpert = NoExpert.ZERO,
    scale_decode: ScaleDecode = ScaleDecode.SHIFT,
    accumulator: Accumulator = FP32,
) -> Expected:
    """One grouped GEMM: (M, top_k, N), the product of each token's row with the matrices of its experts.

    `a` is (M, K), the tokens, or (M * top_k, K), a row for each token and slot (the second GEMM); dense, or the
    enclosure of an earlier stage. `topk_ids`, integers (M, top_k), are global experts; `expert_map`, integers (global
    experts,), says which local one each is, -1 where it is none of this device's: see `no_expert`. `bias` is (E, N),
    `weights` float32 (M, top_k). `scale_decode` is what the kernel takes E8M0's ends for; a shift of the byte, by
    default, as kernels do that dequantize inline. How the kernel cuts K, into half-dots of even and odd columns too,
    is a matter of order, which `gemm` covers.

    Raises TypeError and ValueError as `gemm`; ValueError where shapes do not fit or an id is out of range.
    """
    ids = np.asarray(topk_ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(f"topk_ids: {ids.dtype} {ids.shape}; allowed are integers of shape (M, top_k)")
    matrices = _matrices(experts)
    n = _width(matrices)
    local = _local(ids, expert_map, len(matrices))
    tokens, top_k = ids.shape
    rows = a if isinstance(a, Expected) else exactly(to_float64(a, "a"))
    if len(rows.shape) != 2 or rows.shape[0] not in (tokens, tokens * top_k):
        allowed = f"({tokens}, K), a row a token, or ({tokens * top_k}, K), a row a token and slot"
        raise ValueError(f"a: shape {rows.shape}; allowed with topk_ids of shape {ids.shape} is {allowed}")
    slots = np.arange(tokens * top_k)
    row_of = slots if rows.shape[0] == tokens * top_k else slots // top_k
    out = _Rows(tokens * top_k, n, no_expert)
    for expert, matrix in enumerate(matrices):
        chosen = np.flatnonzero(local.ravel() == expert)
        if len(chosen):
            result = gemm(rows[row_of[chosen]], matrix, accumulator, scale_decode=scale_decode)
            out.put(chosen, result)
    result = out.expected()
    everywhere = local.ravel() >= 0
    of_slots = None if weights is None else _checked(weights, "weights", (tokens, top_k)).reshape(-1, 1)
    of_experts = None if bias is None else _checked(bias, "bias", (len(matrices), n))[np.maximum(local.ravel(), 0)]
    if of_slots is not None and router_weight is RouterWeight.BEFORE_BIAS:
        result = multiply(result, of_slots)
    if of_experts is not None:
        result = add(result, of_experts)
    if of_slots is not None and router_weight is RouterWeight.AFTER_BIAS:
        result = multiply(result, of_slots)
    if not everywhere.all():  # the bias and the weights of a slot without an expert do not count
        final = _Rows(tokens * top_k, n, no_expert)
        final.put(np.flatnonzero(everywhere), result[everywhere])
        result = final.expected()
    return result.reshape(tokens, top_k, n)


def moe_sum(e: Expected, accumulate: str = "float32") -> Expected:
    """The sum over the experts of each token, (M, top_k, N) to (M, N).

    In float32 any order will do. In a narrower type the slots are added one after the other, every sum rounded to it:
    what vLLM's `moe_sum` does for few experts. Raises ValueError for an unknown type.
    """
    if accumulate == "float32":
        return total(e, axis=1)
    result = rounded(e[:, 0], accumulate)
    for slot in range(1, e.shape[1]):
        result = rounded(add(result, e[:, slot]), accumulate)
    return result


def moe(
    a: Numbers | Expected,
    first: Experts,
    second: Experts,
    topk_ids: ArrayLike,
    weights: Numbers,
    *,
    activation: str = "silu",
    first_bias: Numbers | None = None,
    second_bias: Numbers | None = None,
    expert_map: ArrayLike | None = None,
    dtype_name: str = "bfloat16",
    gate_dtype: str = "float32",
    weight_stage: WeightStage = WeightStage.SECOND,
    scale_decode: ScaleDecode = ScaleDecode.SHIFT,
    accumulator: Accumulator = FP32,
) -> Expected:
    """All of it: (M, N). The intermediate tensors are stored in `dtype_name`; the final sum is one in float32.

    `first` are (2 d, K) matrices, `second` (N, d). The other arguments are those of the stages: `moe_gemm`,
    `gated.activate`, `moe_sum`. Slots without a local expert count as zeros. Raises TypeError, ValueError as they do.
    """
    ids = np.asarray(topk_ids)
    early, late = (weights, None) if weight_stage is WeightStage.FIRST else (None, weights)

    def grouped(rows: Numbers | Expected, experts: Experts, factor: Numbers | None, bias: Numbers | None) -> Expected:
        return rounded(
            moe_gemm(
                rows,
                experts,
                ids,
                factor,
                bias,
                expert_map=expert_map,
                scale_decode=scale_decode,
                accumulator=accumulator,
            ),
            dtype_name,
        )

    hidden = grouped(a, first, early, first_bias)
    activated = rounded(activate(hidden, activation, gate_dtype=gate_dtype), dtype_name)
    return moe_sum(grouped(activated.reshape(ids.size, -1), second, late, second_bias))


class _Rows:
    """Rows of a result that come a few at a time; until then, those of a slot without an expert."""

    def __init__(self, rows: int, n: int, no_expert: NoExpert) -> None:
        self._value, self._low, self._high = (np.zeros((rows, n)) for _ in range(3))
        self._nan = np.zeros((rows, n), np.bool_)
        self._open = np.full((rows, n), no_expert is NoExpert.OPEN)
        self._point = True

    def put(self, rows: NDArray[np.intp], part: Expected) -> None:
        self._value[rows], self._nan[rows], self._open[rows] = part.value, part.nan, part.unconstrained
        self._low[rows], self._high[rows] = part.low, part.high
        self._point &= part.is_point

    def expected(self) -> Expected:
        low, high = (self._value, self._value) if self._point else (self._low, self._high)
        return Expected(self._value, low, high, self._nan, self._open)


def _matrices(experts: Experts) -> list[Matrix]:
    stacked = block_scaled(experts)
    if stacked is None:
        return list(experts)  # type: ignore[arg-type]  # a sequence, an array or a tensor
    if len(stacked.shape) != 3:
        raise ValueError(f"experts: shape {stacked.shape}; allowed is (E, N, K), or a sequence of (N, K)")
    return [
        BlockScaled(stacked.format, elements, scales, stacked.tensor_scale)
        for elements, scales in zip(stacked.elements, stacked.scales, strict=True)
    ]


def _width(matrices: list[Matrix]) -> int:
    shaped: list[Any] = [getattr(matrix, "matrix", matrix) for matrix in matrices]
    widths = {int(matrix.shape[0]) for matrix in shaped}
    if len(widths) != 1:
        raise ValueError(f"experts: matrices of {sorted(widths)} rows; allowed are one or more, of one number of rows")
    return widths.pop()


def _local(ids: NDArray[np.integer], expert_map: ArrayLike | None, experts: int) -> NDArray[np.int64]:
    """int64 (M, top_k): the local expert of each slot, -1 where there is none."""
    if expert_map is None:
        known = np.arange(experts)
    else:
        known = np.asarray(expert_map).astype(np.int64)
        if ((known < -1) | (known >= experts)).any():
            worst = int(known[(known < -1) | (known >= experts)][0])
            raise ValueError(f"expert_map: {worst}; allowed are -1 and 0 .. {experts - 1}")
    outside = (ids < 0) | (ids >= len(known))
    if outside.any():
        raise ValueError(f"topk_ids: {int(ids[outside][0])}; allowed are 0 .. {len(known) - 1}")
    local: NDArray[np.int64] = known[ids]
    return local


def _checked(numbers: Numbers, name: str, shape: tuple[int, int]) -> Float64:
    values = to_float64(numbers, name)
    if values.shape != shape:
        raise ValueError(f"{name}: shape {values.shape}; allowed is {shape}")
    return values
