"""Launches of code that runs once: a launch can be run again, from the memory as it was, with other poison.

A launch is a function of memory, so what differs between two runs of it with different poison depends on bytes that
nobody defined. Those bytes of memory are then undefined themselves, and what made them so is remembered: it is a
finding when code on the host reads them, and nothing before, for kernels rightly leave garbage in what is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks.record import ADDRESS_KINDS, CERTAIN, NEEDS_EFFECT, sides
from ..errors import Fp4guardError
from ..memory import ADDRESSABLE, EXTREMES, INITIALISED, ORDINARY, SET_FLAG, Memory, Poison, Region, Snapshot, mixed
from ..sim import HangError, Incident, Simulator, Site, Trace
from ..sim.arguments import expanded
from ..ttir import Arch, Compiled

#: A launch with more suspicious operations than this has the effects of the first ones told apart, no more.
_SITES_TRIED = 16

#: Bytes of the memory, by region, bool [len(storage)].
Bytes = dict[Region, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Outcome:
    """What a launch did wrong: `found` are incidents that are findings, each with its effect where that is known;
    `undefined` are bytes that depend on what an incident left undefined. `hang` is why it was given up.
    """

    found: list[tuple[Incident, str | None]]
    undefined: list[tuple[Incident, Bytes]]
    written: frozenset[str] | None
    hang: HangError | None = None


class RepeatingSimulator(Simulator):
    """Tells `judge` of every launch; UnsupportedError and the like are told to `refused` before they are raised."""

    def __init__(
        self, memory: Memory, arch: Arch, judge: Callable[[Outcome], None], refused: Callable[[Fp4guardError], None]
    ) -> None:
        super().__init__(memory, arch)
        self._judge, self._refused = judge, refused

    def launch(
        self, kernel: Any, grid: Any, args: tuple[Any, ...], kwargs: dict[str, Any], only: Compiled | None = None
    ) -> Any:
        """As `Simulator.launch`."""
        try:
            return super().launch(kernel, grid, args, kwargs, only)
        except Fp4guardError as error:
            self._refused(error)
            raise

    def _execute(self, program: Any, compiled: Compiled, bound: dict[str, Any], grid: tuple[int, int, int]) -> None:
        written = self._written(program, expanded(program.arguments, compiled, bound))
        before = self._snapshot(written)
        self.trace = Trace()

        def run() -> None:
            super(RepeatingSimulator, self)._execute(program, compiled, bound, grid)

        try:
            run()
        except HangError as error:
            self._judge(Outcome([(i, None) for i in self.trace.of_kind(*CERTAIN)], [], written, error))
            return
        self._judge(_Repeats(self, before, run).outcome(written))

    def _snapshot(self, names: frozenset[str] | None) -> Snapshot:
        return self.memory.snapshot([r for r in self.memory if names is None or r.name in names])


class _Repeats:
    """Runs a launch again, and leaves memory and trace as the first run left them."""

    def __init__(self, simulator: RepeatingSimulator, before: Snapshot, run: Callable[[], None]) -> None:
        self._simulator, self._memory, self._before, self._run = simulator, simulator.memory, before, run
        self._first, self._launches = simulator.trace, simulator.launches
        self._after = Snapshot([])

    def outcome(self, written: frozenset[str] | None) -> Outcome:
        certain = self._first.of_kind(*CERTAIN)
        doubtful = self._first.of_kind(*NEEDS_EFFECT)
        # Lanes of one operation hold the same poison: which of them matter cannot be told.
        beyond = {i.site for i in certain if i.kind == "oob-read"}
        fresh = {i.site for i in doubtful if i.kind == "uninitialized-read"}
        suspicious = [i for i in certain if i.kind == "oob-read"]
        suspicious += [
            i for i in doubtful if i.site not in beyond and (i.kind != "undefined-lane" or i.site not in fresh)
        ]
        if not suspicious and not self._first.ordered:
            return Outcome([(i, None) for i in certain], [], written)
        self._after = self._memory.snapshot([region for region, *_ in self._before])
        undefined: list[tuple[Incident, Bytes]] = []
        effects: dict[int, str] = {}
        decisive: list[tuple[Incident, str | None]] = []
        try:
            if suspicious:
                for incident, changed, addresses in self._told_apart(suspicious):
                    effect = "changes which addresses are accessed" if addresses else describe(changed)
                    effects[id(incident)] = effect
                    if incident.kind in NEEDS_EFFECT and addresses:
                        decisive.append((incident, effect))
                    elif changed:
                        undefined.append((incident, changed))
            found = [(i, effects.get(id(i))) for i in certain]
            if self._first.ordered:
                more_found, more = self._backwards({i.site for i, _ in (*decisive, *undefined)})
                found += [(i, None) for i in more_found]
                undefined += more
        finally:
            self._restore()
        return Outcome([*decisive, *found], undefined, written)

    def _told_apart(self, incidents: list[Incident]) -> Iterable[tuple[Incident, Bytes, bool]]:
        """Incidents with an effect: the bytes that change, and whether what is accessed does."""
        poison = self._memory.poison
        patterns = (ORDINARY, *EXTREMES, *([SET_FLAG] if self._first.retried else []))
        together = (*patterns, *mixed(list(dict.fromkeys(i.site for i in incidents))))
        whole = next((effect for one in together if (effect := self._effect(one)) is not None), None)
        if whole is None:
            return
        told = False
        for incident in incidents[:_SITES_TRIED]:
            for one in patterns:
                effect = self._effect(poison.at(incident.site, one.pattern))
                if effect is not None:
                    told = True
                    yield incident, *effect
                    break
        if not told:  # each of them hides what another does
            for incident in incidents:
                yield incident, *whole

    def _effect(self, poison: Poison) -> tuple[Bytes, bool] | None:
        """What changes when the launch runs with a poison; None when nothing does."""
        trace = self._again(poison)
        if trace is None:
            return {}, True
        addresses = _addresses(trace) != _addresses(self._first)
        changed = _changed(self._after)
        return (changed, addresses) if changed or addresses else None

    def _again(self, poison: Poison) -> Trace | None:
        """Run the launch with a poison; None when it does not end."""
        usual = self._memory.poison
        self._memory.restore(self._before)
        self._simulator.trace = trace = Trace()
        self._memory.poison = poison
        try:
            self._run()
        except HangError:
            return None
        finally:
            self._memory.poison = usual
        return trace

    def _backwards(self, known: set[Site]) -> tuple[list[Incident], list[tuple[Incident, Bytes]]]:
        """What shows only when programs take their turns the other way round: what is certainly wrong, and what sites
        leave undefined of which that is not known.
        """
        seen = {sides(i) for i in self._first.of_kind(*CERTAIN)}
        poison = self._memory.poison
        with self._simulator.backwards():
            trace = self._again(poison)
            if trace is None:
                return [], []
            found = [i for i in trace.of_kind(*CERTAIN) if sides(i) not in seen]
            undefined = []
            read = [i for i in trace.of_kind("uninitialized-read") if i.site not in known][:_SITES_TRIED]
            after = self._memory.snapshot([region for region, *_ in self._before] if read else [])
            for incident in read:
                if self._again(poison.at(incident.site, ORDINARY.pattern)) is not None and (differs := _changed(after)):
                    undefined.append((incident, differs))
        return found, undefined

    def _restore(self) -> None:
        self._memory.restore(self._after)
        self._simulator.trace, self._simulator.launches = self._first, self._launches


def _changed(after: Snapshot) -> Bytes:
    """Bytes of the memory that are not as in a snapshot."""
    differing = {region: region.contents()[0] != storage for region, storage, *_ in after}
    return {region: differs for region, differs in differing.items() if differs.any()}


def _addresses(trace: Trace) -> dict[Any, Any]:
    return {
        (i.kind, i.site, i.region.name if i.region else ""): (i.lanes, i.low, i.high)
        for i in trace.of_kind(*ADDRESS_KINDS)
    }


def describe(changed: Bytes) -> str:
    """`changes 3 of 97 elements of `out``."""
    parts = []
    for region, differs in changed.items():
        elements = differs if region.huge else region.elements(differs)
        touched = elements.any(axis=-1)
        parts.append(f"{int(touched.sum())} of {touched.size} elements of `{region.name}`")
    return f"changes {', '.join(parts)}"


def make_undefined(changed: Bytes) -> None:
    """Have bytes count as never written."""
    for region, differs in changed.items():
        shadow = region.contents()[1]
        shadow[differs] &= ~np.uint8(INITIALISED)
        region.sealed = False


def make_defined(region: Region, differs: np.ndarray[Any, Any]) -> None:
    """Have bytes count as written again."""
    shadow = region.contents()[1]
    shadow[differs] |= (shadow[differs] & ADDRESSABLE) << 1


def undefined_in(region: Region, tensor: Any, differs: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """Bool [*tensor.shape]: elements of a view of the region with bytes that count as never written, and are marked."""
    state = region.select(tensor, region.shadow) == ADDRESSABLE
    if differs is not None and not region.huge:
        state = state & region.select(tensor, differs)
    return np.asarray(state.any(axis=-1))
