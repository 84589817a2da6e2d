"""Control flow, SIMT: what all programs agree on is a Python branch or loop; what they do not runs under a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ttir import Location
from .elements import Array
from .machine import Machine
from .shared import Shared, merged, same
from .trace import HangError

if TYPE_CHECKING:
    from .overflow import Carried

Step = Callable[[Machine], None]
Run = Callable[[Machine], None]


@dataclass(frozen=True, slots=True)
class Body:
    """A lowered block: its steps, the slots of its arguments, and the slots of what its terminator passes on."""

    steps: tuple[Step, ...]
    arguments: tuple[int, ...]
    passes: tuple[int, ...]

    def run(self, m: Machine) -> None:
        for step in self.steps:
            step(m)


#: A loop with more iterations than this is taken for one that does not end: a trip count made of garbage, mostly.
MOST_TRIPS = 1 << 18

#: Iterations of a loop after which its stores are looked at, which takes time: one that changes nothing is no progress.
_TRUSTED_TRIPS = 64


def merge(m: Machine, mask: Array, new: Any, old: Any) -> Any:
    """`new` for the programs of the mask, `old` for the others."""
    if isinstance(new, Shared):
        return merged(mask, new, old)
    if new is None:
        return None  # the token of a copy
    return np.where(m.spread(mask, max(np.ndim(new), np.ndim(old))), new, old)


def restrict(m: Machine, mask: Array) -> Array:
    """The mask, less the programs that are already inactive."""
    return mask if m.active is None else mask & m.active


def if_step(condition: int, results: Sequence[int], then: Body, otherwise: Body | None) -> Step:
    """scf.if."""

    def step(m: Machine) -> None:
        chosen = m.slots[condition]
        if m.active is not None and len(chosen) == len(m.active):
            agreed = bool(chosen[m.active].all()) or not bool(chosen[m.active].any())
            truth = bool(chosen[m.active].all())
        else:
            truth = bool(chosen.all())
            agreed = truth or not bool(chosen.any())
        if agreed:
            body = then if truth else otherwise
            if body is not None:
                body.run(m)
                values = [m.slots[p] for p in body.passes]
                for slot, value in zip(results, values):
                    m.slots[slot] = value
            return
        saved, yes, no = m.active, restrict(m, chosen), restrict(m, ~chosen)
        m.active = yes
        then.run(m)
        values = [m.slots[p] for p in then.passes]
        if otherwise is not None:
            m.active = no
            otherwise.run(m)
            values = [merge(m, chosen, a, m.slots[p]) for a, p in zip(values, otherwise.passes)]
        m.active = saved
        for slot, value in zip(results, values):
            m.slots[slot] = value

    return step


def for_step(
    bounds: tuple[int, int, int],
    initial: Sequence[int],
    results: Sequence[int],
    body: Body,
    unsigned: bool,
    location: Location,
    wide: Sequence[Carried] = (),
) -> Step:
    """scf.for; programs may have different bounds. `wide` are the exact values of what becomes an address."""
    induction, *carried = body.arguments

    def step(m: Machine) -> None:
        slots = m.slots
        low, high, stride = (slots[b] for b in bounds)
        if unsigned:
            low, high, stride = (x.view(f"u{x.dtype.itemsize}") for x in (low, high, stride))
        low64, high64, stride64 = (x.astype(np.int64) for x in (low, high, stride))
        trips = np.maximum(-((low64 - high64) // np.maximum(stride64, 1)), 0)
        if m.active is not None and len(trips) == len(m.active):
            trips = np.where(m.active, trips, 0)
        if stride64.min() < 1 and (endless := (trips > 0) & (stride64 < 1)).any():
            stuck = np.broadcast_to(endless, (len(m.programs),))
            raise HangError(location, f"a loop with a step of {stride64.min()}", m.coordinates(restrict(m, stuck)))
        most, same = int(trips.max()), bool((trips == trips.flat[0]).all())
        if most > MOST_TRIPS:
            raise HangError(location, f"a loop of {most} iterations", m.coordinates(m.active))
        values = [slots[i] for i in initial]
        exact = [x.initial(m) for x in wide]
        saved = m.active
        for i in range(most):
            active = None if same else restrict(m, trips > i) if saved is None else saved & (trips > i)
            m.active = saved if same else active
            slots[induction] = (low + (stride * i).astype(low.dtype)).view(f"i{low.dtype.itemsize}")
            for slot, value in zip(carried, values):
                slots[slot] = value
            for x, known in zip(wide, exact):
                slots[x.slot] = known
            body.run(m)
            passed = [slots[p] for p in body.passes]
            exact_passed = [x.passed(m) for x in wide]
            if active is not None:
                exact_passed = [
                    x.merged(m, active, new, old, (passed[x.place], values[x.place]))
                    for x, new, old in zip(wide, exact_passed, exact)
                ]
                passed = [merge(m, active, n, o) for n, o in zip(passed, values)]
            values, exact = passed, exact_passed
        m.active = saved
        for slot, value in zip(results, values):
            slots[slot] = value
        for x, known in zip(wide, exact):
            slots[x.result] = known

    return step


def while_step(
    initial: Sequence[int], results: Sequence[int], condition: int, before: Body, after: Body,
    deciding: Sequence[int], location: Location,
) -> Step:  # fmt: skip
    """scf.while: `before` computes the condition and what it passes on, `after` the next values.

    All programs take a step together, so a program that waits here for what another one does later waits for ever, as
    it may on a GPU that has no room for the other. An iteration that changes no memory, and none of the carried values
    that decide anything (`deciding`: their places), will be followed by more of its kind.
    """

    def step(m: Machine) -> None:
        slots, saved = m.slots, m.active
        values = [slots[i] for i in initial]
        left: list[Array] | None = None  # what each program passed on when it was last active
        trips, writes, comparing = 0, m.writes, m.comparing
        while True:
            m.comparing = comparing or trips > _TRUSTED_TRIPS
            for slot, value in zip(before.arguments, values):
                slots[slot] = value
            before.run(m)
            passed, going = [slots[p] for p in before.passes], slots[condition]
            if left is None or m.active is None:
                left = passed
            else:
                left = [merge(m, m.active, new, old) for new, old in zip(passed, left)]
            going = going if m.active is None else going & m.active
            if not going.any():
                break
            if m.active is not None or not going.all():
                m.active = np.broadcast_to(going, (len(m.programs),))
            for slot, value in zip(after.arguments, passed):
                slots[slot] = value
            after.run(m)
            before_step, values = values, [slots[p] for p in after.passes]
            trips += 1
            stuck = m.writes == writes and all(_same(m, values[i], before_step[i]) for i in deciding)
            if stuck or trips > m.most_trips:
                why = (
                    "a loop whose iterations change nothing any more"
                    if stuck
                    else f"a loop of over {m.most_trips} iterations"
                )
                raise HangError(location, why, m.coordinates(m.active), not stuck)
            writes = m.writes
        m.active, m.comparing = saved, comparing
        for slot, value in zip(results, left):
            slots[slot] = value

    return step


def _same(m: Machine, new: Any, old: Any) -> bool:
    """Whether a value is what it was, for the programs that are active."""
    if isinstance(new, Shared):
        return same(new, old)
    if new is None:
        return True
    if m.active is not None and not m.active.all():
        new, old = (x[m.active] if len(x) == len(m.active) else x for x in (new, old))
    return np.array_equal(new, old, equal_nan=new.dtype.kind == "f")


@dataclass(frozen=True, slots=True)
class Edge:
    """A branch's way into a block: which one, and the slots whose values it passes to the block's arguments."""

    block: int
    passes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exit:
    """A block's end: no edges return, one jumps, two branch on the slot `condition`."""

    condition: int | None
    edges: tuple[Edge, ...]


def run_blocks(m: Machine, blocks: Sequence[Body], exits: Sequence[Exit]) -> list[Array]:
    """A function's body with early returns. Blocks run in order, each for the programs that have reached it.

    Gives what the function returns.
    """
    saved = m.active
    everyone = np.ones(len(m.programs), bool) if saved is None else saved
    waiting: dict[int, Array] = {0: everyone}
    returned: list[Array] | None = None
    while waiting:
        number = min(waiting)
        here = waiting.pop(number)
        m.active = None if here.all() else here
        blocks[number].run(m)
        leaving = exits[number]
        if not leaving.edges:
            values = [m.slots[p] for p in blocks[number].passes]
            returned = values if returned is None else [merge(m, here, n, o) for n, o in zip(values, returned)]
        if leaving.condition is None:
            ways = [(edge, here) for edge in leaving.edges]
        else:
            taken = m.slots[leaving.condition]
            ways = [(leaving.edges[0], here & taken), (leaving.edges[1], here & ~taken)]
        for edge, mask in ways:
            if not mask.any():
                continue
            for slot, passed in zip(blocks[edge.block].arguments, edge.passes):
                old = m.slots[slot]
                value = m.slots[passed]
                m.slots[slot] = value if old is None or mask.all() else merge(m, mask, value, old)
            waiting[edge.block] = waiting.get(edge.block, np.zeros_like(mask)) | mask
    m.active = saved
    return returned or []


def execute_step(body: Body, results: Sequence[int]) -> Step:
    """scf.execute_region: the block runs where it stands."""

    def step(m: Machine) -> None:
        body.run(m)
        for slot, passed in zip(results, body.passes):
            m.slots[slot] = m.slots[passed]

    return step


def call_step(
    arguments: Sequence[tuple[int, int]], blocks: Sequence[Body], exits: Sequence[Exit], results: Sequence[int]
) -> Step:
    """tt.call; `arguments` are slots of the function's arguments, each with that of the value it is given."""

    def step(m: Machine) -> None:
        for target, source in arguments:
            m.slots[target] = m.slots[source]
        for slot, value in zip(results, run_blocks(m, blocks, exits)):
            m.slots[slot] = value

    return step
