"""Elements of shared memory by their places along an axis."""

from __future__ import annotations

import numpy as np

from ..errors import UnsupportedError
from .elements import Array
from .machine import Machine
from .shared import Shared, all_ones, load, narrowed
from .trace import Site


def gathered(m: Machine, site: Site, view: Shared, index: Array, axis: int) -> Array:
    """Elements of a view by their places along an axis, like torch.gather; a place that is not there is reported."""
    value = load(m, site, view)
    chosen, bad = _along(m, "oob-read", site, view, value.shape, index, axis)
    return np.where(bad, m.poison(site), value[chosen])


def scatter(m: Machine, site: Site, view: Shared, index: Array, value: Array, axis: int) -> None:
    """The way back, like torch.scatter. Lanes that write different values to one element race."""
    view = narrowed(view)
    if view.part is not None:
        raise UnsupportedError("a scatter to a part that differs between programs", site.location)
    chosen, bad = _along(m, "oob-write", site, view, view.data.shape, index, axis)
    kept = ~bad if m.active is None else ~bad & m.spread(m.active, bad.ndim)
    places = tuple(np.broadcast_to(x, kept.shape)[kept] for x in chosen)
    raw = np.broadcast_to(site.element.store(value), kept.shape)[kept]
    m.writes += not m.comparing or bool((view.data[places] != raw).any())
    view.data[places] = raw
    view.defined[places] = all_ones(site.element)
    if (lost := view.data[places] != raw).any():
        offsets = np.broadcast_to(view.place, view.data.shape)[places][lost] * site.element.width
        m.report("race", site, view.region, offsets, places[0][lost], (site, None))


def _along(
    m: Machine, kind: str, site: Site, view: Shared, shape: tuple[int, ...], index: Array, axis: int
) -> tuple[tuple[Array, ...], Array]:
    """Which elements of a value of that shape indices along an axis (programs at 0) name, and which name none: those
    are reported, and name the first.
    """
    programs, size = shape[0], shape[axis]
    index = np.broadcast_to(index, (programs, *index.shape[1:])).astype(np.int64)
    bad = (index < 0) | (index >= size)
    live = bad if m.active is None else bad & m.spread(m.active, bad.ndim)
    chosen = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    chosen[axis] = np.where(bad, 0, index)
    if live.any():
        place = view.place if view.part is None else view.place[:, 0]
        step = int(np.prod(shape[axis + 1 :]))
        there = (np.zeros((), np.int64), *chosen[1:])
        near = place[there] + np.where(bad, index, 0) * step
        m.report(kind, site, view.region, near[live] * site.element.width, np.nonzero(live)[0])
    return tuple(chosen), bad
