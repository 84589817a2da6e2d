"""Configurations of the MQA logits, as data. Chunks and splits say who does what; none of them changes a result."""

from __future__ import annotations

from dataclasses import dataclass

_ALLOWED = {
    "chunk_k": (32, 64, 128, 256, 512),
    "num_warps": (1, 2, 4, 8),
}
_RANGES = {"split_kv": (1, 64), "num_programs": (1, 4096), "num_stages": (1, 4)}


@dataclass(frozen=True)
class Config:
    """Positions of a chunk, two stages of half of it; splits of a context (fixed), programs for all of them (variable).

    Raises ValueError for a field that is none of those allowed.
    """

    chunk_k: int = 256
    split_kv: int = 1
    num_programs: int = 1
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
        """Such as CK256_SK4_P80."""
        return f"CK{self.chunk_k}_SK{self.split_kv}_P{self.num_programs}"


CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        # Small chunks first: many chunks, residuals and splits in a short context.
        Config(32, 1, 1, num_warps=1),
        Config(32, 3, 2, num_warps=1),
        Config(64, 7, 3, num_warps=2),
        Config(64, 2, 5, num_warps=2),
        Config(128, 3, 2),
        Config(128, 5, 7),
        # AITER's chunk of 256, with a program for each of 80 compute units.
        Config(256, 1, 1),
        Config(256, 2, 4),
        Config(256, 5, 80),
    )
}


def default_config(rows: int, max_model_len: int, units: int, chunk_k: int = 256) -> Config:
    """For `rows` query tokens on `units` multiprocessors (compute units): at least two programs for each of them."""
    split_kv = min(max(2 * units // max(rows, 1), 1), max(max_model_len // chunk_k, 1), 64)
    return Config(chunk_k, split_kv, min(2 * units, 4096))
