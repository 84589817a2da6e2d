"""Views of shared memory that are not made of its own axes: other types of the same bytes, boxes beyond its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import UnsupportedError
from ..ttir import Operation, Type
from .elements import Array, element_of
from .shared import Shared, narrowed, reshaped


def reinterpretation(op: Operation) -> Callable[[Shared], Shared]:
    """The bytes of a view through another type. Their order must be known: it is the logical one in a layout without
    swizzling and padding, and what is only renamed keeps its place. UnsupportedError where it is not.
    """
    source, target = op.operands[0].type, op.result.type
    old, new = (element_of(Type(t.pointee or "")).width for t in (source, target))
    if source.shape == target.shape and old == new and _order(source.layout) == _order(target.layout):
        return lambda view: view
    if not (_in_order(source) and _in_order(target)):
        what = f"{op.name} of {source} in {source.layout} to {target} in {target.layout}"
        raise UnsupportedError(what, op.location)
    size = int(np.prod(source.shape)) * old
    if int(np.prod(target.shape)) * new > size:
        raise UnsupportedError(f"{op.name} of {size} bytes to {int(np.prod(target.shape)) * new}", op.location)
    return lambda view: _reinterpreted(view, target.shape, old, new)


def _reinterpreted(view: Shared, shape: tuple[int, ...], old: int, new: int) -> Shared:
    """`old` and `new` are the widths of the elements."""
    count = int(np.prod(shape))
    lead = 1 if view.part is None else 2

    def change(x: Array) -> Array:
        flat = reshaped(x, (*x.shape[:lead], -1))
        if new != x.itemsize:
            flat = flat.view(f"u{new}")
        return reshaped(flat[..., :count], (*x.shape[:lead], *shape))

    # Only reports ask for the places: in elements of the allocation, as near as they come.
    spread = np.arange(count, dtype=np.int64) * new // old
    place = reshaped(view.place, (*view.place.shape[:lead], -1))[..., spread]
    place = place.reshape(*place.shape[:lead], *shape)
    return replace(view, data=change(view.data), defined=change(view.defined), place=place)


def _order(layout: str) -> str:
    """A layout without what says only whether the memory may be written."""
    return layout.split(", #ttg.shared_memory")[0].split(", #smem")[0]


def _in_order(type_: Type) -> bool:
    """Whether elements stand in memory in their logical order, the last dimension fastest."""
    rank = len(type_.shape)
    order = ", ".join(str(d) for d in reversed(range(rank)))
    layout = type_.layout
    return layout.startswith("#ttg.swizzled_shared") and "maxPhase = 1," in layout and f"order = [{order}]" in layout


def beyond(view: Shared, starts: tuple[int, ...], sizes: tuple[int, ...]) -> Shared:
    """A box that is not wholly inside: a part that is not there. Its places are as if the view went on."""
    view = narrowed(view)
    lead = 1 if view.part is None else 2
    steps = [int(np.diff(view.place, axis=lead + d).flat[0]) if n > 1 else 0
             for d, n in enumerate(view.place.shape[lead:])]  # fmt: skip
    place = np.asarray(view.place.flat[0])
    for d, (start, size) in enumerate(zip(starts, sizes)):
        along = (start + np.arange(size)) * steps[d]
        place = place + along.reshape([size if i == d else 1 for i in range(len(sizes))])
    blank = np.zeros((len(view.data), 1, *sizes), view.data.dtype)
    first = (place - place.size)[None, None]  # part 1, of parts as large as the box
    return Shared(view.region, blank, blank.copy(), first, set(), np.ones(1, np.int64))
