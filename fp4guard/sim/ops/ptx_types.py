"""Types of PTX and the modifiers beside them: how wide registers are, what their bits stand for, what may be written.

Registers hold bits: unsigned arrays of the register's width, one element per invocation of the snippet; predicates are
bool. Source: PTX ISA 8.7, section 5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..elements import Array, round_to_bfloat16

#: Register widths by type, in bytes; a predicate has none.
WIDTHS = {
    "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2,
    "b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """`read` gives values of bits, `write` bits of values; packed types have a last axis of two, the lower first."""

    read: Callable[[Array], Array]
    write: Callable[[Array], Array]


def _viewed(name: str) -> Kind:
    dtype = np.dtype(name)
    raw = np.dtype(f"u{dtype.itemsize}")
    # What an instruction of 16 or 32 bits makes that is NaN has all bits set but the sign.
    nan = np.array(np.iinfo(raw).max >> 1, raw) if name in ("f2", "f4") else None

    def write(v: Array) -> Array:
        bits = np.ascontiguousarray(v.astype(dtype)).view(raw)
        return bits if nan is None else np.where(np.isnan(v), nan, bits)

    return Kind(lambda x: x.astype(raw, copy=False).view(dtype), write)


def _pair(inner: Kind) -> Kind:
    return Kind(
        lambda x: inner.read(np.ascontiguousarray(x.astype(np.uint32))[..., None].view(np.uint16)),
        lambda v: np.ascontiguousarray(inner.write(v)).view(np.uint32)[..., 0],
    )


_BFLOAT16 = Kind(
    lambda x: (x.astype(np.uint32) << 16).view(np.float32),
    lambda v: np.where(np.isnan(v), 0x7FFF, np.ascontiguousarray(v).view(np.uint32) >> 16).astype(np.uint16),
)
TYPES = {
    **{f"{k}{8 * n}": _viewed(f"{'i' if k == 's' else 'u'}{n}") for k in "bus" for n in (1, 2, 4, 8)},
    "f16": _viewed("f2"),
    "f32": _viewed("f4"),
    "f64": _viewed("f8"),
    "bf16": _BFLOAT16,
    "f16x2": _pair(_viewed("f2")),
    "bf16x2": _pair(_BFLOAT16),
    "pred": Kind(lambda x: x, lambda v: v.astype(bool)),
}


def flushed(x: Array) -> Array:
    """Subnormals of float32 become zeros, their signs kept."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def rounded(value: Array, type_: str) -> Array:
    """A result computed with more bits, rounded to the type."""
    if type_.startswith("bf16"):
        return round_to_bfloat16(value.astype(np.float32))
    return value


def fits(form: str, modifiers: Sequence[str]) -> bool:
    """Whether these are the modifiers of a form such as "rn|rz ftz?": one of two, and perhaps a third; in any order."""
    rest = list(modifiers)
    for word in form.split():
        found = [modifier for modifier in rest if modifier in word.rstrip("?").split("|")]
        if len(found) > 1 or not (found or word.endswith("?")):
            return False
        rest = [modifier for modifier in rest if modifier not in found]
    return not rest


def spelt(form: str) -> str:
    """A form as the manual of PTX writes it: `{.rn, .rz}`, `.ftz?` where it may be left out."""
    words = []
    for word in form.split():
        names = ", ".join(f".{name}" for name in word.rstrip("?").split("|"))
        words.append((f"{{{names}}}" if "," in names else names) + "?" * word.endswith("?"))
    return "".join(words) or "none"
