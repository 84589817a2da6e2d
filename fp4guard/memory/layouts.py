"""How a tensor may lie in memory: the variants that a target which takes strides is run with."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to place a tensor. Units are elements.

    `row_gap`: guard elements behind each row (the last dimension of storage); `plane_gap`: as many
    more behind each plane of rows, and behind whatever is made of planes; `offset`: elements between the start of
    the storage and the tensor's first element; `transposed`: the last two dimensions change places in storage;
    `reach`: rows are so far apart that the last one starts at least so many elements behind the first, and as aligned
    as padded rows are; `outermost`: not the rows are, but the parts of the first dimension that has two or more.
    """

    name: str
    row_gap: int = 0
    plane_gap: int = 0
    offset: int = 0
    transposed: bool = False
    reach: int = 0
    outermost: bool = False

    def strides(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Strides in elements of a tensor of that shape."""
        order = list(range(len(shape)))
        if self.transposed and len(shape) >= 2:
            order[-2:] = order[-1], order[-2]
        strides = [0] * len(shape)
        spread = self._spread(shape, order[:-1])
        step = 1
        for place, dim in enumerate(reversed(order)):
            if place == 1:
                step += self.row_gap
            elif place > 1:
                step += self.plane_gap
            if spread and dim == spread[0]:
                step = max(step, -(-self.reach // (16 * (spread[1] - 1))) * 16)
            strides[dim] = step
            step *= max(shape[dim], 1)
        return tuple(strides)

    def _spread(self, shape: tuple[int, ...], outer: list[int]) -> tuple[int, int] | None:
        """The dimension whose parts `reach` pulls apart, and how many of them: None where there are no two."""
        if self.outermost:
            return next(((dim, shape[dim]) for dim in outer if shape[dim] > 1), None)
        rows = math.prod(shape[dim] for dim in outer)
        return (outer[-1], rows) if rows > 1 else None


CONTIGUOUS = Layout("contiguous")
#: A base that is not the start of an allocation, yet as aligned as torch's own slices of whole rows usually are.
OFFSET = Layout("offset", offset=16)
#: 16 elements keep rows aligned, 5 (a prime) take the alignment away.
PADDED_ROWS = Layout("padded rows", row_gap=16)
ODD_ROWS = Layout("odd rows", row_gap=5)
ODD_OFFSET = Layout("odd offset", row_gap=5, offset=3)
#: A batch, a head or an expert is not as far from the next as its rows fill.
PADDED_PLANES = Layout("padded planes", row_gap=16, plane_gap=48)
TRANSPOSED = Layout("transposed", transposed=True)
TRANSPOSED_PADDED = Layout("transposed, padded", row_gap=7, transposed=True)
#: Offsets of the last row do not fit into 32 bits. What lies between the rows takes no memory.
HUGE_ROWS = Layout("huge rows", reach=1 << 31)
#: The same of a batch or an expert: no other offset is too large, and the last part's number times its stride is.
HUGE_PLANES = Layout("huge planes", reach=1 << 31, outermost=True)

#: For a kernel that assumes contiguous tensors.
PLAIN = (CONTIGUOUS, OFFSET)
#: For a kernel that takes the row stride and assumes that a row is contiguous.
ROWS = (*PLAIN, PADDED_ROWS, ODD_ROWS, ODD_OFFSET)
#: For a kernel that takes the row stride and computes offsets in 64 bits.
WIDE_ROWS = (*ROWS, HUGE_ROWS)
#: For a kernel that takes every stride.
STRIDED = (*ROWS, PADDED_PLANES, TRANSPOSED, TRANSPOSED_PADDED)
#: For a kernel that takes every stride and computes offsets in 64 bits.
WIDE = (*STRIDED, HUGE_PLANES)


def span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Elements from the first to the one past the last; 0 for an empty tensor."""
    if math.prod(shape) == 0:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
