"""The GPU that host code is told of: one card for each architecture, with the figures that launchers ask for.

Figures of another card of the same architecture would do as well: what a launcher makes of them are grids and tile
sizes. An architecture that is not listed gets those of its vendor's that is nearest to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ttir import Arch


@dataclass(frozen=True, slots=True)
class Card:
    """What a vendor's documentation says of a card; sizes in bytes, clocks in kHz, the bus in bits.

    `capability` is (major, minor), as torch has it: of gfx950 (9, 5). `shared` is what one program may have of shared
    memory, `shared_all` what a multiprocessor has.
    """

    name: str
    capability: tuple[int, int]
    processors: int
    shared: int
    shared_all: int
    l2: int
    memory: int
    warp: int
    threads: int
    clock: int
    memory_clock: int
    bus: int


_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30

_CARDS = {
    "sm_80": Card("NVIDIA A100-SXM4-80GB", (8, 0), 108, 163 * _KIB, 164 * _KIB, 40 * _MIB, 80 * _GIB, 32, 2048,
                  1410000, 1593000, 5120),
    "sm_89": Card("NVIDIA L40S", (8, 9), 142, 99 * _KIB, 100 * _KIB, 96 * _MIB, 48 * _GIB, 32, 1536,
                  2520000, 9001000, 384),
    "sm_90": Card("NVIDIA H100 80GB HBM3", (9, 0), 132, 227 * _KIB, 228 * _KIB, 50 * _MIB, 80 * _GIB, 32, 2048,
                  1980000, 2619000, 5120),
    "sm_100": Card("NVIDIA B200", (10, 0), 148, 227 * _KIB, 228 * _KIB, 126 * _MIB, 180 * _GIB, 32, 2048,
                   1965000, 3996000, 8192),
    "sm_120": Card("NVIDIA GeForce RTX 5090", (12, 0), 170, 99 * _KIB, 100 * _KIB, 96 * _MIB, 32 * _GIB, 32, 1536,
                   2407000, 14001000, 512),
    "gfx942": Card("AMD Instinct MI300X", (9, 4), 304, 64 * _KIB, 64 * _KIB, 4 * _MIB, 192 * _GIB, 64, 2048,
                   2100000, 1300000, 8192),
    "gfx950": Card("AMD Instinct MI355X", (9, 5), 256, 160 * _KIB, 160 * _KIB, 4 * _MIB, 288 * _GIB, 64, 2048,
                   2400000, 2000000, 8192),
    "gfx1201": Card("AMD Radeon RX 9070 XT", (12, 0), 32, 64 * _KIB, 64 * _KIB, 8 * _MIB, 16 * _GIB, 32, 1024,
                    2970000, 1258000, 256),
    "gfx1250": Card("AMD Instinct MI450", (12, 5), 256, 320 * _KIB, 320 * _KIB, 4 * _MIB, 432 * _GIB, 32, 1024,
                    2400000, 2000000, 8192),
}  # fmt: skip


def card_of(arch: Arch) -> Card:
    """The card that stands for an architecture."""
    if arch.name in _CARDS:
        return _CARDS[arch.name]
    prefix = "sm_" if arch.name.startswith("sm_") else "gfx"
    capability = _capability(arch)
    alike = [card for name, card in _CARDS.items() if name.startswith(prefix)]
    nearest = min(alike, key=lambda card: (abs(card.capability[0] - capability[0]), card.capability))
    return Card(arch.name, capability, *(getattr(nearest, name) for name in Card.__slots__[2:]))


def _capability(arch: Arch) -> tuple[int, int]:
    """sm_103 is (10, 3); gfx90a is (9, 0), for the last digit is a stepping."""
    if arch.name.startswith("sm_"):
        number = int(arch.name[3:])
        return number // 10, number % 10
    digits = arch.name[3:-1]
    return int(digits[:-1], 16) if not digits[:-1].isdigit() else int(digits[:-1] or 0), int(digits[-1], 16)
