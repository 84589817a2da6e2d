"""The activations between the two GEMMs of an MLP, as data: how gate and up are laid out, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from fp4guard.oracle import activations
from fp4guard.oracle.activations import TRITON, Functions
from fp4guard.oracle.expected import Expected
from fp4guard.oracle.steps import multiply, rounded


class GateLayout(Enum):
    """Where gate and up stand in the 2 d columns that the first GEMM leaves."""

    HALVES = "halves"
    """gate = x[:d], up = x[d:]."""
    INTERLEAVED = "interleaved"
    """gate = x[0::2], up = x[1::2]."""


@dataclass(frozen=True)
class Activation:
    """A gated activation: (..., 2 d) to (..., d)."""

    name: str
    layout: GateLayout
    of_gate: Callable[[Expected, Functions], Expected] | None
    """What multiplies `up`; None for SwiGLU-OAI, which is no such product."""


_TABLE = (
    Activation("silu", GateLayout.HALVES, activations.silu),
    Activation("gelu", GateLayout.HALVES, activations.gelu),
    Activation("gelu_tanh", GateLayout.HALVES, activations.gelu_tanh),
    Activation("swiglu_oai", GateLayout.INTERLEAVED, None),
)
ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _TABLE}


def activate(
    e: Expected,
    activation: str,
    *,
    gate_dtype: str = "float32",
    alpha: float = 1.702,
    limit: float | None = 7.0,
    functions: Functions = TRITON,
) -> Expected:
    """A row of `ACTIVATIONS` on the last axis, (..., 2 d) to (..., d), in float32.

    `gate_dtype` is the type to which the activated gate is rounded before `up` multiplies it: "bfloat16" where a kernel
    works in that type, as vLLM's `silu_and_mul` does. `alpha` and `limit` are SwiGLU-OAI's.

    Raises ValueError for an unknown activation or type, and where the last axis is odd.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: {activation!r}; allowed are {', '.join(ACTIVATIONS)}")
    if e.shape[-1] % 2:
        raise ValueError(f"e: shape {e.shape}; allowed is (..., 2 d): a gate and an up each")
    row, half = ACTIVATIONS[activation], e.shape[-1] // 2
    if row.layout is GateLayout.HALVES:
        gate, up = e[..., :half], e[..., half:]
    else:
        gate, up = e[..., 0::2], e[..., 1::2]
    if row.of_gate is None:
        return activations.swiglu_oai(gate, up, alpha, limit, functions)
    activated = row.of_gate(gate, functions)
    return multiply(activated if gate_dtype == "float32" else rounded(activated, gate_dtype), up)
