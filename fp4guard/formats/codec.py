"""Codes to values and back, exact, for every format of `info` and every policy: the twin of `scalar`, for arrays.

Formats of 8 bits and less are looked up. All that matters of a value to them is in the upper 16 bits of its float32,
with the last of them set where anything below is: rounded to odd, to 8 significant bits, a value stays on its side of
every boundary that a significand of at most 6 bits has (Boldo and Melquiond, IEEE Trans. Computers 57(4), 2008). So a
table of 2^16 codes holds every answer, the arithmetic's own, and 64 KiB stay in a processor's second cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4guard.formats import arithmetic
from fp4guard.formats.arithmetic import Policies, code_dtype
from fp4guard.formats.info import FloatFormat
from fp4guard.formats.policies import NanElement, Overflow, Rounding, ZeroSign
from fp4guard.formats.scalar import check_policies, nan_code

#: What stochastic rounding draws from: words that are given, or a generator of them.
Random = NDArray[np.uint32] | np.random.Generator | None

# Values at a time: few enough that what stands between two steps is still in the cache, enough that a step's fixed cost
# does not show.
_CHUNK = 1 << 16
# No format that has a NaN policy uses the byte, so it can stand in a table for "refuse".
_REFUSED = 0xFF


def decode(fmt: FloatFormat, codes: ArrayLike) -> NDArray[np.float32]:
    """Codes of any shape to their values, float32 of the same shape; exact, as every format fits float32.

    Codes are uint8, of 16-bit formats uint16, of float32 uint32, one in each. A NaN is quiet and has the code's sign.

    Raises TypeError for another dtype, and ValueError for a code that the format does not have: high bits that are not
    zero are a packing error, and ignoring them (ml_dtypes reads 0x17 as E2M1's -6) would hide it.
    """
    codes = np.asarray(codes)
    dtype = np.dtype(code_dtype(fmt))
    if codes.dtype != dtype:
        raise TypeError(f"codes: dtype {codes.dtype}; {fmt.name} allows {dtype}, one code in each")
    if fmt.width < 8 and codes.size and codes.max() >= fmt.codes:
        first = int(codes.ravel()[np.argmax(codes.ravel() >= fmt.codes)])
        raise ValueError(
            f"codes: {first:#04x}; {fmt.name} allows 0x00 .. {fmt.codes - 1:#04x}, one code a byte (packed? see unpack)"
        )
    if fmt.width > 16:
        return arithmetic.decode(fmt, codes)
    return np.take(_values(fmt), codes)


def encode(
    fmt: FloatFormat,
    values: ArrayLike,
    rounding: Rounding = Rounding.TIES_TO_EVEN,
    *,
    overflow: Overflow | None = None,
    nan: NanElement = NanElement.RAISE,
    zero_sign: ZeroSign = ZeroSign.KEEP,
    random: Random = None,
) -> NDArray[np.unsignedinteger]:
    """Values of any shape to codes of the same shape, each rounded once; dtypes of codes as in `decode`.

    Defaults, and where they come from: ties to even (IEEE 754-2019, section 4.3.1; OCP MX v1.0, section 6.3); for
    `overflow`, `fmt.overflow`; signs of zeros are kept (IEEE 754, section 6.3); NaN is refused where the format has
    none, as no standard says what it becomes, and is `fmt.nan`, its sign dropped, where it has one.

    float64 is rounded from float64 (ml_dtypes rounds it to float32 first: 0.25 + 1e-12 becomes E2M1's 0). E8M0 has no
    zero and no sign, so it takes positive values alone, and its smallest is what all below it become.

    With Rounding.STOCHASTIC `random` is uint32 of the values' shape, or a generator that they are drawn from. |v|
    between neighbours, low <= |v| < high, becomes high where random < (|v| - low) / (high - low) * 2^32, exactly
    compared; above `fmt.max`, high is where the next value would be.

    Raises TypeError for values that are not real numbers or exact in float64, and for words of another dtype;
    ValueError for a NaN under NanElement.RAISE, values that E8M0 lacks, policies that the format has no answer to
    (NONSATURATING without Inf and NaN, a NaN policy where there is a NaN), and `random` missing, misshapen or unused.
    """
    values = as_floats(values)
    policies = Policies(rounding, overflow or fmt.overflow, nan, zero_sign)
    check_policies(fmt, rounding, policies.overflow, nan, random is not None)
    if not fmt.has_sign and (values <= 0).any():
        first = float(values[values <= 0].ravel()[0])
        raise ValueError(f"values: {first!r}; {fmt.name} has neither a zero nor a sign")
    if fmt.width > 8 or rounding is Rounding.STOCHASTIC:
        if fmt.nan is None and nan is NanElement.RAISE and np.isnan(values).any():
            nan_code(fmt, nan)
        return _computed(fmt, values, policies, _words(random, values.shape))
    return _looked_up(fmt, values, policies)


def as_floats(values: ArrayLike) -> NDArray[np.floating]:
    """Real numbers as float32, or as float64 where that is not exact.

    Raises TypeError for other types, ValueError for integers that float64 does not hold.
    """
    values = np.asarray(values)
    if values.dtype == np.float32 or values.dtype == np.float64:
        return values
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        if (np.abs(values.astype(np.float64)) > 2.0**53).any():
            raise ValueError("values: integers beyond 2^53, which float64 does not hold; allowed are floats of them")
        return values.astype(np.float64)
    for wider in (np.float32, np.float64):
        if np.can_cast(values.dtype, wider):  # bfloat16 of ml_dtypes too
            return values.astype(wider)
    raise TypeError(f"values: dtype {values.dtype}; allowed are real numbers that float64 holds exactly")


def _words(random: Random, shape: tuple[int, ...]) -> NDArray[np.uint32] | None:
    if isinstance(random, np.random.Generator):
        return random.integers(0, 1 << 32, shape, np.uint32)
    if random is None:
        return None
    random = np.asarray(random)
    if random.dtype != np.uint32:
        raise TypeError(f"random: dtype {random.dtype}; allowed is uint32, or a numpy Generator")
    if random.shape != shape:
        raise ValueError(f"random: shape {random.shape}; allowed is that of the values, {shape}")
    return random


def _computed(
    fmt: FloatFormat, values: NDArray[np.floating], policies: Policies, random: NDArray[np.uint32] | None
) -> NDArray[np.unsignedinteger]:
    flat, words = values.reshape(-1), None if random is None else random.reshape(-1)
    codes = np.empty(flat.size, code_dtype(fmt))
    for part in _parts(flat.size):
        drawn = None if words is None else words[part]
        codes[part] = arithmetic.encode(fmt, flat[part].astype(np.float64), policies, drawn)
    return codes.reshape(values.shape)


def _parts(size: int) -> Iterator[slice]:
    for start in range(0, size, _CHUNK):
        yield slice(start, min(start + _CHUNK, size))


# -- tables ---------------------------------------------------------------------------------------------------------


@cache
def _values(fmt: FloatFormat) -> NDArray[np.float32]:
    values = arithmetic.decode(fmt, np.arange(fmt.codes, dtype=code_dtype(fmt)))
    values.flags.writeable = False
    return values


@cache
def _codes(fmt: FloatFormat, policies: Policies) -> NDArray[np.uint8]:
    """By the upper half of a float32: its code, or `_REFUSED` for a NaN that the policy refuses."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    codes = arithmetic.encode(fmt, values, policies).astype(np.uint8)
    if fmt.nan is None and policies.nan is NanElement.RAISE:
        codes[np.isnan(values)] = _REFUSED
    codes.flags.writeable = False
    return codes


def _looked_up(fmt: FloatFormat, values: NDArray[np.floating], policies: Policies) -> NDArray[np.uint8]:
    table = _codes(fmt, policies)
    flat = np.ascontiguousarray(values).reshape(-1)
    codes = np.empty(flat.size, np.uint8)
    bits, index = (np.empty(min(flat.size, _CHUNK), dtype) for dtype in (np.uint32, np.intp))
    for part in _parts(flat.size):
        chunk = flat[part]
        upper, at = bits[: chunk.size], index[: chunk.size]
        _to_odd_halves(_single_bits(chunk), upper)
        at[:] = upper
        np.take(table, at, out=codes[part], mode="wrap")  # of the modes, the one that checks and copies least
    if fmt.nan is None and policies.nan is NanElement.RAISE and codes.size and codes.max() == _REFUSED:
        nan_code(fmt, policies.nan)
    return codes.reshape(values.shape)


def _single_bits(values: NDArray[np.floating]) -> NDArray[np.uint32]:
    """The bits of float32, of float64 rounded to odd: cut off, the last bit set where something was."""
    if values.dtype == np.float32:
        return values.view(np.uint32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        beyond, inexact = np.abs(single) > np.abs(values), single != values
    bits = single.view(np.uint32)
    bits -= beyond
    bits |= inexact
    return bits


def _to_odd_halves(bits: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """The upper halves, their last bit set where the lower half is not zero."""
    np.bitwise_and(bits, 0xFFFF, out=out)
    np.add(out, 0xFFFF, out=out)  # carries into bit 16
    np.bitwise_or(out, bits, out=out)
    np.right_shift(out, 16, out=out)
