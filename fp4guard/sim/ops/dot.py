"""Matrix products: exact products of what the tensor core is given, summed in the accumulator's type.

The order and the precision of the sum are the hardware's own affair; here a float sum is one of float32 (of float64
where the operands are), which is at least as close to the exact one as a tensor core's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import UnsupportedError
from ...formats import codec
from ...ttir import Operation
from ..elements import FP8, Array, round_to_bfloat16
from . import exact
from .arith import Rule
from .shape import materialise

#: How each part of a number is made, the largest first.
Narrow = tuple[Callable[[Array], Array], ...]

#: Bits of a float32 that a tensor core drops when it reads the number as TF32: verified on an H200.
_TF32_DROPPED = 13


def _to_tf32(x: Array) -> Array:
    return (x.view(np.uint32) & np.uint32(0xFFFFFFFF << _TF32_DROPPED & 0xFFFFFFFF)).view(np.float32)


def _to_nearest_tf32(x: Array) -> Array:
    """PTX cvt.rna.tf32.f32: ties away from zero."""
    raised = (x.view(np.uint32) + np.uint32(1 << (_TF32_DROPPED - 1))).view(np.float32)
    return np.where(np.isnan(x), x, _to_tf32(raised))


def _parts(x: Array, narrow: Narrow) -> list[Array]:
    """`x` as a sum of numbers of fewer bits, the largest first; what is too small for them is lost."""
    parts = []
    for function in narrow:
        part = function(x)
        parts.append(part)
        x = x - part
    return parts


def _in_parts(narrow: Narrow, terms: tuple[tuple[int, int], ...]) -> Callable[..., Array]:
    """A product of float32 as a sum of products of parts, as Triton's pass F32DotTC writes it: smallest first, and a
    NaN that the small ones make of Inf - Inf is dropped before the largest is added.
    """

    def apply(a: Array, b: Array) -> Array:
        left, right = _parts(a, narrow), _parts(b, narrow)
        rest = sum(np.matmul(left[i], right[j]) for i, j in terms)
        return np.where(np.isnan(rest), np.float32(0), rest) + np.matmul(left[0], right[0])

    return apply


def _single(narrow: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda a, b: np.matmul(narrow(a), narrow(b))


#: How float32 operands are multiplied, by `inputPrecision` ("ieee" is not printed).
_PRECISIONS: dict[str, Callable[..., Array]] = {
    "ieee": np.matmul,
    "tf32": _single(_to_tf32),
    "tf32x3": _in_parts((_to_nearest_tf32, _to_tf32), ((0, 1), (1, 0))),
    "bf16x3": _in_parts((round_to_bfloat16,) * 2, ((0, 1), (1, 0))),
    "bf16x6": _in_parts((round_to_bfloat16,) * 3, ((1, 1), (0, 2), (2, 0), (0, 1), (1, 0))),
}

#: What the elements of the operands become before they are multiplied, exactly.
_HELD = {"f16": np.float32, "bf16": np.float32, "f32": np.float32, "f64": np.float64, "i8": np.float64}


def widened(x: Array, element: str) -> Array | None:
    """An operand's values, exact, in a type that products are exact in; None where there is none."""
    if element in FP8:
        return codec.decode(FP8[element], np.ascontiguousarray(x))
    return x.astype(_HELD[element], copy=False) if element in _HELD else None


def _dot(op: Operation) -> Callable[..., Array]:
    a_type, b_type, c_type = (v.type for v in op.operands)
    for type_ in (a_type, b_type):
        if type_.element not in _HELD and type_.element not in FP8:
            raise UnsupportedError(f"tt.dot of {type_.element}", op.location)
    element = c_type.element
    if element not in ("f16", "bf16", "f32", "f64", "i32"):
        raise UnsupportedError(f"tt.dot accumulating in {element}", op.location)
    words = [word for word in op.words if word in _PRECISIONS]
    multiply = _PRECISIONS[words[0] if words and a_type.element == "f32" else "ieee"]

    def apply(a: Array, b: Array, c: Array) -> Array:
        wide = [widened(materialise(x, t), t.element) for x, t in ((a, a_type), (b, b_type))]
        product = multiply(*wide)
        if element == "i32":
            return product.astype(np.int64).astype(np.int32) + c
        if element in ("f32", "f64"):
            return (product + c).astype(c.dtype, copy=False)
        return exact.narrow(product.astype(np.float64) + c, element)

    return apply


RULES: dict[str, Rule] = {"tt.dot": _dot}
