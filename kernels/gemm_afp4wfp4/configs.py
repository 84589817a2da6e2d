"""Tile configurations of the GEMM, as data: the named ones, and which of them a shape gets by default."""

from __future__ import annotations

from dataclasses import dataclass

# What ships. A block_m of 4 is below any matrix instruction: the compiler pads it, or falls back to FMA.
_ALLOWED = {
    "block_m": (4, 8, 16, 32, 64, 128, 256),
    "block_n": (16, 32, 64, 128, 256),
    "block_k": (128, 256, 512, 1024),
    "num_warps": (1, 2, 4, 8),
}
_RANGES = {"group_m": (1, 16), "num_ksplit": (1, 16), "num_stages": (1, 4)}


@dataclass(frozen=True)
class Config:
    """Tile sizes in elements (BLOCK_SIZE_K too), the order of the programs, and how K is split."""

    block_m: int
    block_n: int
    block_k: int
    num_ksplit: int = 1
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
        """Such as BM32_BN32_BK128, with _KS4 (split-K) and _GM4 (grouping) where they are not 1."""
        name = f"BM{self.block_m}_BN{self.block_n}_BK{self.block_k}"
        if self.num_ksplit != 1:
            name += f"_KS{self.num_ksplit}"
        if self.group_m != 1:
            name += f"_GM{self.group_m}"
        return name


CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        # Small tiles first: many programs and edges in a small problem.
        Config(4, 16, 128, num_warps=1, num_stages=1),
        Config(8, 16, 128, num_warps=1),
        Config(16, 16, 128, num_warps=1),
        Config(16, 32, 128, num_warps=2),
        Config(32, 32, 128),
        Config(32, 32, 256),
        Config(32, 64, 256),
        Config(64, 64, 128),
        Config(64, 64, 256),
        # Ordered in groups of rows.
        Config(16, 32, 128, group_m=2, num_warps=2),
        Config(32, 32, 128, group_m=4),
        Config(32, 64, 256, group_m=16),
        Config(64, 64, 256, group_m=4),
        # Few rows, long K: split.
        Config(4, 32, 128, num_ksplit=4, num_warps=2, num_stages=1),
        Config(8, 64, 512, num_ksplit=4, num_warps=4),
        Config(16, 32, 128, num_ksplit=2, num_warps=2),
        Config(16, 32, 256, num_ksplit=7, num_warps=2),
        Config(16, 64, 256, num_ksplit=16),
        Config(16, 64, 512, num_ksplit=4),
        Config(32, 32, 128, num_ksplit=4),
        Config(32, 32, 128, num_ksplit=4, group_m=4),
        Config(32, 32, 128, num_ksplit=8),
        Config(32, 64, 256, num_ksplit=3),
        Config(32, 64, 512, num_ksplit=2),
        Config(32, 128, 256, num_ksplit=14),
        Config(64, 64, 256, num_ksplit=2),
        # A deep K block.
        Config(4, 32, 512, num_warps=2, num_stages=1),
        Config(8, 32, 1024, num_warps=2, num_stages=1),
        Config(16, 32, 1024, num_stages=1),
        Config(32, 32, 512),
        Config(32, 32, 1024, num_stages=1),
        Config(32, 64, 1024, num_stages=1),
        Config(64, 32, 512),
        Config(64, 128, 512, num_warps=8, num_stages=1),
        # Large problems.
        Config(32, 256, 256, num_warps=8),
        Config(64, 128, 256),
        Config(128, 32, 256),
        Config(128, 128, 256, num_warps=8),
        Config(128, 128, 256, group_m=4, num_warps=8),
        Config(128, 256, 128, group_m=8, num_warps=8),
        Config(256, 16, 128),
        Config(256, 256, 256, group_m=4, num_warps=8),
    )
}

_ANY = 1 << 31
_M_BOUNDS = (8, 16, 32, 64, 128, 256, 512, _ANY)

# Every default also suits preshuffled scales: block_n >= 32, block_k >= 256, block_m >= 32 from M = 32 on.
_DEFAULT = {
    8: "BM8_BN64_BK512_KS4",
    16: "BM16_BN64_BK512_KS4",
    32: "BM32_BN64_BK512_KS2",
    64: "BM64_BN64_BK256_KS2",
    128: "BM64_BN64_BK256",
    256: "BM64_BN128_BK256",
    512: "BM128_BN128_BK256_GM4",
    _ANY: "BM256_BN256_BK256_GM4",
}

# Tuned shapes, (N, K, bound on M). In each of these K is no multiple of the K block.
_TUNED = {
    (7168, 2304, 64): "BM64_BN32_BK512",
    (24576, 1536, 8): "BM8_BN32_BK1024",
    (24576, 1536, 16): "BM16_BN32_BK1024",
    (24576, 1536, 32): "BM32_BN32_BK1024",
    (24576, 1536, 64): "BM32_BN64_BK1024",
}


def default_config(m: int, n: int, k: int) -> Config:
    """The configuration of a shape: tuned for (N, K) where there is one, else by M alone."""
    bound = next(bound for bound in _M_BOUNDS if m <= bound)
    return CONFIGS[_TUNED.get((n, k, bound), _DEFAULT[bound])]
