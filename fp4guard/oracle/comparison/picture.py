"""Where in an output the errors are, drawn with characters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fp4guard.oracle.operand import Bools

ROWS, COLUMNS = 16, 64
"""A picture has no more cells than this down and across."""

_SMALLEST = 32
"""Of fewer elements no picture is drawn: the message names two of them anyway."""


def draw(wrong: Bools) -> str | None:
    """A grid for bool [*shape], the wrong elements, with its legend; None where it would tell nothing.

    The last two axes run down and across; of a batch the matrix with most wrong elements is drawn. A cell is a power of
    two of rows and of columns. Lines of cells that look the same are drawn once, with the rows that they stand for.
    """
    count = int(wrong.sum())
    if wrong.size < _SMALLEST or count <= 1 or count == wrong.size:
        return None
    batch = wrong.shape[:-2]
    matrices = wrong.reshape(-1, *(wrong.shape[-2:] if wrong.ndim > 1 else (1, wrong.size)))
    worst = int(matrices.sum(axis=(1, 2)).argmax())
    matrix = matrices[worst]
    rows, columns = matrix.shape
    height, width = _cell(rows, ROWS), _cell(columns, COLUMNS)
    down, across = np.arange(0, rows, height), np.arange(0, columns, width)
    counts = np.add.reduceat(np.add.reduceat(matrix, down, axis=0, dtype=np.int64), across, axis=1)
    sizes = np.minimum(rows - down, height)[:, None] * np.minimum(columns - across, width)
    cells = np.select([counts == 0, counts == sizes], [".", "#"], "+")
    place = f" of matrix {[int(i) for i in np.unravel_index(worst, batch)]}, the worst" if batch else ""
    return "\n".join([f"Map{place}, {_legend(height, width, cells)}:", *_lines(cells, height, rows)])


def _lines(cells: NDArray[np.str_], height: int, rows: int) -> list[str]:
    lines, first = [], 0
    for line in range(1, len(cells) + 1):
        if line == len(cells) or (cells[line] != cells[first]).any():
            low, high = first * height, min(line * height, rows) - 1
            lines.append((str(low) if low == high else f"{low}..{high}", "".join(cells[first])))
            first = line
    widest = max(len(label) for label, _ in lines)
    return [f"{label:>{widest}} {signs}" for label, signs in lines]


def _cell(length: int, most: int) -> int:
    """The least power of two of which `most` cover the length."""
    size = 1
    while size * most < length:
        size *= 2
    return size


def _legend(height: int, width: int, cells: NDArray[np.str_]) -> str:
    signs = {".": "right", "+": "some wrong", "#": "all wrong" if "+" in cells else "wrong"}
    meaning = ", ".join(f"{sign} {text}" for sign, text in signs.items() if sign in cells)
    cell = (
        f"{height} row{'s' * (height > 1)} x {width} column{'s' * (width > 1)}" if height * width > 1 else "1 element"
    )
    return f"a cell is {cell}; {meaning}"
