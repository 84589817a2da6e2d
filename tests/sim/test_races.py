"""Races against a plain rule: every earlier access is remembered, with a clock of every program."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard.sim.ordering import Ordering
from fp4guard.sim.races import Races

ELEMENTS, PROGRAMS = 1, 3
SITE = object()
REGION = SimpleNamespace(name="x", first=0, last=4 * ELEMENTS, dtype=torch.int32)
FLAGS = SimpleNamespace(name="flags", first=0, last=8, dtype=torch.int32)

PROGRAM = st.integers(0, PROGRAMS - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), PROGRAM, st.integers(0, ELEMENTS - 1)),
        st.tuples(st.just("write"), PROGRAM, st.integers(0, ELEMENTS - 1), st.integers(0, 1)),
        st.tuples(st.sampled_from(["acq_rel", "acquire", "release"]), PROGRAM, st.integers(0, 1)),
    ),
    max_size=12,
)


@dataclass
class Rule:
    """What has happened: clocks [program, of program]; per element its value, who wrote that, and who has read."""

    clocks: np.ndarray = field(default_factory=lambda: np.full((PROGRAMS, PROGRAMS), -1))
    flags: dict = field(default_factory=dict)
    values: list = field(default_factory=lambda: [0] * ELEMENTS)
    writers: list = field(default_factory=lambda: [{} for _ in range(ELEMENTS)])
    readers: list = field(default_factory=lambda: [{} for _ in range(ELEMENTS)])

    def unordered(self, accesses, me):
        return {p for p, when in accesses.items() if p != me and self.clocks[me, p] < when}

    def read(self, me, element, now):
        writers = self.writers[element]
        unseen = self.unordered(writers, me)
        # Of writers of one value, one that comes before is enough, or me.
        races = unseen if me not in writers and len(unseen) == len(writers) else set()
        self.readers[element][me] = now
        return races

    def write(self, me, element, value, now):
        races = set()
        if value != self.values[element]:
            races = self.unordered(self.writers[element], me) | self.unordered(self.readers[element], me)
            self.values[element], self.writers[element] = value, {}
        self.writers[element][me] = now
        return races

    def atomic(self, semantics, me, flag, now):
        if semantics != "release" and flag in self.flags:
            self.clocks[me] = np.maximum(self.clocks[me], self.flags[flag])
        if semantics != "acquire":
            mine = self.clocks[me].copy()
            mine[me] = now
            self.flags[flag] = np.maximum(self.flags.get(flag, mine), mine)


@settings(max_examples=1500, deadline=None)
@given(STEPS)
def test_races_are_those_of_the_rule(steps):
    races, rule = Races(Ordering(PROGRAMS)), Rule()
    for kind, me, place, *value in steps:
        offset, programs = np.array([4 * place]), np.array([me])
        if kind == "read":
            found, expected = races.read(SITE, REGION, offset, programs), rule.read(me, place, races.ordering.now)
        elif kind == "write":
            changed = np.array([value[0] != rule.values[place]])
            found = races.write(SITE, REGION, offset, programs, lambda changed=changed: changed)
            expected = rule.write(me, place, value[0], races.ordering.now)
        else:
            found, expected = races.update(SITE, FLAGS, offset, programs), set()
            races.ordering.atomic(FLAGS, np.array([place]), programs, kind)
            rule.atomic(kind, me, place, races.ordering.now)
        assert {conflict.program for conflict in found} <= expected
        assert bool(found) == bool(expected)
