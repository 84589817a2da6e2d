"""Tile configurations of the cast-transpose, as data: the named ones, and which of them a shape gets by default."""

from __future__ import annotations

from dataclasses import dataclass

# Both directions quantize a tile's whole blocks of 32, and tiles divide the 256 that shuffled scales are padded to.
_ALLOWED = {
    "block_m": (32, 64, 128, 256),
    "block_n": (32, 64, 128, 256),
    "num_warps": (1, 2, 4, 8),
}


@dataclass(frozen=True)
class Config:
    """Tile sizes in elements, and the warps that share a tile."""

    block_m: int
    block_n: int
    num_warps: int = 4

    def __post_init__(self) -> None:
        for field, allowed in _ALLOWED.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"config.{field} is {getattr(self, field)!r}; allowed: {allowed}")

    @property
    def name(self) -> str:
        """Such as BM128_BN128."""
        return f"BM{self.block_m}_BN{self.block_n}"


CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        # Small tiles first: many programs and edges in a small problem.
        Config(32, 32, num_warps=1),
        Config(32, 64, num_warps=1),
        Config(64, 32, num_warps=1),
        Config(64, 64, num_warps=2),
        # One direction alone: long along its blocks.
        Config(32, 128, num_warps=2),
        Config(128, 32, num_warps=2),
        Config(32, 256),
        Config(256, 32),
        # Large problems, both directions: runs of 64 bytes of codes each way.
        Config(64, 128),
        Config(128, 64),
        Config(128, 128, num_warps=8),
    )
}

#: From so many elements on, 128 x 128 tiles fill a GPU; below, smaller ones make more programs.
_LARGE, _MEDIUM = 1 << 22, 1 << 18


def default_config(m: int, n: int) -> Config:
    """The configuration of a shape, by its number of elements."""
    if m * n >= _LARGE:
        return CONFIGS["BM128_BN128"]
    return CONFIGS["BM64_BN64" if m * n >= _MEDIUM else "BM32_BN32"]
