"""Tile configurations of the two kernels, as data, and which of them a shape gets by default."""

from __future__ import annotations

from dataclasses import dataclass

_ALLOWED = {
    "block_m": (16, 32, 64, 128),
    "block_n": (16, 32, 64, 128, 256),
    "block_k": (64, 128, 256),
    "num_warps": (1, 2, 4, 8),
}
_QUANTIZE_ALLOWED = {
    "block_m": (1, 2, 4, 8, 16, 32, 64, 128),
    "block_groups": (4, 8, 16, 32, 64),
    "num_warps": (1, 2, 4, 8),
}
_RANGES = {"group_m": (1, 16), "num_stages": (1, 4)}


@dataclass(frozen=True)
class Config:
    """Tile sizes of the GEMM in elements (block_k too), and the order of its programs."""

    block_m: int
    block_n: int
    block_k: int
    group_m: int = 1
    num_warps: int = 4
    num_stages: int = 2

    def __post_init__(self) -> None:
        _check(self, _ALLOWED)
        for field, (low, high) in _RANGES.items():
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"config.{field} is {value!r}; allowed: {low} to {high}")

    @property
    def name(self) -> str:
        """Such as BM32_BN32_BK128, with _GM4 (grouping) where it is not 1."""
        name = f"BM{self.block_m}_BN{self.block_n}_BK{self.block_k}"
        return name if self.group_m == 1 else f"{name}_GM{self.group_m}"


@dataclass(frozen=True)
class QuantizeConfig:
    """The tile of the quantization: rows, and groups of 16 elements."""

    block_m: int
    block_groups: int
    num_warps: int = 4

    def __post_init__(self) -> None:
        _check(self, _QUANTIZE_ALLOWED)

    @property
    def name(self) -> str:
        """Such as BM16_BG8."""
        return f"BM{self.block_m}_BG{self.block_groups}"


def _check(config: Config | QuantizeConfig, table: dict[str, tuple[int, ...]]) -> None:
    for field, allowed in table.items():
        if getattr(config, field) not in allowed:
            raise ValueError(f"config.{field} is {getattr(config, field)!r}; allowed: {allowed}")


CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        # Small tiles first: many programs and edges in a small problem.
        Config(16, 16, 64, num_warps=1),
        Config(16, 32, 64, num_warps=2),
        Config(16, 32, 128, num_warps=2),
        Config(16, 64, 256, num_warps=4),
        Config(32, 32, 64),
        Config(32, 32, 128, group_m=4),
        Config(32, 64, 128),
        Config(64, 64, 64),
        Config(64, 64, 128, group_m=8),
        Config(64, 128, 128, num_warps=8),
        Config(128, 64, 64, num_warps=8),
        Config(128, 128, 64, group_m=8, num_warps=8),
        Config(128, 256, 64, group_m=4, num_warps=8),
    )
}

QUANTIZE_CONFIGS: dict[str, QuantizeConfig] = {
    config.name: config
    for config in (
        QuantizeConfig(1, 4, num_warps=1),
        QuantizeConfig(1, 32, num_warps=1),
        QuantizeConfig(2, 16, num_warps=2),
        QuantizeConfig(4, 8, num_warps=2),
        QuantizeConfig(8, 64, num_warps=8),
        QuantizeConfig(16, 4, num_warps=2),
        QuantizeConfig(16, 16),
        QuantizeConfig(32, 8),
        QuantizeConfig(64, 4),
        QuantizeConfig(128, 4, num_warps=8),
    )
}

_ANY = 1 << 31
_DEFAULT = {
    16: "BM16_BN64_BK256",
    32: "BM32_BN64_BK128",
    64: "BM64_BN64_BK128_GM8",
    128: "BM64_BN128_BK128",
    _ANY: "BM128_BN128_BK64_GM8",
}
_QUANTIZE_DEFAULT = {8: "BM1_BG32", 128: "BM4_BG8", _ANY: "BM16_BG16"}


def default_config(m: int) -> Config:
    """The GEMM's configuration for so many rows."""
    return CONFIGS[next(name for bound, name in _DEFAULT.items() if m <= bound)]


def default_quantize_config(m: int) -> QuantizeConfig:
    """The quantization's configuration for so many rows."""
    return QUANTIZE_CONFIGS[next(name for bound, name in _QUANTIZE_DEFAULT.items() if m <= bound)]
