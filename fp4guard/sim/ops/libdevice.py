"""tt.extern_elementwise: functions of NVIDIA's libdevice and AMD's OCML and OCKL, by symbol.

`__nv_tanhf`, `__nv_fast_tanhf`, `__nv_tanh`, `__ocml_tanh_f32`, `__ocml_tanh_f64` and `__triton_hip_fast_tanhf` are all
the row `tanh`. Sources:
NVIDIA libdevice user's guide; the CUDA mathematical functions for special cases. Functions are computed in float64 and
rounded once, where the library is off by a few ulp.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch

from ...errors import UnsupportedError
from ...ttir import Operation
from ..elements import Array, element_of
from . import exact
from .arith import Rule
from .math import from_torch, multiply_high

#: AMD's by the library, and those that Triton itself puts together for AMD.
_SYMBOLS = (
    re.compile(r"__nv_(?:fast_)?(\w+)$"),
    re.compile(r"__ocml_(?:native_)?(\w+)_f(?:16|32|64)$"),
    re.compile(r"__ockl_(\w+)_u(?:32|64)$"),
    re.compile(r"__triton_hip_(?:fast_)?(\w+)$"),
)


def _away(x: Array) -> Array:
    """To the nearest integer, ties away from zero."""
    return np.copysign(np.floor(np.abs(x) + np.where(np.abs(x) < 2.0**52, 0.5, 0)), x)


def _logb(x: Array) -> Array:
    exponent = np.frexp(x)[1] - 1.0
    return np.where(x == 0, -np.inf, np.where(np.isinf(x), np.inf, np.where(np.isnan(x), x, exponent)))


def _bessel_i0(x: Array) -> Array:
    return np.where(np.isinf(x), np.inf, from_torch(torch.special.i0)(x))  # torch makes NaN of Inf


def _bessel_i1(x: Array) -> Array:
    return np.where(np.isinf(x), x, from_torch(torch.special.i1)(x))


def _vanishing(function: Any) -> Callable[..., Array]:
    """A function of torch's that goes to 0 far out, where torch makes NaN of Inf; only y of -Inf is NaN."""
    name, odd = function.__name__, function.__name__.endswith("j1")

    def apply(x: Array) -> Array:
        far = np.isinf(x) if "bessel_j" in name else x == np.inf
        return np.where(far, np.copysign(0.0, x) if odd else 0.0, from_torch(function)(x))

    return apply


def _half_turns(x: Array) -> tuple[Array, Array]:
    """Which quarter of a turn `x` half turns are nearest to, and how far from it, exactly."""
    rest = np.fmod(x, 2)
    quarter = np.rint(2 * rest)
    return np.where(np.isfinite(x), quarter, 0).astype(np.int64) & 3, np.pi * (rest - quarter / 2)


def _sinpi(x: Array) -> Array:
    quarter, rest = _half_turns(x)
    found = np.choose(quarter, (np.sin(rest), np.cos(rest), -np.sin(rest), -np.cos(rest)))
    return np.where(found == 0, np.copysign(0.0, x), found)


def _cospi(x: Array) -> Array:
    quarter, rest = _half_turns(x)
    return np.choose(quarter, (np.cos(rest), -np.sin(rest), -np.cos(rest), np.sin(rest))) + 0.0


def _length(*parts: Array) -> Array:
    """The root of the sum of the squares, Inf of an Inf; in a type whose exponents go further than those of float64.

    So no square overflows or vanishes, and the greatest lengths, of which float64 makes Inf, have a reciprocal.
    """
    # Element by element: what all programs have in common is not as large as what each has.
    infinite = reduce(np.logical_or, map(np.isinf, parts))
    return np.where(infinite, np.inf, np.sqrt(sum(part.astype(np.longdouble) ** 2 for part in parts)))


def _norm(*parts: Array) -> Array:
    return _length(*parts).astype(np.float64)


def _reciprocal_norm(*parts: Array) -> Array:
    return (1 / _length(*parts)).astype(np.float64)


def _unsigned(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply(*operands: Array) -> Array:
        kind = f"u{operands[0].dtype.itemsize}"
        return function(*(x.view(kind) for x in operands)).view(operands[0].dtype)

    return apply


def _bytes_picked(x: Array, y: Array, selector: Array) -> Array:
    """Four bytes of the eight of y:x, by the lower three bits of each nibble."""
    both = x.view(np.uint32).astype(np.uint64) | y.view(np.uint32).astype(np.uint64) << np.uint64(32)
    result = np.zeros(np.broadcast_shapes(both.shape, selector.shape), np.uint64)
    for place in range(4):
        which = (selector.view(np.uint32).astype(np.uint64) >> np.uint64(4 * place)) & np.uint64(7)
        result |= ((both >> (np.uint64(8) * which)) & np.uint64(0xFF)) << np.uint64(8 * place)
    return result.astype(np.uint32).view(np.int32)


def _low_24(x: Array) -> Array:
    return x << x.dtype.type(8) >> x.dtype.type(8)


#: Computed in float64 from operands of any type, rounded to the result's.
_FLOAT: dict[str, Callable[..., Array]] = {
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "cbrt": np.cbrt,
    "ceil": np.ceil,
    "copysign": np.copysign,
    "cos": np.cos,
    "cosh": np.cosh,
    "cospi": _cospi,
    "cyl_bessel_i0": _bessel_i0,
    "cyl_bessel_i1": _bessel_i1,
    "ddiv_rn": np.divide,
    "divide": np.divide,
    "drcp_rn": lambda x: 1 / x,
    "dsqrt_rn": np.sqrt,
    "erf": from_torch(torch.erf),
    "erfc": from_torch(torch.erfc),
    "erfcinv": lambda x: from_torch(torch.special.ndtri)(x / 2) / -np.sqrt(2.0),
    "erfcx": from_torch(torch.special.erfcx),
    "erfinv": from_torch(torch.erfinv),
    "exp": np.exp,
    "exp10": lambda x: np.power(10.0, x),
    "exp2": np.exp2,
    "expm1": np.expm1,
    "fabs": np.abs,
    "fdim": lambda x, y: np.where(np.isnan(x) | np.isnan(y), x + y, np.where(x > y, x - y, 0.0)),
    "fdiv_rn": np.divide,
    "fdivide": np.divide,
    "floor": np.floor,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "fmod": np.fmod,
    "frcp_rn": lambda x: 1 / x,
    "frsqrt_rn": lambda x: 1 / np.sqrt(x),
    "fsqrt_rn": np.sqrt,
    "hypot": _norm,
    "i0": _bessel_i0,
    "i1": _bessel_i1,
    "j0": _vanishing(torch.special.bessel_j0),
    "j1": _vanishing(torch.special.bessel_j1),
    "ldexp": lambda x, n: np.ldexp(x, n.astype(np.int64)),
    "lgamma": from_torch(torch.lgamma),
    "log": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "log2": np.log2,
    "logb": _logb,
    "nearbyint": np.rint,
    "norm3d": _norm,
    "norm4d": _norm,
    "normcdf": lambda x: from_torch(torch.erfc)(-x / np.sqrt(2.0)) / 2,
    "normcdfinv": from_torch(torch.special.ndtri),
    "pow": np.power,
    "powi": np.power,
    "pown": np.power,
    "rcbrt": lambda x: 1 / np.cbrt(x),
    "rhypot": _reciprocal_norm,
    "rint": np.rint,
    "round": _away,
    "rnorm3d": _reciprocal_norm,
    "rnorm4d": _reciprocal_norm,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "saturate": lambda x: np.fmin(np.fmax(x, 0.0), 1.0),
    "scalbn": lambda x, n: np.ldexp(x, n.astype(np.int64)),
    "sin": np.sin,
    "sinh": np.sinh,
    "sinpi": _sinpi,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
    "y0": _vanishing(torch.special.bessel_y0),
    "y1": _vanishing(torch.special.bessel_y1),
}

#: Exact in the operands' own type: no detour through float64, which would round twice.
_PLAIN: dict[str, Callable[..., Array]] = {
    "abs": np.abs,
    "byte_perm": _bytes_picked,
    "dadd_rn": np.add,
    "dmul_rn": np.multiply,
    "dsub_rn": np.subtract,
    "fadd_rn": np.add,
    "fmul_rn": np.multiply,
    "fsub_rn": np.subtract,
    "hadd": lambda x, y: (x & y) + ((x ^ y) >> 1),  # the average, without the carry that a sum would lose
    "iabs": np.abs,
    "llabs": np.abs,
    "llmax": np.maximum,
    "llmin": np.minimum,
    "max": np.maximum,
    "min": np.minimum,
    "mul24": lambda x, y: _low_24(x) * _low_24(y),
    "mulhi": multiply_high,
    "mul64hi": multiply_high,
    "nextafter": np.nextafter,
    "rhadd": lambda x, y: (x | y) - ((x ^ y) >> 1),
    "sad": lambda x, y, z: np.maximum(x, y) - np.minimum(x, y) + z,
    "uhadd": _unsigned(lambda x, y: (x & y) + ((x ^ y) >> 1)),
    "umul24": _unsigned(lambda x, y: (x & 0xFFFFFF) * (y & 0xFFFFFF)),
    "umul64hi": _unsigned(multiply_high),
    "umulhi": _unsigned(multiply_high),
    "urhadd": _unsigned(lambda x, y: (x | y) - ((x ^ y) >> 1)),
    "usad": _unsigned(lambda x, y, z: np.maximum(x, y) - np.minimum(x, y) + z),
}

#: Predicates, which give an integer.
_PREDICATES: dict[str, Callable[[Array], Array]] = {
    "finite": np.isfinite,
    "isfinite": np.isfinite,
    "isinf": np.isinf,
    "isnan": np.isnan,
    "signbit": np.signbit,
}

#: Float to integer; `round` names how.
_ROUND: dict[str, Callable[[Array], Array]] = {"rn": np.rint, "rz": np.trunc, "rd": np.floor, "ru": np.ceil}
_TO_INTEGER: dict[str, Callable[[Array], Array]] = {
    "ilogb": _logb,
    "llrint": np.rint,
    "llround": _away,
    "lrint": np.rint,
    "lround": _away,
    **{f"{a}2{b}_{r}": f for a in ("float", "double") for b in ("int", "ll") for r, f in _ROUND.items()},
}
_TO_UNSIGNED: dict[str, Callable[[Array], Array]] = {
    f"{a}2{b}_{r}": f for a in ("float", "double") for b in ("uint", "ull") for r, f in _ROUND.items()
}

#: Integer to float, to the nearest; unsigned where the name says so.
_FROM_INTEGER = tuple(f"{a}2{b}_rn" for a in ("int", "uint", "ll", "ull") for b in ("float", "double"))

#: Bits as another type.
_REINTERPRET = (
    "double_as_longlong", "float_as_int", "float_as_uint", "int_as_float", "longlong_as_double", "uint_as_float",
)  # fmt: skip


def _popcount(x: Array) -> Array:
    octets = np.ascontiguousarray(x)[..., None].view(np.uint8)
    return np.unpackbits(octets, axis=-1).sum(axis=-1, dtype=np.int32)


def _reversed_bits(x: Array) -> Array:
    octets = np.ascontiguousarray(x)[..., None].view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, bitorder="little")
    return np.packbits(bits[..., ::-1], axis=-1, bitorder="little").view(x.dtype)[..., 0]


def _leading_zeros(x: Array) -> Array:
    bits = 8 * x.dtype.itemsize
    unsigned = x.view(f"u{x.dtype.itemsize}")
    places = [(unsigned >> np.array(i, unsigned.dtype)) == 0 for i in range(bits)]
    return np.asarray(np.sum(places, axis=0, dtype=np.int32))


def _first_set(x: Array) -> Array:
    lowest = x & -x
    return np.where(x == 0, 0, 8 * x.dtype.itemsize - _leading_zeros(lowest)).astype(np.int32)


_BITS: dict[str, Callable[[Array], Array]] = {
    "brev": _reversed_bits,
    "brevll": _reversed_bits,
    "clz": _leading_zeros,
    "clzll": _leading_zeros,
    "ffs": _first_set,
    "ffsll": _first_set,
    "popc": _popcount,
    "popcll": _popcount,
    "popcount": _popcount,
}


def no_integer(source: str, target: np.dtype[Any]) -> int:
    """What a NaN becomes: 0 where both sides have at most 32 bits, else the sign's bit alone. Seen on an H200."""
    if source != "f64" and target.itemsize < 8:
        return 0
    return int(np.iinfo(target).min) or 1 << (8 * target.itemsize - 1)


def saturated(whole: Array, target: np.dtype[Any], nothing: int) -> Array:
    """Whole numbers of float64 as integers: the nearest there is, `nothing` of NaN."""
    info = np.iinfo(target)
    low, high, nan = whole <= float(info.min), whole >= float(info.max), np.isnan(whole)
    inside = np.where(low | high | nan, 0, whole).astype(target)
    limited = np.where(low, target.type(info.min), np.where(high, target.type(info.max), inside))
    return np.where(nan, target.type(nothing), limited).astype(target)


def name_of(symbol: str) -> str | None:
    """The row of a symbol; None when there is none."""
    name = next((match[1] for pattern in _SYMBOLS if (match := pattern.match(symbol))), "")
    for candidate in (name, name[:-1] if name.endswith(("f", "d")) else name):
        if candidate in NAMES:
            return candidate
    return None


def _external(op: Operation) -> Callable[..., Array]:
    symbol = op.attributes["symbol"]
    name = name_of(symbol)
    if name is None:
        raise UnsupportedError(f"the library function {symbol}", op.location)
    held, element = element_of(op.result.type).held, op.result.type.element
    source = op.operands[0].type.element
    if name in _FUSED:
        return lambda a, b, c: exact.fma(a, b, c, element)
    if name in _REINTERPRET:
        return lambda x: x.view(held)
    if name in _PLAIN:
        return _PLAIN[name]
    if name in _BITS:
        count = _BITS[name]
        return lambda x: count(x).astype(held)
    if name in _PREDICATES:
        predicate = _PREDICATES[name]
        return lambda x: predicate(x).astype(held)
    if name in _TO_INTEGER:
        whole = _TO_INTEGER[name]
        # ilogb of NaN is the least integer (CUDA: FP_ILOGBNAN), as of 0.
        nothing = int(np.iinfo(held).min) if name == "ilogb" else no_integer(source, held)
        return lambda x: saturated(whole(x.astype(np.float64)), held, nothing)
    if name in _TO_UNSIGNED:
        up, unsigned = _TO_UNSIGNED[name], np.dtype(f"u{held.itemsize}")
        nothing = no_integer(source, unsigned)
        return lambda x: saturated(up(x.astype(np.float64)), unsigned, nothing).view(held)
    if name in _FROM_INTEGER:
        return lambda x: (x.view(f"u{x.dtype.itemsize}") if name.startswith("u") else x).astype(held)
    function = _FLOAT[name]
    return lambda *xs: exact.narrow(function(*(x.astype(np.float64) for x in xs)), element)


_FUSED = ("fma", "fma_rn", "fmaf_rn")

#: Every function there is.
NAMES = frozenset(
    {*_FLOAT, *_PLAIN, *_PREDICATES, *_TO_INTEGER, *_TO_UNSIGNED, *_FROM_INTEGER, *_REINTERPRET, *_BITS, *_FUSED}
)

RULES: dict[str, Rule] = {"tt.extern_elementwise": _external}
