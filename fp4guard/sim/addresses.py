"""Pointers carry their region in one 64-bit integer, so that pointer arithmetic is integer arithmetic.

    bit 62        set when the arithmetic that made the address overflowed
    bits 61..48   the region's number, from 1
    bits 47..0    2^47 + the byte offset in the region's storage

An overrun of up to 2^47 bytes either way stays attributed to the buffer it started from, where a machine address
would silently name the neighbour. Machine addresses of user space lie below 2^47, so the two cannot be confused.
"""

from __future__ import annotations

REGION_SHIFT = 48
OVERFLOWED = 1 << 62
_MIDDLE = 1 << 47


def base_address(number: int) -> int:
    """The address of offset 0 of the region with that number, from 1."""
    return (number << REGION_SHIFT) + _MIDDLE
