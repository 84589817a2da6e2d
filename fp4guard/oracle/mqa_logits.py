"""Logits of multi-query attention over a paged FP8 key cache, as sparse attention ranks its tokens by.

For each query row (b, n) and position t of the context

    logits[b, n, t] = sum_h w[b, n, h] * max(0, scale[t] * dot(q[b, n, h], k[t]))    for t <= length[b] - next_n + n

and -Inf at later positions, as far as the kernel processes the row; what lies beyond is not written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import E4M3, LINEAR, FloatFormat, TiledLayout
from fp4guard.formats.blocks import element_values
from fp4guard.oracle.certificate import FP32, Accumulator
from fp4guard.oracle.expected import Expected, exactly
from fp4guard.oracle.gemm import gemm
from fp4guard.oracle.operand import Bools, Float64, to_float64
from fp4guard.oracle.steps import NanOperand, multiply, relu, total

Numbers = torch.Tensor | NDArray[np.floating]


@dataclass(frozen=True)
class PagedKeys:
    """A key cache: values float64 (blocks, tokens of a block, head size), scales float64 (blocks, tokens of a block).

    Raises ValueError where the two shapes do not belong together.
    """

    values: Float64
    scales: Float64

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.scales.shape != self.values.shape[:2]:
            raise ValueError(
                f"values, scales: shapes {self.values.shape}, {self.scales.shape}; allowed are "
                "(blocks, tokens, head size) and (blocks, tokens)"
            )

    @classmethod
    def from_bytes(
        cls,
        cache: torch.Tensor | NDArray[np.uint8],
        tokens: int,
        head_size: int,
        *,
        element: FloatFormat = E4M3,
        layout: TiledLayout = LINEAR,
    ) -> PagedKeys:
        """From a cache's bytes, uint8 (blocks, ...): of each block the values of all tokens, then their float32 scales.

        `layout` is how the values of a block, (tokens, head size), are stored: `formats.KV_16X16` where they are
        preshuffled. Raises TypeError for another dtype, ValueError for another number of bytes or a block that is not
        whole tiles of the layout.
        """
        raw = cache.detach().cpu().numpy() if isinstance(cache, torch.Tensor) else np.asarray(cache)
        if raw.dtype != np.uint8:
            raise TypeError(f"cache: dtype {raw.dtype}; allowed is uint8 (view the bytes as such)")
        size = tokens * (head_size + 4)
        if raw.size != len(raw) * size:
            raise ValueError(f"cache: shape {raw.shape}; allowed is {size} bytes a block, {tokens} * ({head_size} + 4)")
        raw = raw.reshape(len(raw), size)
        shape = (len(raw), tokens, head_size)
        codes = raw[:, : tokens * head_size].reshape(layout.stored_shape(shape))
        scales = np.ascontiguousarray(raw[:, tokens * head_size :]).view("<f4")
        values = np.take(element_values(element), layout.unpack(codes, shape))
        return cls(values, scales.astype(np.float64))


@dataclass(frozen=True)
class Logits:
    """What the logits have to be, and which of them the kernel writes."""

    expected: Expected
    """(B * next_n, max_model_len); unconstrained where nothing is written."""
    written: Bools
    """bool, of the same shape: the others keep what the caller had there."""

    def over(self, before: float | Numbers) -> Expected:
        """The whole tensor, given what it held before: a number (callers fill in -Inf), or values of its shape."""
        given = np.asarray(before, np.float64) if np.isscalar(before) else to_float64(before, "before")
        kept = exactly(np.broadcast_to(given, self.written.shape).copy())
        ours = self.expected
        arrays = {
            name: np.where(self.written, getattr(ours, name), getattr(kept, name))
            for name in ("value", "low", "high", "nan", "unconstrained")
        }
        return Expected(**arrays)


def mqa_logits(
    q: Numbers,
    keys: PagedKeys,
    weights: Numbers,
    context_lens: ArrayLike,
    block_tables: ArrayLike,
    max_model_len: int,
    *,
    chunk: int,
    accumulator: Accumulator = FP32,
    nan: NanOperand = NanOperand.NUMBER,
) -> Logits:
    """The expected logits, (B * next_n, max_model_len).

    `q` is (B, next_n, H, D), FP8 or wider; `weights` float32 (B * next_n, H); `context_lens` integers (B,), the new
    tokens included; `block_tables` integers (B, blocks), of which the first ceil(length / tokens) of a row are used.
    `chunk` is how many positions a program handles at a time: a row is written up to the next multiple of it after its
    context, or to max_model_len, whichever is less. `nan` is what the kernel's max(0, NaN) is. The dot products are
    accumulated as `accumulator` says, the sum over heads in float32.

    Raises ValueError where shapes do not fit, a length is not 0 .. max_model_len, a block is not in the cache, or
    `chunk` is not positive; TypeError and ValueError as `gemm`.
    """
    queries, factors = to_float64(q, "q"), to_float64(weights, "weights")
    lengths, tables = np.asarray(context_lens), np.asarray(block_tables)
    _check(queries, keys, factors, lengths, tables, max_model_len, chunk)
    batch, next_n, heads, _ = queries.shape
    tokens = keys.values.shape[1]
    shape = (batch, next_n, max_model_len)
    value, low, high = (np.full(shape, -np.inf) for _ in range(3))
    is_nan, unconstrained, written = (np.zeros(shape, np.bool_) for _ in range(3))
    for b, length in enumerate(lengths.tolist()):
        written[b, :, : min(-(-length // chunk) * chunk, max_model_len)] = True
        if length == 0:
            continue
        blocks = tables[b, : -(-length // tokens)]
        k = keys.values[blocks].reshape(-1, queries.shape[3])[:length]
        scales = keys.scales[blocks].reshape(-1)[:length]
        dots = gemm(queries[b].reshape(next_n * heads, -1), k, accumulator)
        scored = relu(multiply(dots, scales[None, :]), nan).reshape(next_n, heads, length)
        summed = total(multiply(scored, factors.reshape(batch, next_n, heads, 1)[b]), axis=1)
        causal = np.arange(length) <= length - next_n + np.arange(next_n)[:, None]
        for ours, theirs, later in (
            (value, summed.value, -np.inf),
            (low, summed.low, -np.inf),
            (high, summed.high, -np.inf),
            (is_nan, summed.nan, False),
            (unconstrained, summed.unconstrained, False),
        ):
            ours[b, :, :length] = np.where(causal, theirs, later)
    unconstrained |= ~written
    rows = (batch * next_n, max_model_len)
    expected = Expected(*(array.reshape(rows) for array in (value, low, high, is_nan, unconstrained)))
    return Logits(expected, written.reshape(rows))


def _check(
    q: Float64,
    keys: PagedKeys,
    weights: Float64,
    lengths: NDArray[np.integer],
    tables: NDArray[np.integer],
    max_model_len: int,
    chunk: int,
) -> None:
    if q.ndim != 4 or q.shape[3] != keys.values.shape[2]:
        raise ValueError(f"q: shape {q.shape}; allowed is (B, next_n, H, {keys.values.shape[2]}), the keys' head size")
    batch, next_n, heads, _ = q.shape
    if weights.shape != (batch * next_n, heads):
        raise ValueError(f"weights: shape {weights.shape}; allowed is (B * next_n, H), {(batch * next_n, heads)}")
    if lengths.shape != (batch,) or tables.ndim != 2 or len(tables) != batch:
        raise ValueError(
            f"context_lens, block_tables: shapes {lengths.shape}, {tables.shape}; allowed are ({batch},) and "
            f"({batch}, blocks)"
        )
    if chunk <= 0:
        raise ValueError(f"chunk: {chunk}; allowed are numbers of positions from 1 on")
    tokens = keys.values.shape[1]
    most = min(max_model_len, tables.shape[1] * tokens)
    for b, length in enumerate(lengths.tolist()):
        if not 0 <= length <= most:
            raise ValueError(
                f"context_lens: {length}; allowed with max_model_len {max_model_len} and "
                f"{tables.shape[1]} blocks of {tokens} are 0 .. {most}"
            )
        used = tables[b, : -(-length // tokens)]
        outside = used[(used < 0) | (used >= len(keys.values))]
        if len(outside):
            raise ValueError(f"block_tables: {int(outside[0])}; allowed are 0 .. {len(keys.values) - 1}")
