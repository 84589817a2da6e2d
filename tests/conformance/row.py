"""A row of the table: an operation, what it is given, and how far the GPU may be from the simulator."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import triton
import triton.language as tl
from triton.language.extra import libdevice

from .inputs import operands

BLOCK = 1024


@dataclass(frozen=True)
class Allowed:
    """How far two floats may be apart: `ulps`, or `absolute`, and why.

    `flushed`: where an operand of 32 bits is subnormal, or both results no more than the least normal number.
    `within`: where an operand is larger, the instruction promises nothing. `lanes`: so many may differ in any way.
    """

    ulps: int = 0
    why: str = ""
    flushed: bool = False
    absolute: float = 0.0
    within: float = 0.0
    lanes: int = 0

    def __str__(self) -> str:
        parts = [f"{self.ulps} ulp"] if self.ulps else []
        parts += [f"{self.absolute:.1e} absolute"] if self.absolute else []
        parts += [f"{self.lanes} values"] if self.lanes else []
        text = ", or ".join(parts) or "0 bits"
        text += ", subnormals aside" if self.flushed else ""
        return f"{text}, for operands up to {self.within:.4g}" if self.within else text


@dataclass(frozen=True)
class Row:
    """`make` gives the operands' bits; `launch` gets tensors of them, the output's last, and launches the kernel."""

    ops: str
    what: str
    types: tuple[str, ...]
    out: str
    make: Callable[[], Sequence[np.ndarray]]
    launch: Callable[..., Any]
    #: The output's shape; of the first operand where there is none.
    shape: tuple[int, ...] | None = None
    allowed: Allowed = field(default_factory=Allowed)

    @property
    def name(self) -> str:
        """Such as `arith.addi: a + b (i8, i8 -> i8)`."""
        return f"{self.ops}: {self.what} ({', '.join(self.types)} -> {self.out})"


def elementwise(ops: str, expression: str, types: str, out: str = "", allowed: Allowed | None = None) -> Row:
    """A row whose kernel is one expression of `a`, `b` and `c`; `out` is the type of the first operand, or given."""
    names = tuple(types.split())
    lines = [
        "@triton.jit",
        f"def kernel({', '.join(f'p{i}' for i in range(len(names)))}, out, N: tl.constexpr):",
        "    i = tl.program_id(0) * N + tl.arange(0, N)",
        *(f"    {letter} = tl.load(p{i} + i)" for i, letter in zip(range(len(names)), "abcd")),
        f"    tl.store(out + i, {expression})",
    ]

    def launch(*tensors: Any) -> None:
        block = min(BLOCK, tensors[0].numel())
        _kernel("\n".join(lines))[(tensors[0].numel() // block,)](*tensors, N=block)

    return Row(
        ops, f"`{expression}`", names, out or names[0], lambda: operands(names), launch, allowed=allowed or EXACT
    )


EXACT = Allowed()
_made: dict[str, Any] = {}


def _kernel(source: str) -> Any:
    """A kernel from its source, which Triton and tracebacks find as they would find a file's."""
    if source not in _made:
        name = f"<conformance {len(_made)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        space = {"triton": triton, "tl": tl, "libdevice": libdevice, "__name__": __name__}
        exec(compile(source, name, "exec"), space)
        _made[source] = space["kernel"]
    return _made[source]
