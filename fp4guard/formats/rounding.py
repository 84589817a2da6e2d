"""float64 rounded once, ties to even, to the types that kernels store. IEEE 754, section 4.3.1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fp4guard.formats.info import BFLOAT16, FLOAT16, FLOAT32, FloatFormat


class Rounded(NamedTuple):
    """Values on the target's grid, and the same values as the target's bits."""

    value: NDArray[np.float64]
    bits: NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class OutputType:
    """A type that can be rounded to: its format, and the two directions between float64 and its bits."""

    format: FloatFormat
    bits_dtype: type[np.unsignedinteger]
    to_bits: Callable[[NDArray[np.float64]], NDArray[np.unsignedinteger]]
    from_bits: Callable[[NDArray[np.unsignedinteger]], NDArray[np.float64]]


def round_to(values: NDArray[np.float64], dtype_name: str) -> Rounded:
    """`values`, float64 of any shape, rounded once to "float32", "bfloat16" or "float16".

    Overflow becomes Inf, as IEEE 754 has it for ties to even. NaN becomes the canonical quiet NaN, payload
    and sign dropped. Raises ValueError for another `dtype_name`.
    """
    target = output_type(dtype_name)
    values = np.asarray(values, np.float64)
    bits = target.to_bits(values)
    bits = np.where(np.isnan(values), target.bits_dtype(target.format.nan or 0), bits)
    return Rounded(target.from_bits(bits), bits)


def from_bits(bits: NDArray[np.unsignedinteger], dtype_name: str) -> NDArray[np.float64]:
    """The values, float64, of a type's bits, exact. Raises TypeError where the bits are of another width."""
    target = output_type(dtype_name)
    if bits.dtype != target.bits_dtype:
        raise TypeError(f"bits: dtype {bits.dtype}; {dtype_name} allows {np.dtype(target.bits_dtype)}")
    return target.from_bits(bits)


def output_type(dtype_name: str) -> OutputType:
    """The row of `OUTPUT_TYPES`; ValueError for a name that has none."""
    try:
        return OUTPUT_TYPES[dtype_name]
    except KeyError:
        raise ValueError(f"dtype_name: {dtype_name!r}; allowed are {', '.join(OUTPUT_TYPES)}") from None


def _float32_to_bits(values: NDArray[np.float64]) -> NDArray[np.unsignedinteger]:
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float32).view(np.uint32)


def _float16_to_bits(values: NDArray[np.float64]) -> NDArray[np.unsignedinteger]:
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float16).view(np.uint16)


def _bfloat16_to_bits(values: NDArray[np.float64]) -> NDArray[np.unsignedinteger]:
    # To float32 first, but rounding to odd: inexact results get an odd last bit, which no tie of the second
    # rounding has, so that the two together round once (Boldo and Melquiond, IEEE Trans. Computers 57(4),
    # 2008; 24 >= 8 + 2 bits). bfloat16 has float32's exponents, so the same holds for its subnormals.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        single = values.astype(np.float32)
    bits = single.view(np.uint32)
    bits = bits - (np.abs(single) > np.abs(values))
    bits = bits | (single != values)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def _bfloat16_from_bits(bits: NDArray[np.unsignedinteger]) -> NDArray[np.float64]:
    return _float32_from_bits(bits.astype(np.uint32) << np.uint32(16))


def _float32_from_bits(bits: NDArray[np.unsignedinteger]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN like any other
        return bits.view(np.float32).astype(np.float64)


def _float16_from_bits(bits: NDArray[np.unsignedinteger]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return bits.view(np.float16).astype(np.float64)


OUTPUT_TYPES = {
    "float32": OutputType(FLOAT32, np.uint32, _float32_to_bits, _float32_from_bits),
    "bfloat16": OutputType(BFLOAT16, np.uint16, _bfloat16_to_bits, _bfloat16_from_bits),
    "float16": OutputType(FLOAT16, np.uint16, _float16_to_bits, _float16_from_bits),
}
