"""tt.reduce and tt.scan: a region that combines two elements, called on whole slices of the tensor at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ttir import Type
from .control import Body, Step
from .elements import Array
from .machine import Machine
from .ops.shape import materialise


def _spread(value: Array, shape: tuple[int, ...]) -> Array:
    """What a combination passes on; a constant, which is a scalar, becomes as large as the others."""
    if value.ndim == len(shape):
        return value
    return np.broadcast_to(value.reshape(-1, *(1,) * (len(shape) - 1)), (len(value), *shape[1:]))


def _combined(m: Machine, combine: Body, first: Sequence[Array], second: Sequence[Array]) -> list[Array]:
    for slot, value in zip(combine.arguments, [*first, *second]):
        m.slots[slot] = value
    combine.run(m)
    return [_spread(m.slots[p], value.shape) for p, value in zip(combine.passes, first)]


def _part(values: Sequence[Array], axis: int, start: int | None, stop: int | None) -> list[Array]:
    chosen = (slice(None),) * axis + (slice(start, stop),)
    return [value[chosen] for value in values]


def reduce_step(sources: Sequence[tuple[int, Type]], results: Sequence[int], combine: Body, axis: int) -> Step:
    """Combine halves of the axis until one element is left, which keeps the order of the operands."""

    def step(m: Machine) -> None:
        values = [materialise(m.slots[i], t) for i, t in sources]
        while (size := values[0].shape[axis]) > 1:
            half = size // 2
            joined = _combined(m, combine, _part(values, axis, 0, half), _part(values, axis, half, 2 * half))
            if size % 2:
                rest = _part(values, axis, 2 * half, None)
                joined = [_append(a, b, axis) for a, b in zip(joined, rest)]
            values = joined
        for slot, value in zip(results, values):
            m.slots[slot] = np.squeeze(value, axis=axis)

    return step


def _append(a: Array, b: Array, axis: int) -> Array:
    """Concatenate two values of which one may be the same for all programs."""
    programs = max(len(a), len(b))
    return np.concatenate([np.broadcast_to(x, (programs, *x.shape[1:])) for x in (a, b)], axis)


def scan_step(
    sources: Sequence[tuple[int, Type]], results: Sequence[int], combine: Body, axis: int, reverse: bool
) -> Step:
    """All prefixes in log2(n) steps (Hillis and Steele): element i takes in what i - 1, then i - 2, i - 4, ... hold."""

    def step(m: Machine) -> None:
        values = [materialise(m.slots[i], t) for i, t in sources]
        if reverse:
            values = [np.flip(value, axis) for value in values]
        size, distance = values[0].shape[axis], 1
        while distance < size:
            before, after = _part(values, axis, 0, size - distance), _part(values, axis, distance, None)
            joined = _combined(m, combine, before, after)
            values = [_append(a, b, axis) for a, b in zip(_part(values, axis, 0, distance), joined)]
            distance *= 2
        for slot, value in zip(results, values):
            m.slots[slot] = np.flip(value, axis) if reverse else value

    return step


def lanewise_if_step(condition: int, results: Sequence[int], then: Body, otherwise: Body | None) -> Step:
    """scf.if inside a combination, where each lane goes its own way: both ways are computed, which is safe as nothing
    there touches memory, and each lane takes its own.
    """

    def step(m: Machine) -> None:
        chosen = m.slots[condition]
        then.run(m)
        values = [m.slots[p] for p in then.passes]
        if otherwise is not None:
            otherwise.run(m)
            others = [m.slots[p] for p in otherwise.passes]
            values = [_select(chosen, a, b) for a, b in zip(values, others)]
        for slot, value in zip(results, values):
            m.slots[slot] = value

    return step


def _select(condition: Array, a: Array, b: Array) -> Array:
    rank = max(condition.ndim, a.ndim, b.ndim)
    condition, a, b = (x.reshape(x.shape + (1,) * (rank - x.ndim)) for x in (condition, a, b))
    return np.where(condition, a, b)
