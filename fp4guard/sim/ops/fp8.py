"""tt.fp_to_fp: conversions between float types, 8-bit ones and an explicit rounding included.

What NVIDIA's hardware does, from the PTX ISA's `cvt` (9.7.9.21): to E4M3 and E5M2 there is only `.rn.satfinite`, which
makes the largest finite value of everything beyond it, Inf too, and 0x7F of NaN. All f16 and bf16 and 2^17 float32 gave
the same codes on an H200 with Triton 3.6. There, f64 to 8 bits did not compile; it goes through f32 here. Toward zero
(`rtz`) exists to f16, bf16 and E5M2; to the last it cuts off an f16's lower byte, so that Inf stays Inf. The FNUZ types
of gfx942 are treated in the same way. Two differences to the H200: its NaNs of 16 and 32 bits have all bits set but the
sign, and its E5M2 to bf16 (a shift, not an instruction) makes 65536 of Inf and 98304 of NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import UnsupportedError
from ...formats import FloatFormat, Overflow, Rounding, codec
from ...ttir import Operation
from ..elements import FP8, Array, element_of
from . import exact
from .arith import Rule


def encode(fmt: FloatFormat, x: Array, toward_zero: bool = False) -> Array:
    """Values to codes as the hardware rounds and saturates."""
    if toward_zero:
        return codec.encode(fmt, x, Rounding.TOWARD_ZERO, overflow=Overflow.NONSATURATING)
    return codec.encode(fmt, x)


def decode(fmt: FloatFormat, codes: Array) -> Array:
    """Codes to float32."""
    return codec.decode(fmt, codes)


def toward_zero(x: Array, element: str) -> Array:
    """Floats cut off to f16 or bf16 (held as float32): a finite number stays finite."""
    wide = x.astype(np.float64)
    near = exact.narrow(wide, element)
    kind = f"u{near.dtype.itemsize}"
    step = 1 << 16 if element == "bf16" else 1
    beyond = np.abs(near.astype(np.float64)) > np.abs(wide)
    return np.where(beyond, (near.view(kind) - np.array(step, kind)).view(near.dtype), near)


def _fp_to_fp(op: Operation) -> Callable[..., Array]:
    source, target = op.operands[0].type.element, op.result.type.element
    rtz = "rtz" in op.words
    if not rtz and "rounding" in op.words and "rtne" not in op.words:
        raise UnsupportedError(f"tt.fp_to_fp with {' '.join(op.words)}", op.location)
    widen = _widened(source)
    if target in FP8:
        fmt = FP8[target]
        if rtz and target != "f8E5M2":
            raise UnsupportedError(f"tt.fp_to_fp to {target} toward zero", op.location)
        if source == "f64":
            return lambda x: encode(fmt, x.astype(np.float32), rtz)
        return lambda x: encode(fmt, widen(x), rtz)
    if rtz:
        if target not in ("f16", "bf16"):
            raise UnsupportedError(f"tt.fp_to_fp to {target} toward zero", op.location)
        return lambda x: toward_zero(widen(x), target)
    held = element_of(op.result.type).held
    if target == "f16" and source != "bf16":
        return lambda x: widen(x).astype(held)
    return lambda x: exact.narrow(widen(x).astype(np.float64), target).astype(held, copy=False)


def _widened(source: str) -> Callable[[Array], Array]:
    if source in FP8:
        fmt = FP8[source]
        return lambda x: decode(fmt, x)
    return lambda x: x


RULES: dict[str, Rule] = {"tt.fp_to_fp": _fp_to_fp}
