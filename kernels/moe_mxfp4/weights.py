"""MXFP4 weights of all experts of a device, packed, and how they are padded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from .checks import check_tensor

SCALE_GROUP_SIZE = 32
BIAS_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
GATE_LAYOUTS = ("halves", "interleaved")
ONE = 127
"""The E8M0 byte of 1.0."""


@dataclass(frozen=True)
class ExpertWeights:
    """One (N, K) matrix for each of E experts, of any positive strides. K is even.

    Raises TypeError and ValueError for tensors that do not belong together.
    """

    codes: torch.Tensor
    """uint8 (E, N, K / 2): two E2M1 codes a byte, the even k in the low nibble."""
    scales: torch.Tensor
    """uint8 E8M0 (E, N, cdiv(K, 32)). Byte 0 counts as 0.0, 255 as Inf. A group's last columns may be missing."""
    bias: torch.Tensor | None = None
    """bf16, fp16 or fp32 (E, N)."""

    def __post_init__(self) -> None:
        device = self.codes.device
        check_tensor("codes", self.codes, (torch.uint8,), ("E", "N", "K / 2"), device)
        if self.experts == 0:
            raise ValueError(f"codes has shape {tuple(self.codes.shape)}; allowed: one expert or more")
        groups = triton.cdiv(self.k, SCALE_GROUP_SIZE)
        check_tensor("scales", self.scales, (torch.uint8,), (self.experts, self.n, groups), device)
        if self.bias is not None:
            check_tensor("bias", self.bias, BIAS_DTYPES, (self.experts, self.n), device)

    @property
    def experts(self) -> int:
        """E."""
        return self.codes.shape[0]

    @property
    def n(self) -> int:
        """N, the width of the output."""
        return self.codes.shape[1]

    @property
    def k(self) -> int:
        """K in elements, the width of the input."""
        return 2 * self.codes.shape[2]


def pad_intermediate(
    w1: ExpertWeights, w2: ExpertWeights, multiple: int, gate_layout: str = "halves"
) -> tuple[ExpertWeights, ExpertWeights]:
    """Pad the intermediate size D to a multiple: w1 (E, 2 D, K), gate and up, and w2 (E, N, D).

    Gate and up are padded each: at the end of both halves, or, interleaved, at the end. Padding is codes of zero,
    scales of 1.0 and a bias of zero, so that nothing comes of it. Weights that need none are returned as they are.

    Raises ValueError for an odd or negative multiple, an unknown layout, and weights that do not belong together.
    """
    if gate_layout not in GATE_LAYOUTS:
        raise ValueError(f"gate_layout is {gate_layout!r}; allowed: {', '.join(map(repr, GATE_LAYOUTS))}")
    if multiple < 2 or multiple % 2:
        raise ValueError(f"multiple is {multiple}; allowed: even numbers from 2 on")
    d = w2.k
    if w1.n != 2 * d or w1.experts != w2.experts:
        raise ValueError(f"w1 is (E, N, K) = {(w1.experts, w1.n, w1.k)}; allowed: ({w2.experts}, {2 * d}, K) with w2")
    padded = triton.cdiv(d, multiple) * multiple
    if padded == d:
        return w1, w2

    def pad_gated(rows: torch.Tensor, fill: int) -> torch.Tensor:
        gates = (rows,) if gate_layout == "interleaved" else (rows[:, :d], rows[:, d:])
        return torch.cat([_padded(gate, 1, gate.shape[1] // d * padded, fill) for gate in gates], dim=1)

    bias = None if w1.bias is None else pad_gated(w1.bias, 0)
    first = ExpertWeights(pad_gated(w1.codes, 0), pad_gated(w1.scales, ONE), bias)
    groups = triton.cdiv(padded, SCALE_GROUP_SIZE)
    second = ExpertWeights(_padded(w2.codes, 2, padded // 2, 0), _padded(w2.scales, 2, groups, ONE), w2.bias)
    return first, second


def _padded(tensor: torch.Tensor, dim: int, size: int, fill: int) -> torch.Tensor:
    shape = list(tensor.shape)
    shape[dim] = size
    result = tensor.new_full(shape, fill)
    result.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
    return result
