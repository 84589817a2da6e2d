"""Matrix products: exact products, accumulated in float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import UnsupportedError
from ...formats import e8m0, packing
from ...ttir import Operation
from ..elements import Array
from .arith import Rule
from .shape import materialise

#: Bits of a float32 that a tensor core drops when it reads the number as TF32.
_TF32_DROPPED = 13

_DOT_INPUTS = ("f16", "bf16", "f32")


def _to_tf32(x: Array) -> Array:
    return (x.view(np.uint32) & np.uint32(0xFFFFFFFF << _TF32_DROPPED & 0xFFFFFFFF)).view(np.float32)


def _dot(op: Operation) -> Callable[..., Array]:
    a_type, b_type, c_type = (v.type for v in op.operands)
    for type_ in (a_type, b_type):
        if type_.element not in _DOT_INPUTS:
            raise UnsupportedError(f"tt.dot of {type_.element}", op.location)
    if c_type.element != "f32":
        raise UnsupportedError(f"tt.dot accumulating in {c_type.element}", op.location)
    tf32 = a_type.element == "f32" and "tf32" in op.words

    def apply(a: Array, b: Array, c: Array) -> Array:
        a, b = (materialise(x, t).astype(np.float32) for x, t in ((a, a_type), (b, b_type)))
        if tf32:
            a, b = _to_tf32(a), _to_tf32(b)
        return np.matmul(a, b) + c

    return apply


def _dot_scaled(op: Operation) -> Callable[..., Array]:
    """E2M1 by E2M1, each with one E8M0 scale for 32 elements along K.

    a int8 [M, K/2], a_scale int8 [M, K/32], b int8 [K/2, N], b_scale int8 [N, K/32]; low nibbles are even k. In
    float64 no product of a scaled pair of elements rounds, overflows or vanishes.
    """
    formats = [word for word in op.words if word not in ("scale", "lhs", "rhs")]
    if formats != ["e2m1", "e2m1"] or len(op.operands) != 5:
        raise UnsupportedError(f"tt.dot_scaled of {' and '.join(formats)}, or with one scale", op.location)
    if op.attributes.get("lhs_k_pack") is False or op.attributes.get("rhs_k_pack") is False:
        raise UnsupportedError("tt.dot_scaled packed along M or N", op.location)
    types = [v.type for v in op.operands]
    group = 2 * types[0].shape[1] // types[1].shape[1]
    if group != 32:
        raise UnsupportedError(f"tt.dot_scaled with a scale for {group} elements", op.location)

    def scaled(codes: Array, scales: Array) -> Array:
        values = packing.decode_packed(np.ascontiguousarray(codes).view(np.uint8))
        factors = e8m0.decode(np.ascontiguousarray(scales).view(np.uint8))
        grouped = values.reshape(*scales.shape, group) * factors[..., None]
        return grouped.reshape(values.shape)

    def apply(a: Array, a_scale: Array, b: Array, b_scale: Array, c: Array) -> Array:
        a, a_scale, b, b_scale = (materialise(x, t) for x, t in zip((a, a_scale, b, b_scale), types))
        left = scaled(a, a_scale)
        right = scaled(b.swapaxes(1, 2), b_scale)
        return (np.matmul(left, right.swapaxes(1, 2)) + c).astype(np.float32)

    return apply


RULES: dict[str, Rule] = {"tt.dot": _dot, "tt.dot_scaled": _dot_scaled}
