"""What the tests of the simulator share: a run with its memory, and one operation applied to arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fp4guard.memory import ALL_ONES, CONTIGUOUS, Memory, Role
from fp4guard.sim import Simulator
from fp4guard.sim.ops import RULES
from fp4guard.ttir import Location, Operation, Type, Value, parse_arch, parse_type


class Run:
    """A memory and a simulator, with short names for what the tests do with them."""

    def __init__(self, poison=ALL_ONES, arch="sm_90"):
        self.memory = Memory(poison)
        self.simulator = Simulator(self.memory, parse_arch(arch))

    def place(self, values, layout=CONTIGUOUS, name="x", role=Role.INPUT):
        values = values if isinstance(values, torch.Tensor) else torch.from_numpy(np.asarray(values))
        return self.memory.place(name, role, values, layout).tensor

    def empty(self, shape, dtype=torch.float32, layout=CONTIGUOUS, name="out"):
        return self.memory.empty(name, Role.OUTPUT, tuple(shape), dtype, layout).tensor

    def launch(self, kernel, grid, *args, **kwargs):
        with self.simulator.intercepting():
            kernel[grid](*args, **kwargs)
        return self

    def incidents(self, *kinds):
        """{(kind, region name or None): incident}; all but what only restates the run, or those of some kinds."""
        found = self.simulator.trace.incidents.values()
        return {(i.kind, i.region.name if i.region else None): i for i in found if not kinds or i.kind in kinds}

    def written(self, name="out"):
        return ~self.memory.named(name).uninitialised()


def _operation(name, operand_types, result_type, attributes=None, words=()):
    types = [parse_type(t) for t in operand_types]
    operands = tuple(Value(i, t) for i, t in enumerate(types))
    results = (Value(len(types), parse_type(result_type)),) if result_type else ()
    return Operation(name, operands, results, Location("k.py", 1, 1), attributes or {}, tuple(words))


def _apply(name, operand_types, result_type, *arrays, attributes=None, words=()):
    """The rule of one operation, called with arrays of shape [programs, *shape]."""
    with np.errstate(all="ignore"):
        return RULES[name](_operation(name, operand_types, result_type, attributes, words))(*arrays)


@pytest.fixture(scope="session")
def new_run():
    return Run


@pytest.fixture(scope="session")
def apply():
    return _apply


@pytest.fixture(scope="session")
def operation():
    return _operation


@pytest.fixture(scope="session")
def scalar():
    """An element's scalar type, by name."""
    return Type
