"""cvt of PTX: CONVERSIONS has one row per pair of types that it packs or unpacks; what is no row is one number to one.

Sources: PTX ISA 8.7, section 9.7.9.21, and, for what a number becomes at the ends of E8M0 and of the 6-bit formats,
cuda_fp8.hpp and cuda_fp6.hpp of CUDA 13.0, which define their functions as these instructions and in C++ beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...formats import E2M1, E2M3, E3M2, E4M3, E5M2, FloatFormat, NanElement, codec, e8m0
from ..elements import Array, round_to_bfloat16
from . import exact
from .libdevice import no_integer, saturated
from .ptx_types import TYPES, WIDTHS, fits, flushed, spelt

#: From values, and the modifiers, to codes.
_Encoder = Callable[[Array, Sequence[str]], Array]


@dataclass(frozen=True)
class Conversion:
    """From `operands` registers of values to bits or values of the destination's type."""

    operands: int
    form: str
    function: Callable[..., Array]


def _encoder(fmt: FloatFormat) -> _Encoder:
    """To nearest, saturating. PTX: a NaN becomes the largest value, positive, where the format has none."""
    nan = NanElement.MAX if fmt.nan is None else NanElement.RAISE
    return lambda x, _: codec.encode(fmt, x, nan=nan)


def _to_e8m0(x: Array, modifiers: Sequence[str]) -> Array:
    """The power of two of |x| (rz), or the next one above where x is none (rp); 0x00 of all up to 2^-127.

    Beyond 2^127 is 0xFE with satfinite, else NaN; a NaN stays one.
    """
    bits = np.abs(x.astype(np.float32)).view(np.uint32)
    codes = bits >> np.uint32(23)
    if "rp" in modifiers:
        codes = codes + ((bits & np.uint32(0x7FFFFF) != 0) & (bits > np.uint32(0x400000)))
    codes = np.minimum(codes, e8m0.MAX if "satfinite" in modifiers else e8m0.NAN)
    return np.where(np.isnan(x), e8m0.NAN, codes)


def _pack(encode: _Encoder, bits: int, dtype: Any) -> Callable[..., Array]:
    """Two operands: the first goes to the upper half."""
    return lambda modifiers, a, b: (
        (encode(a, modifiers).astype(dtype) << dtype(bits)) | encode(b, modifiers).astype(dtype)
    )


def _pack_pair(encode: _Encoder, bits: int, dtype: Any) -> Callable[..., Array]:
    """One operand of two values."""
    both = _pack(encode, bits, dtype)
    return lambda modifiers, x: both(modifiers, x[..., 1], x[..., 0])


def _unpack(decode: Callable[[Array], Array], apart: int, bits: int) -> Callable[..., Array]:
    """Two codes to two values, the lower first; bits that stand above a code in its byte count for nothing."""
    mask = (1 << bits) - 1
    return lambda _, x: np.stack([decode((x >> by & mask).astype(np.uint8)) for by in (0, apart)], -1)


def _decoder(fmt: FloatFormat) -> Callable[[Array], Array]:
    return lambda codes: codec.decode(fmt, codes)


def _from_e8m0(codes: Array) -> Array:
    return e8m0.decode(codes).astype(np.float32)


def _halves(_: Sequence[str], a: Array, b: Array) -> Array:
    return np.stack(np.broadcast_arrays(b, a), axis=-1)


_NEAREST, _SCALE = "rn satfinite relu?", "rz|rp satfinite?"

#: cvt's packed forms, by (destination, source).
CONVERSIONS: dict[tuple[str, str], Conversion] = {
    ("e2m1x2", "f32"): Conversion(2, _NEAREST, _pack(_encoder(E2M1), 4, np.uint8)),
    ("e2m3x2", "f32"): Conversion(2, _NEAREST, _pack(_encoder(E2M3), 8, np.uint16)),
    ("e3m2x2", "f32"): Conversion(2, _NEAREST, _pack(_encoder(E3M2), 8, np.uint16)),
    ("e4m3x2", "f32"): Conversion(2, _NEAREST, _pack(_encoder(E4M3), 8, np.uint16)),
    ("e5m2x2", "f32"): Conversion(2, _NEAREST, _pack(_encoder(E5M2), 8, np.uint16)),
    ("e4m3x2", "f16x2"): Conversion(1, _NEAREST, _pack_pair(_encoder(E4M3), 8, np.uint16)),
    ("e5m2x2", "f16x2"): Conversion(1, _NEAREST, _pack_pair(_encoder(E5M2), 8, np.uint16)),
    ("ue8m0x2", "f32"): Conversion(2, _SCALE, _pack(_to_e8m0, 8, np.uint16)),
    ("ue8m0x2", "bf16x2"): Conversion(1, _SCALE, _pack_pair(_to_e8m0, 8, np.uint16)),
    ("f16x2", "e2m1x2"): Conversion(1, "rn relu?", _unpack(_decoder(E2M1), 4, 4)),
    ("f16x2", "e2m3x2"): Conversion(1, "rn relu?", _unpack(_decoder(E2M3), 8, 6)),
    ("f16x2", "e3m2x2"): Conversion(1, "rn relu?", _unpack(_decoder(E3M2), 8, 6)),
    ("f16x2", "e4m3x2"): Conversion(1, "rn relu?", _unpack(_decoder(E4M3), 8, 8)),
    ("f16x2", "e5m2x2"): Conversion(1, "rn relu?", _unpack(_decoder(E5M2), 8, 8)),
    ("bf16x2", "ue8m0x2"): Conversion(1, "rn", _unpack(_from_e8m0, 8, 8)),
    ("f16x2", "f32"): Conversion(2, "rn relu?", _halves),
    ("bf16x2", "f32"): Conversion(2, "rn relu?", lambda _, a, b: round_to_bfloat16(_halves(_, a, b))),
}

#: Types of cvt that are codes: their registers are read and written as bits.
_CODES = {"e2m1x2": "b8", **dict.fromkeys(("e2m3x2", "e3m2x2", "e4m3x2", "e5m2x2", "ue8m0x2"), "b16")}

_INTEGERS = tuple(f"{kind}{bits}" for kind in "us" for bits in (8, 16, 32, 64))
#: In the order of what they hold; of the first two, neither holds the other.
_FLOATS = {"f16": 0, "bf16": 0, "f32": 1, "f64": 2}
_ROUND_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_TO_INTEGER = "|".join(_ROUND_TO_INTEGER)


def register_type(type_: str) -> str:
    """The type of the register that holds what cvt names."""
    return _CODES.get(type_, type_)


def is_relaxed(type_: str) -> bool:
    """Whether cvt takes registers that are wider than the type: section 9.4.1 of the ISA."""
    return type_ in _INTEGERS


def operands_of(target: str, source: str, modifiers: Sequence[str]) -> int:
    """How many registers a conversion takes; UnsupportedError where it is not done."""
    row = CONVERSIONS.get((target, source))
    form = row.form if row else _form(target, source)
    name = ".".join(["cvt", *modifiers, target, source])
    if form is None:
        raise UnsupportedError(f"the inline assembly `{name}`")
    if not fits(form, modifiers):
        raise UnsupportedError(f"the inline assembly `{name}`: allowed modifiers are {spelt(form)}")
    return row.operands if row else 1


def _form(target: str, source: str) -> str | None:
    """The modifiers of a conversion of one number; None where there is no such conversion.

    Not there: ftz where a result of float32 is rounded, before or after which it would be flushed; bf16 of 64-bit
    integers, which would be rounded twice.
    """
    if target in _INTEGERS and source in _INTEGERS:
        return "sat?"
    if target in _INTEGERS and source in _FLOATS:
        return f"{_TO_INTEGER} sat?" + " ftz?" * (source == "f32")
    if target in _FLOATS and source in _INTEGERS:
        return None if target == "bf16" and WIDTHS[source] == 8 else "rn" + " ftz?" * (target == "f32")
    if target not in _FLOATS or source not in _FLOATS:
        return None
    flushes = " ftz?" * (source == "f32" or (target == "f32" and source != "f64"))
    clips = " sat?" * ("bf16" not in (target, source))
    if target == source:
        return f"{_TO_INTEGER}?{flushes}{clips}"
    return ("rn" if _FLOATS[target] <= _FLOATS[source] else "") + flushes + clips


def convert(target: str, source: str, modifiers: Sequence[str], operands: Sequence[Array]) -> Array:
    """Bits to bits, of a conversion that `operands_of` knows."""
    values = [TYPES[register_type(source)].read(x) for x in operands]
    row = CONVERSIONS.get((target, source))
    if row is None:
        return TYPES[target].write(_number(target, source, modifiers, values[0]))
    if "relu" in modifiers and source not in _CODES:
        values = [_positive(x) for x in values]
    result = row.function(modifiers, *values)
    if target in _CODES:
        return result
    if "relu" in modifiers and source in _CODES:
        result = _positive(result)
    return TYPES[target].write(result.astype(np.float16) if target == "f16x2" else result)


def _positive(x: Array) -> Array:
    """What relu leaves: a NaN too."""
    return np.where(x > 0, x, np.where(x != x, x, 0)).astype(x.dtype)


def _number(target: str, source: str, modifiers: Sequence[str], x: Array) -> Array:
    if "ftz" in modifiers and source == "f32":
        x = flushed(x)
    if target in _INTEGERS and source in _INTEGERS:
        return _limited(x, target) if "sat" in modifiers else x
    whole = next((function for name, function in _ROUND_TO_INTEGER.items() if name in modifiers), None)
    if target in _INTEGERS:
        assert whole is not None, "the form asks for one"
        dtype = np.dtype(f"{'i' if target[0] == 's' else 'u'}{WIDTHS[target]}")
        return saturated(whole(x.astype(np.float64)), dtype, no_integer(source, dtype))
    if source in _INTEGERS:
        if target == "bf16":  # by way of float32, it would be rounded twice
            return exact.narrow(x.astype(np.float64), target)
        return x.astype({"f16": np.float16, "f32": np.float32, "f64": np.float64}[target])
    if whole is not None:
        x = whole(x)
    x = exact.narrow(x.astype(np.float64), target)
    if "ftz" in modifiers and target == "f32":
        x = flushed(x)
    if "sat" in modifiers:
        x = (np.where(x != x, 0, np.clip(x, 0, 1)) + 0.0).astype(x.dtype)  # -0 becomes +0
    return x


def _limited(x: Array, target: str) -> Array:
    """Integers as the nearest ones of another type."""
    there, here = np.iinfo(f"{'i' if target[0] == 's' else 'u'}{WIDTHS[target]}"), np.iinfo(x.dtype)
    return np.clip(x, x.dtype.type(max(there.min, here.min)), x.dtype.type(min(there.max, here.max)))
