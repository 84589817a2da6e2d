"""How E4M3 block scales are stored, and the swizzle of weight scales on the host."""

from __future__ import annotations

from dataclasses import dataclass

import torch

GROUP_SIZE = 16


@dataclass(frozen=True)
class ScaleLayout:
    """Rows and groups of 16 elements are padded, behind, to multiples of a tile, and a tile is stored together."""

    name: str
    row_tile: int
    """0: no tiles, a matrix (rows, groups) of any strides."""
    max_rows: int | None = None
    """What the GEMMs that take it ask for."""

    def shape(self, rows: int, groups: int) -> tuple[int, int]:
        """The shape of the stored buffer, padding included."""
        if not self.row_tile:
            return rows, groups
        return round_up(rows, self.row_tile), round_up(groups, 4)


SCALE_LAYOUTS = {
    layout.name: layout
    for layout in (ScaleLayout("linear", 0), ScaleLayout("128x4", 128), ScaleLayout("8x4", 8, max_rows=32))
}


def scale_layout(name: str, argument: str) -> ScaleLayout:
    """The layout of that name; ValueError, which names `argument`, where there is none."""
    if name not in SCALE_LAYOUTS:
        raise ValueError(f"{argument} is {name!r}; allowed: {', '.join(map(repr, SCALE_LAYOUTS))}")
    return SCALE_LAYOUTS[name]


def swizzle_128x4(scales: torch.Tensor, groups: int) -> torch.Tensor:
    """Scales (rows, up to `groups`) in the 128x4 layout of (rows, groups), with 0 where there are none."""
    padded_rows, padded_groups = SCALE_LAYOUTS["128x4"].shape(scales.shape[0], groups)
    padded = torch.zeros((padded_rows, padded_groups), dtype=scales.dtype, device=scales.device)
    padded[: scales.shape[0], : scales.shape[1]] = scales
    tiles = padded.reshape(padded_rows // 128, 4, 32, padded_groups // 4, 4)
    return tiles.permute(0, 3, 2, 1, 4).reshape(padded_rows, padded_groups)


def round_up(size: int, multiple: int) -> int:
    """The least multiple that is not below `size`."""
    return -(-size // multiple) * multiple
