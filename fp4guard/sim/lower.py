"""A parsed function -> a program: a list of calls with their slots bound. Nothing is looked up by name at run time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..ttir import Block, Compiled, Function, Operation, Type
from . import control
from .control import Body, Edge, Exit, Step
from .elements import ELEMENTS, Array, element_of
from .machine import Machine
from .ops import EFFECTS, NO_OPS, RULES
from .ops.convert import constant
from .ops.shape import materialise
from .trace import Site

#: The operations that end a block and pass values on.
_TERMINATORS = ("scf.yield", "scf.condition", "tt.reduce.return", "tt.return", "cf.br", "cf.cond_br")


@dataclass(frozen=True, eq=False)
class Program:
    """A kernel's function, lowered. `arguments` are the slots and types that a launch fills."""

    name: str
    arguments: tuple[tuple[int, Type], ...]
    slot_count: int
    constants: tuple[tuple[int, Array], ...]
    blocks: tuple[Body, ...]
    exits: tuple[Exit, ...]
    largest_value: int

    def run(self, m: Machine) -> None:
        """Run the batch of programs that the machine holds; arguments and constants are in their slots."""
        if len(self.blocks) == 1:
            self.blocks[0].run(m)
        else:
            control.run_blocks(m, self.blocks, self.exits)


def lower(compiled: Compiled) -> Program:
    """Lower a compiled kernel; UnsupportedError names the first operation that is not supported."""
    return _Lowering(compiled).program()


class _Lowering:
    def __init__(self, compiled: Compiled) -> None:
        self._kernel = compiled.kernel
        self._function: Function = compiled.function
        self._constants: list[tuple[int, Array]] = []

    def program(self) -> Program:
        function = self._function
        blocks = tuple(self._body(block) for block in function.body.blocks)
        sizes = [int(np.prod(v.type.shape)) for op in function.operations for v in op.results]
        return Program(
            function.name,
            tuple((v.index, v.type) for v in function.arguments),
            function.value_count,
            tuple(self._constants),
            blocks,
            tuple(_exit(block.operations[-1]) for block in function.body.blocks),
            max(sizes, default=1),
        )

    def _body(self, block: Block) -> Body:
        steps = [self._step(op) for op in block.operations]
        last = block.operations[-1] if block.operations else None
        passes: tuple[int, ...] = ()
        if last is not None and last.name in _TERMINATORS:
            passes = tuple(v.index for v in last.operands[last.name == "scf.condition" :])
        return Body(tuple(step for step in steps if step is not None), tuple(v.index for v in block.arguments), passes)

    def _step(self, op: Operation) -> Step | None:
        if op.name in _TERMINATORS or op.name in NO_OPS:
            return None
        if op.name == "arith.constant":
            self._constants.append((op.result.index, constant(op)))
            return None
        try:
            if op.name in _CONTROL:
                return _CONTROL[op.name](self, op)
            if op.name in RULES:
                return _bind(RULES[op.name](op), op)
            if op.name in EFFECTS:
                return _bind_effect(EFFECTS[op.name](op), op, Site(self._kernel, op, _accessed(op)))
        except UnsupportedError as error:
            if error.location is None:
                raise UnsupportedError(f"{op.name}: {error.what}", op.location) from None
            raise
        raise UnsupportedError(op.name, op.location)

    def _for(self, op: Operation) -> Step:
        low, high, stride, *initial = (v.index for v in op.operands)
        body = self._body(op.regions[0].block)
        return control.for_step((low, high, stride), initial, _slots(op), body, "unsigned" in op.words)

    def _if(self, op: Operation) -> Step:
        bodies = [self._body(region.block) for region in op.regions]
        otherwise = bodies[1] if len(bodies) == 2 else None
        return control.if_step(op.operands[0].index, _slots(op), bodies[0], otherwise)

    def _while(self, op: Operation) -> Step:
        before, after = (self._body(region.block) for region in op.regions)
        condition = op.regions[0].block.operations[-1].operands[0].index
        return control.while_step([v.index for v in op.operands], _slots(op), condition, before, after)

    def _reduce(self, op: Operation) -> Step:
        """Combine halves of the axis until one element is left; Triton's tensors have power-of-two sizes."""
        if any(inner.regions for inner in op.regions[0].block.operations):
            raise UnsupportedError(f"{op.name} with a branch or a loop in what combines two elements", op.location)
        combine = self._body(op.regions[0].block)
        axis = op.attributes["axis"] + 1
        sources = [(v.index, v.type) for v in op.operands]
        results, count = _slots(op), len(op.operands)

        def step(m: Machine) -> None:
            values = [materialise(m.slots[i], t) for i, t in sources]
            while (size := values[0].shape[axis]) > 1:
                halves = [np.split(v, [size // 2], axis=axis) for v in values]
                for i, (first, second) in enumerate(halves):
                    m.slots[combine.arguments[i]] = first
                    m.slots[combine.arguments[count + i]] = second
                combine.run(m)
                values = [m.slots[p] for p in combine.passes]
            for slot, value in zip(results, values):
                m.slots[slot] = np.squeeze(value, axis=axis)

        return step


_CONTROL: dict[str, Callable[[_Lowering, Operation], Step]] = {
    "scf.for": _Lowering._for,
    "scf.if": _Lowering._if,
    "scf.while": _Lowering._while,
    "tt.reduce": _Lowering._reduce,
}


def _slots(op: Operation) -> list[int]:
    return [v.index for v in op.results]


def _exit(last: Operation) -> Exit:
    edges = tuple(Edge(block, tuple(v.index for v in passed)) for block, passed in last.successors)
    return Exit(last.operands[0].index if last.name == "cf.cond_br" else None, edges)


def _accessed(op: Operation) -> Any:
    """The element that a load or store moves; of no meaning for other effects."""
    pointee = op.operands[0].type.pointee if op.operands else None
    return element_of(Type(pointee)) if pointee is not None else ELEMENTS["i32"]


def _bind(function: Callable[..., Any], op: Operation) -> Step:
    """A step for a pure function. Written out by arity: this is the inner loop of everything."""
    sources = [v.index for v in op.operands]
    if len(op.results) > 1:
        targets = _slots(op)

        def several(m: Machine) -> None:
            for slot, value in zip(targets, function(*(m.slots[i] for i in sources))):
                m.slots[slot] = value

        return several
    out = op.result.index
    if len(sources) == 1:
        (a,) = sources

        def unary(m: Machine) -> None:
            m.slots[out] = function(m.slots[a])

        return unary
    if len(sources) == 2:
        a, b = sources

        def binary(m: Machine) -> None:
            m.slots[out] = function(m.slots[a], m.slots[b])

        return binary

    def any_arity(m: Machine) -> None:
        m.slots[out] = function(*[m.slots[i] for i in sources])

    return any_arity


def _bind_effect(function: Callable[..., Any], op: Operation, site: Site) -> Step:
    sources = [v.index for v in op.operands]
    out = op.result.index if op.results else None

    def step(m: Machine) -> None:
        value = function(m, site, *[m.slots[i] for i in sources])
        if out is not None:
            m.slots[out] = value

    return step
