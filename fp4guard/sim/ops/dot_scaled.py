"""tt.dot_scaled: products of blocks with a scale each (OCP Microscaling Formats v1.0, section 6; NVFP4).

    lhs [.., M, K] in its format, lhs_scale [.., M, K/group]
    rhs [.., K, N] in its format, rhs_scale [.., N, K/group]

Scales of int8 are E8M0, of f8E4M3FN are E4M3; the group is as many elements along K as there are to a scale. E2M1 comes
two codes a byte, the low nibble first, along K, or along M or N with `lhs_k_pack`, `rhs_k_pack` false. In float64 no
product of scaled elements rounds, overflows or vanishes; the sum is rounded to float32 once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...errors import UnsupportedError
from ...formats import E2M1, codec, e8m0, packing
from ...ttir import Operation, Type
from ..elements import FP8, Array
from .arith import Rule
from .dot import widened
from .shape import materialise

_FORMATS = ("e2m1", "e4m3", "e5m2", "bf16", "fp16")
_GROUPS = (16, 32)

#: By a scale's element type.
_SCALES: dict[str, Callable[[Array], Array]] = {
    "i8": lambda raw: e8m0.decode(raw.view(np.uint8)),
    "f8E4M3FN": lambda raw: codec.decode(FP8["f8E4M3FN"], raw).astype(np.float64),
}


#: Of a byte, its two E2M1 elements: float64, side by side in one complex number.
_PAIRS = packing.decode_packed(np.arange(256, dtype=np.uint8)[:, None]).astype(np.float64).view(np.complex128)[:, 0]


class _Side(NamedTuple):
    """One operand, with K as its last axis: its type as in the operation, and how it is packed."""

    type: Type
    scale: Type | None
    format: str
    transposed: bool
    packed_along_k: bool

    def values(self, x: Array, scale: Array | None) -> Array:
        """Scaled elements, float64 [programs, .., M or N, K]."""
        x = materialise(x, self.type)
        if self.transposed:
            x = x.swapaxes(-1, -2)
        if self.format == "e2m1":
            raw = np.ascontiguousarray(x).view(np.uint8)
            values = _PAIRS.take(raw).view(np.float64) if self.packed_along_k else _unpacked_rows(raw)
        else:
            decoded = widened(x, self.type.element)
            assert decoded is not None
            values = decoded.astype(np.float64)
        if scale is None or self.scale is None:
            return values
        factors = _SCALES[self.scale.element](np.ascontiguousarray(materialise(scale, self.scale)))
        programs, group = max(len(values), len(factors)), values.shape[-1] // factors.shape[-1]
        values, factors = (np.broadcast_to(v, (programs, *v.shape[1:])) for v in (values, factors))
        grouped = values.reshape(*factors.shape, group) * factors[..., None]
        return grouped.reshape(values.shape)

    def group(self) -> int:
        """Elements to a scale."""
        assert self.scale is not None
        k = self.type.shape[-2 if self.transposed else -1]
        packed = self.format == "e2m1" and self.packed_along_k
        return k * (2 if packed else 1) // self.scale.shape[-1]


def _unpacked_rows(raw: Array) -> Array:
    """Bytes [.., M/2, K] whose nibbles are neighbours along M."""
    rows = np.stack([codec.decode(E2M1, raw & np.uint8(0xF)), codec.decode(E2M1, raw >> np.uint8(4))], axis=-2)
    return rows.reshape(*raw.shape[:-2], -1, raw.shape[-1]).astype(np.float64)


def _dot_scaled(op: Operation) -> Callable[..., Array]:
    formats = [word for word in op.words if word in _FORMATS]
    if len(formats) != 2:
        raise UnsupportedError(f"tt.dot_scaled of {' '.join(op.words)}", op.location)
    has_left, has_right = op.attributes["scaled"]
    types = [v.type for v in op.operands]
    at_b = 2 if has_left else 1
    left = _Side(types[0], types[1] if has_left else None, formats[0], False, op.attributes.get("lhs_k_pack", True))
    right = _Side(
        types[at_b], types[at_b + 1] if has_right else None, formats[1], True, op.attributes.get("rhs_k_pack", True)
    )
    for side in (left, right):
        if side.scale is not None and (side.scale.element not in _SCALES or side.group() not in _GROUPS):
            what = f"tt.dot_scaled with a {side.scale.element} scale for {side.group()} elements"
            raise UnsupportedError(what, op.location)

    def apply(*operands: Array) -> Array:
        a = left.values(operands[0], operands[1] if has_left else None)
        b = right.values(operands[at_b], operands[at_b + 1] if has_right else None)
        return (np.matmul(a, b.swapaxes(-1, -2)) + operands[-1]).astype(np.float32)

    return apply


RULES: dict[str, Rule] = {"tt.dot_scaled": _dot_scaled}
