"""Tile configurations of the grouped GEMM, as data: the named ones, and which a problem gets by default."""

from __future__ import annotations

from dataclasses import dataclass

_ALLOWED = {
    "block_m": (16, 32, 64, 128),
    "block_n": (16, 32, 64, 128, 256),
    # A half-dot takes half of it, and 64 bf16 columns at least keep the pipeline busy.
    "block_k": (64, 128, 256),
    "num_warps": (1, 2, 4, 8),
}
_RANGES = {"group_m": (1, 16), "num_stages": (1, 4)}


@dataclass(frozen=True)
class Config:
    """Tile sizes in elements, and the order of the programs. Slots are aligned to `block_m`."""

    block_m: int
    block_n: int
    block_k: int
    group_m: int = 1
    num_warps: int = 4
    num_stages: int = 2

    def __post_init__(self) -> None:
        for field, allowed in _ALLOWED.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"config.{field} is {getattr(self, field)!r}; allowed: {allowed}")
        for field, (low, high) in _RANGES.items():
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"config.{field} is {value!r}; allowed: {low} to {high}")

    @property
    def name(self) -> str:
        """Such as BM16_BN32_BK64, with _GM8 (grouping) where it is not 1."""
        name = f"BM{self.block_m}_BN{self.block_n}_BK{self.block_k}"
        return name if self.group_m == 1 else f"{name}_GM{self.group_m}"


CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        # Few tokens: many experts with a block of few rows each.
        Config(16, 32, 64),
        Config(16, 64, 128, num_warps=2),
        Config(32, 64, 64, num_warps=2),
        # Many.
        Config(64, 64, 64, group_m=8),
        Config(32, 32, 256, group_m=8),
        Config(64, 128, 128, group_m=8, num_warps=8),
        Config(128, 128, 64, group_m=8, num_warps=8, num_stages=3),
    )
}


def default_config(tokens: int, experts: int) -> Config:
    """The configuration of a problem: a token or less for each expert, or more."""
    return CONFIGS["BM16_BN32_BK64" if tokens <= experts else "BM64_BN64_BK64_GM8"]
