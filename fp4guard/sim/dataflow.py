"""What flows into a value: which arguments a pointer comes from, which arithmetic makes an address."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..ttir import Function, Operation, Value

#: Operations that write memory, through their first operand.
WRITES = (
    "tt.store",
    "tt.atomic_rmw",
    "tt.atomic_cas",
    "tt.descriptor_store",
    "tt.descriptor_scatter",
    "tt.descriptor_reduce",
    "tt.call",
    "amdg.async_copy_local_to_global",
    "amdg.async_tdm_copy_local_to_global",
    "amdg.buffer_store",
    "amdg.buffer_atomic_rmw",
    "amdg.buffer_atomic_cas",
    "ttng.async_tma_copy_local_to_global",
    "ttng.async_tma_reduce",
    "ttng.async_tma_scatter",
)

#: Integer operations that compute an address, and can overflow doing it.
COMPUTES = ("arith.addi", "arith.subi", "arith.muli", "arith.shli")

#: Operations that hand an address, or a part of one, on as it is. What a remainder, a mask or a comparison makes of a
#: number is another number: there overflow is often meant (a hash), and the walk ends.
_PASSES = (
    "arith.extsi",
    "arith.extui",
    "arith.select",
    "tt.splat",
    "tt.broadcast",
    "tt.expand_dims",
    "tt.reshape",
    "tt.trans",
    "tt.unsplat",
    "tt.addptr",
    "tt.bitcast",
    "tt.join",
    "tt.split",
    "tt.cat",
)


class Dataflow:
    """The edges from values to values of one function, through loops, branches and block arguments."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._made_by: dict[Value, Operation] = {}
        self._handed: dict[Value, list[Value]] = {}
        blocks = function.body.blocks
        for op in function.operations:
            for place, result in enumerate(op.results):
                self._made_by[result] = op
                for region in op.regions:
                    last = region.block.operations[-1] if region.block.operations else None
                    if op.name in ("scf.for", "scf.if", "scf.while") and last is not None:
                        passed = last.operands[1:] if last.name == "scf.condition" else last.operands
                        self._hand(result, passed[place : place + 1])
            if op.name == "scf.for":
                arguments, body = op.regions[0].block.arguments, op.regions[0].block
                self._hand_all(arguments[1:], op.operands[3:], body.operations[-1].operands)
                self._hand(arguments[0], op.operands[:1] + op.operands[2:3])
            if op.name == "scf.while":
                before, after = op.regions[0].block, op.regions[1].block
                self._hand_all(before.arguments, op.operands, after.operations[-1].operands)
                self._hand_all(after.arguments, before.operations[-1].operands[1:])
            for number, values in op.successors:
                self._hand_all(blocks[number].arguments, values)

    def pointer_roots(self, pointer: Value) -> frozenset[int] | None:
        """The slots of the function arguments that a pointer may be derived from; None when that cannot be told."""
        if pointer.type.element != "ptr":
            return None  # a descriptor
        roots: set[int] = set()
        arguments = set(self._function.arguments)
        for value in self._closure([pointer], lambda v: v.type.element == "ptr"):
            if value in arguments:
                roots.add(value.index)
            elif value in self._made_by:
                op = self._made_by[value]
                if op.name not in _PASSES and not op.regions:
                    return None
        return frozenset(roots)

    def address_values(self) -> set[Value]:
        """The integers that become part of an address."""
        offsets = [op.operands[1] for op in self._function.operations if op.name == "tt.addptr"]
        return self._closure(offsets, lambda v: v.type.element.startswith("i") and v.type.element != "i1")

    def operations_of(self, values: Iterable[Value]) -> set[Operation]:
        """The operations that compute, or pass on, some of the values."""
        made = {self._made_by[value] for value in values if value in self._made_by}
        return {op for op in made if op.name in (*COMPUTES, *_PASSES)}

    def _closure(self, start: Iterable[Value], follow: Callable[[Value], bool]) -> set[Value]:
        """Everything that flows into `start` through operations that compute or pass addresses."""
        seen: set[Value] = set()
        waiting = list(start)
        while waiting:
            value = waiting.pop()
            if value in seen or not follow(value):
                continue
            seen.add(value)
            waiting += self._handed.get(value, ())
            op = self._made_by.get(value)
            if op is not None and op.name in (*COMPUTES, *_PASSES):
                waiting += op.operands
        return seen

    def _hand(self, target: Value, sources: Iterable[Value]) -> None:
        self._handed.setdefault(target, []).extend(sources)

    def _hand_all(self, targets: Iterable[Value], *sources: Iterable[Value]) -> None:
        for values in sources:
            for target, source in zip(targets, values):
                self._hand(target, (source,))
