"""What stands where nothing defined was written: the bytes of red zones, of fresh memory and of undefined lanes.

A run has one poison. Two runs that differ only in poison must give the same outputs, so the patterns are chosen to
differ in what they do: all ones is NaN for every IEEE-like float format and for an E8M0 scale, and -1 as an index;
ordinary numbers are finite, and in range as an index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch

#: Element types by width and nature; a pattern has one repeating period for each.
_BFLOAT16_ONE, _BFLOAT16_STEP = 0x3F80, 0x10


def _ordinary(dtype: torch.dtype) -> np.ndarray[Any, Any]:
    """Finite, varied, small: 1, 1.125, ... for floats; 0..3 for integers of 16 bits and more (an index in range).

    One-byte integers are mostly codes and scales: 0x7D..0x81 are E8M0 scales near 1. Those codes are NaN for some of
    the 8-bit floats, for which 0x38..0x3E are finite, whatever their split of the bits.
    """
    if dtype == torch.bfloat16:
        return (_BFLOAT16_ONE + _BFLOAT16_STEP * np.arange(7)).astype(np.uint16).view(np.uint8)
    if dtype.is_floating_point and dtype.itemsize > 1:
        return (1 + np.arange(7) / 8).astype(_numpy_float(dtype)).view(np.uint8)
    if dtype.is_floating_point and dtype is not _E8M0:
        return np.arange(0x38, 0x3F, dtype=np.uint8)
    if dtype.itemsize == 1:
        return np.array([0x7F, 0x7E, 0x80, 0x7D, 0x81], np.uint8) if dtype is not torch.bool else _ONE
    if dtype.is_complex:
        return np.arange(1, 8, dtype=np.float32).view(np.uint8)
    return (np.arange(7) % 4).astype(f"i{dtype.itemsize}").view(np.uint8)


_ONE = np.array([1], np.uint8)

#: torch has them since 2.7 and 2.8; the latter is of two numbers.
_E8M0, _E2M1X2 = getattr(torch, "float8_e8m0fnu", None), getattr(torch, "float4_e2m1fn_x2", None)


def _numpy_float(dtype: torch.dtype) -> str:
    return f"f{dtype.itemsize}"


def _all_ones(dtype: torch.dtype) -> np.ndarray[Any, Any]:
    return np.full(1, 0xFF, np.uint8) if dtype is not torch.bool else _ONE * 0


def _extreme(largest: bool) -> Callable[[torch.dtype], np.ndarray[Any, Any]]:
    """The largest or the smallest finite number."""

    def period(dtype: torch.dtype) -> np.ndarray[Any, Any]:
        if dtype == _E2M1X2:
            return np.full(1, 0x77 if largest else 0xFF, np.uint8)
        if dtype is torch.bool or dtype == _E8M0 or dtype.is_complex:
            return np.full(1, 254 if largest and dtype == _E8M0 else int(largest), np.uint8)
        info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
        wide = torch.float64 if dtype.is_floating_point else dtype
        number = torch.tensor([info.max if largest else info.min], dtype=wide)
        return number.to(dtype).view(torch.uint8).numpy()

    return period


def _one(dtype: torch.dtype) -> np.ndarray[Any, Any]:
    if dtype == _E2M1X2:
        return np.full(1, 0x22, np.uint8)
    return torch.ones(1, dtype=torch.float32).to(dtype).view(torch.uint8).numpy()


_PATTERNS = {
    "all ones": _all_ones,
    "ordinary numbers": _ordinary,
    "the largest number": _extreme(True),
    "the smallest number": _extreme(False),
    "the number 1": _one,
}

#: Poison is copied from a block of about this many bytes that holds whole periods.
_BLOCK = 1 << 14


@cache
def _block(pattern: str, dtype: torch.dtype) -> np.ndarray[Any, Any]:
    period = _PATTERNS[pattern](dtype)
    return np.tile(period, -(-_BLOCK // len(period)))


@dataclass(frozen=True)
class Poison:
    """The poison of one run: a pattern, and for single sites of the program another one.

    A site is an operation of a compiled kernel; anything hashable will do.
    """

    pattern: str
    exceptions: Mapping[Any, str] = field(default_factory=dict)

    def at(self, site: Any, pattern: str) -> Poison:
        """The same poison, but `pattern` for what the operation `site` leaves undefined."""
        return replace(self, exceptions={**self.exceptions, site: pattern})

    def fill(self, storage: np.ndarray[Any, Any], dtype: torch.dtype) -> None:
        """Fill bytes with the pattern for elements of `dtype`, in phase with the start of the storage."""
        block = _block(self.pattern, dtype)
        for start in range(0, len(storage), len(block)):
            part = storage[start : start + len(block)]
            part[:] = block[: len(part)]

    def lane(self, site: Any, dtype: torch.dtype) -> bytes:
        """The bytes of one undefined element of `dtype` at a site."""
        return _block(self.exceptions.get(site, self.pattern), dtype)[: dtype.itemsize].tobytes()


ALL_ONES = Poison("all ones")
ORDINARY = Poison("ordinary numbers")
#: A maximum swallows NaN, -1 and small numbers, and a minimum the like: only an extreme comes through.
EXTREMES = (Poison("the largest number"), Poison("the smallest number"))
#: What a flag holds that another program has set: whoever waits for it waits no longer.
SET_FLAG = Poison("the number 1")


def mixed(sites: Sequence[Any]) -> Iterator[Poison]:
    """Poisons of which any two sites have different patterns in one: what they leave undefined may cancel out as long
    as it is the same, as in a difference.
    """
    for digit in range((len(sites) - 1).bit_length() if sites else 0):
        held = (ALL_ONES if number >> digit & 1 else ORDINARY for number in range(len(sites)))
        yield replace(ORDINARY, exceptions={site: one.pattern for site, one in zip(sites, held)})
