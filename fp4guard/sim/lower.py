"""A parsed function -> a program: a list of calls with their slots bound. Nothing is looked up by name at run time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..ttir import Block, Compiled, Function, Operation, Type, parse_type
from . import combine, control
from .control import Body, Edge, Exit, Step
from .dataflow import WRITES, Dataflow
from .elements import ELEMENTS, Array, element_of
from .hints import hint_step
from .machine import Machine
from .ops import EFFECTS, NO_OPS, RULES
from .ops.assembly import does_nothing
from .ops.atomics import ATOMICS, acquires
from .ops.convert import constant
from .ops.descriptors import block_of
from .overflow import WideArithmetic, within_reach
from .trace import Site
from .waiting import deciding

#: The operations that end a block and pass values on.
_TERMINATORS = ("scf.yield", "scf.condition", "tt.reduce.return", "tt.scan.return", "tt.return", "cf.br", "cf.cond_br")


@dataclass(frozen=True, eq=False)
class Program:
    """A kernel's function, lowered.

    `arguments` are the slots and types that a launch fills; `written` the slots of those through which it
    writes, None when that cannot be told; `waits` whether it has loops that may wait for something, `acquires` whether
    it has atomics after which a program may know what others have done.
    """

    name: str
    arguments: tuple[tuple[int, Type], ...]
    slot_count: int
    constants: tuple[tuple[int, Array], ...]
    blocks: tuple[Body, ...]
    exits: tuple[Exit, ...]
    largest_value: int
    written: frozenset[int] | None
    waits: bool
    acquires: bool

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
        self._called: dict[str, tuple[tuple[Body, ...], tuple[Exit, ...]]] = {}
        self._lanewise = False
        self._flow = Dataflow(self._function)
        self._wide = WideArithmetic(self._flow, self._function.value_count)

    def program(self) -> Program:
        function = self._function
        operations = [op for f in (function, *function.callees.values()) for op in f.operations]
        _mark_atomics(operations)
        blocks = tuple(self._body(block) for block in function.body.blocks)
        sizes = [_size(v.type) for op in operations for v in op.results]
        return Program(
            function.name,
            tuple((v.index, v.type) for v in function.arguments),
            self._wide.slot_count,
            tuple(self._constants),
            blocks,
            tuple(_exit(block.operations[-1]) for block in function.body.blocks),
            max(sizes, default=1),
            self._written(),
            any(op.name == "scf.while" for op in operations),
            any(map(acquires, operations)),
        )

    def _written(self) -> frozenset[int] | None:
        roots: set[int] = set()
        for op in self._function.operations:
            if op.name in WRITES:
                # A function that is called may write through any of its arguments.
                found = self._flow.pointer_roots(op.operands[0]) if op.name != "tt.call" else None
                if found is None:
                    return None
                roots |= found
        return frozenset(roots)

    def _body(self, block: Block) -> Body:
        steps = [self._step(op) for op in block.operations]
        last = block.operations[-1] if block.operations else None
        passes: tuple[int, ...] = ()
        if last is not None and last.name in _TERMINATORS:
            passes = tuple(v.index for v in last.operands[last.name == "scf.condition" :])
        return Body(tuple(step for step in steps if step is not None), tuple(v.index for v in block.arguments), passes)

    def _step(self, op: Operation) -> Step | None:
        step, check = self._plain_step(op), hint_step(op, self._kernel)
        if step is None or check is None:
            return step

        def both(m: Machine) -> None:
            step(m)
            check(m)

        return both

    def _plain_step(self, op: Operation) -> Step | None:
        if op.name in _TERMINATORS or op.name in NO_OPS or does_nothing(op):
            return None
        if op.name == "arith.constant":
            self._constants.append((op.result.index, constant(op)))
            return None
        try:
            if op.name in _CONTROL:
                return _CONTROL[op.name](self, op)
            if op.name in EFFECTS:
                return self._effect(op)
            if op.name in RULES:
                return self._pure(op)
        except UnsupportedError as error:
            if error.location is None:
                raise UnsupportedError(f"{op.name}: {error.what}", op.location) from None
            raise
        raise UnsupportedError(op.name, op.location)

    def _pure(self, op: Operation) -> Step:
        function = RULES[op.name](op)
        if op.name == "tt.addptr":
            step = self._wide.moved(op, function) or _bind(function, op)
            return within_reach(op, step) if "reach" in op.attributes else step
        return self._with_wide(op, _bind(function, op))

    def _effect(self, op: Operation) -> Step:
        return self._with_wide(op, _bind_effect(EFFECTS[op.name](op), op, Site(self._kernel, op, _accessed(op))))

    def _with_wide(self, op: Operation, step: Step) -> Step:
        """The step, and behind it the second computation of address arithmetic where the operation is part of it."""
        wide = self._wide.step(op, RULES[op.name](op)) if op.name in RULES else None
        if wide is None:
            return step

        def both(m: Machine) -> None:
            step(m)
            wide(m)

        return both

    def _for(self, op: Operation) -> Step:
        low, high, stride, *initial = (v.index for v in op.operands)
        self._wide.enter(op)
        body = self._body(op.regions[0].block)
        wide, unsigned = self._wide.leave(op), "unsigned" in op.words
        return control.for_step((low, high, stride), initial, _slots(op), body, unsigned, op.location, wide)

    def _execute(self, op: Operation) -> Step:
        return control.execute_step(self._body(op.regions[0].block), _slots(op))

    def _if(self, op: Operation) -> Step:
        bodies = [self._body(region.block) for region in op.regions]
        otherwise = bodies[1] if len(bodies) == 2 else None
        if self._lanewise:
            return combine.lanewise_if_step(op.operands[0].index, _slots(op), bodies[0], otherwise)
        return control.if_step(op.operands[0].index, _slots(op), bodies[0], otherwise)

    def _while(self, op: Operation) -> Step:
        before, after = (self._body(region.block) for region in op.regions)
        condition = op.regions[0].block.operations[-1].operands[0].index
        initial = [v.index for v in op.operands]
        return control.while_step(initial, _slots(op), condition, before, after, deciding(op), op.location)

    def _combination(self, op: Operation) -> Body:
        """The region that combines two elements: branches in it are each lane's own, loops are refused."""
        for inner in op.regions[0].block.operations:
            if inner.name in ("scf.for", "scf.while"):
                raise UnsupportedError(f"{op.name} with a loop in what combines two elements", op.location)
        outer, self._lanewise = self._lanewise, True
        body = self._body(op.regions[0].block)
        self._lanewise = outer
        return body

    def _reduce(self, op: Operation) -> Step:
        sources = [(v.index, v.type) for v in op.operands]
        return combine.reduce_step(sources, _slots(op), self._combination(op), op.attributes["axis"] + 1)

    def _scan(self, op: Operation) -> Step:
        sources = [(v.index, v.type) for v in op.operands]
        axis, reverse = op.attributes["axis"] + 1, op.attributes.get("reverse", False)
        return combine.scan_step(sources, _slots(op), self._combination(op), axis, reverse)

    def _call(self, op: Operation) -> Step:
        """A device function that is not inlined. No function calls itself: one set of slots does for all calls."""
        name = op.attributes["callee"]
        callee = self._function.callees.get(name)
        if callee is None:
            raise UnsupportedError(f"tt.call of {name}", op.location)
        if name not in self._called:
            blocks = tuple(self._body(block) for block in callee.body.blocks)
            self._called[name] = blocks, tuple(_exit(block.operations[-1]) for block in callee.body.blocks)
        blocks, exits = self._called[name]
        pairs = [(a.index, v.index) for a, v in zip(callee.arguments, op.operands)]
        return control.call_step(pairs, blocks, exits, _slots(op))


_CONTROL: dict[str, Callable[[_Lowering, Operation], Step]] = {
    "scf.execute_region": _Lowering._execute,
    "scf.for": _Lowering._for,
    "scf.if": _Lowering._if,
    "scf.while": _Lowering._while,
    "tt.reduce": _Lowering._reduce,
    "tt.scan": _Lowering._scan,
    "tt.call": _Lowering._call,
}


def _size(type_: Type) -> int:
    """Elements of a value, as far as they bound a batch; shared memory is not moved about whole."""
    size = int(np.prod(type_.shape))
    return size // 4 if type_.element == "memdesc" else size


def _slots(op: Operation) -> list[int]:
    return [v.index for v in op.results]


def _exit(last: Operation) -> Exit:
    edges = tuple(Edge(block, tuple(v.index for v in passed)) for block, passed in last.successors)
    return Exit(last.operands[0].index if last.name == "cf.cond_br" else None, edges)


#: Operations that get a pointer and access nothing through it.
_NO_ACCESS = ("tt.ptr_to_int", "tt.make_tensor_descriptor", "ttng.reinterpret_tensor_descriptor")


def _accessed(op: Operation) -> Any:
    """The element that an access moves, or that an operation makes which can be undefined."""
    gpu = op.name.startswith(("amdg.", "ttg.", "ttng."))
    for type_ in [v.type for v in (op.operands if gpu else op.operands[:1])]:
        if type_.element == "memdesc":
            return element_of(Type(type_.pointee or ""))
        if type_.element == "tensordesc":
            return element_of(block_of(type_)[0])
        if type_.element == "ptr" and op.name not in _NO_ACCESS:
            return element_of(parse_type(type_.pointee or ""))
    if op.results and op.result.type.element == "memdesc":
        return element_of(Type(op.result.type.pointee or ""))
    made = [v.type for v in op.results if v.type.element in ELEMENTS]
    return element_of(made[0] if made else Type("i32"))


def _mark_atomics(operations: list[Operation]) -> None:
    """Operations that depend on whether their result is read are told so: atomics are cheaper when it is not. And that
    they have no mask, for which Triton gives them one that is all true.
    """
    true = {op.result for op in operations if op.attributes.get("value") in ("true", "dense<true>")}
    read = {value for op in operations for value in op.operands}
    read |= {value for op in operations for _, passed in op.successors for value in passed}
    for op in operations:
        if op.name in (*ATOMICS, "amdg.arrive_barrier"):
            op.attributes["used"] = op.result in read
            op.attributes["unmasked"] = op.operands[-1] in true


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
