"""Operations of TTGIR that stand for several simpler ones, spelled out.

AMD's buffer operations take a base and an offset a lane: that is a pointer moved by the offset, no further than a
buffer reaches, and an access through it. A copy from global to shared memory is a load and a store into shared memory;
it is done where it is issued, so that what waits for it has nothing to wait for, and its token is never given a value.
A matrix product of operands in shared memory loads them first.

What accesses global memory keeps its name, with the operands of `tt.load`, `tt.store` and the atomics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .ir import Function, Operation, Region, Type, Value

#: How far from its base a buffer operation reaches, in bytes: the size that Triton gives the buffer. Offsets are bytes,
#: 32 bits without sign; what lies further, as a negative offset does, is neither loaded nor stored by the hardware.
_BUFFER_REACH = 2**31 - 2


def expand(kernel: Function, zero_fill: bool) -> None:
    """Spell out the operations of a kernel and of the functions that it calls, in place.

    With `zero_fill`, a copy to shared memory writes zeros where its mask is off. That is what Triton makes of it on
    NVIDIA's GPUs: cp.async with a source of no bytes (PTX ISA: the remaining bytes of the destination are zeros). AMD's
    leave there what was there, or not, by the instruction.
    """
    expander = _Expander(kernel.value_count, zero_fill)
    for function in (kernel, *kernel.callees.values()):
        expander.rewrite(function.body)
    kernel.value_count = expander.count


class _Expander:
    def __init__(self, count: int, zero_fill: bool) -> None:
        self.count = count
        self._zero_fill = zero_fill
        self._maps: dict[Value, Operation] = {}

    def rewrite(self, region: Region) -> None:
        for block in region.blocks:
            for op in block.operations:
                for inner in op.regions:
                    self.rewrite(inner)
            if any(op.name in _RULES for op in block.operations):
                block.operations = [new for op in block.operations for new in self._expanded(op)]

    def _expanded(self, op: Operation) -> list[Operation]:
        rule = _RULES.get(op.name)
        return [op] if rule is None else rule(self, op)

    def _new(self, type_: Type) -> Value:
        self.count += 1
        return Value(self.count - 1, type_)

    def _address(self, op: Operation, base: Value, offsets: Value) -> tuple[list[Operation], Value]:
        """The base, moved by each lane's offset, which counts elements."""
        type_ = Type("ptr", offsets.type.shape, base.type.pointee, offsets.type.layout)
        everywhere, moved = self._new(type_), self._new(type_)
        return [
            Operation("tt.splat", (base,), (everywhere,), op.location),
            Operation("tt.addptr", (everywhere, offsets), (moved,), op.location, {"reach": _BUFFER_REACH}),
        ], moved

    def buffer_load(self, op: Operation) -> list[Operation]:
        """`%base[%offsets], %mask, %other stride = %s`; the stride is a hint for the cache."""
        base, offsets, *rest = _plain(op)
        steps, address = self._address(op, base, offsets)
        return [*steps, _access(op, (address, *rest), op.results)]

    def buffer_store(self, op: Operation) -> list[Operation]:
        """`%value, %base[%offsets], %mask stride = %s`."""
        value, base, offsets, *mask = _plain(op)
        steps, address = self._address(op, base, offsets)
        return [*steps, _access(op, (address, value, *mask), ())]

    def buffer_atomic_rmw(self, op: Operation) -> list[Operation]:
        """`fadd, acq_rel, gpu, %value, %base[%offsets], %mask`."""
        value, base, offsets, *mask = _plain(op)
        steps, address = self._address(op, base, offsets)
        return [*steps, _access(op, (address, value, *mask), op.results)]

    def buffer_atomic_cas(self, op: Operation) -> list[Operation]:
        """`acq_rel, gpu, %expected, %new, %base[%offsets]`."""
        expected, new, base, offsets = _plain(op)
        steps, address = self._address(op, base, offsets)
        return [*steps, _access(op, (address, expected, new), op.results)]

    def buffer_load_to_local(self, op: Operation) -> list[Operation]:
        """`%base[%offsets] mask = %m other = %o stride = %s into %shared`."""
        base, offsets = _plain(op)
        steps, address = self._address(op, base, offsets)
        return steps + self._copied(op, address, _named(op, "into")[0])

    def async_copy(self, op: Operation) -> list[Operation]:
        """`%pointers, %shared mask %m other %o`."""
        address, target, *_ = op.operands
        return self._copied(op, address, target)

    def _copied(self, op: Operation, address: Value, target: Value) -> list[Operation]:
        type_ = Type(address.type.pointee or "", address.type.shape, None, address.type.layout)
        value, steps = self._new(type_), []
        lanes = (*_named(op, "mask"), *_named(op, "other"))
        if self._zero_fill and len(lanes) == 1:
            zero = self._new(type_)
            steps.append(Operation("arith.constant", (), (zero,), op.location, {"value": "dense<0>"}))
            lanes = (*lanes, zero)
        return [
            *steps,
            _access(op, (address, *lanes), (value,)),
            Operation("ttg.local_store", (value, target), (), op.location),
        ]

    def async_store(self, op: Operation) -> list[Operation]:
        """`%shared, %pointers mask %m`."""
        view, address, *mask = op.operands
        steps, (value,) = self._loaded(op, (view,))
        return [*steps, _access(op, (address, value, *mask), ())]

    def local_load(self, op: Operation) -> list[Operation]:
        """`%shared token %t`: the token orders what is in order here."""
        return [_access(op, op.operands[:1], op.results)]

    def dot(self, op: Operation) -> list[Operation]:
        """`%a, %b, %c, %use_c`, of which the first two may be in shared memory."""
        steps, operands = self._loaded(op, op.operands)
        return [*steps, _access(op, operands, op.results)]

    def nothing(self, op: Operation) -> list[Operation]:
        """The memory that a tensor map is written to, and the fence behind it: see `described`."""
        return []

    def map_created(self, op: Operation) -> list[Operation]:
        """`%scratch, %base, [box], [shape], [strides], [element strides]`, all but the first two innermost first."""
        self._maps[op.operands[0]] = op
        return []

    def described(self, op: Operation) -> list[Operation]:
        """The descriptor that a tensor map is: base, shape, and the strides in bytes of all dimensions but the last."""
        made = self._maps[op.operands[0]]
        rank = (len(made.operands) - 1) // 4
        shape, strides = made.operands[2 + rank : 2 + 2 * rank], made.operands[2 + 2 * rank : 1 + 3 * rank]
        operands = (made.operands[1], *reversed(shape), *reversed(strides))
        return [Operation(op.name, operands, op.results, op.location, {"nan": made.attributes["fill_mode"] == 1})]

    def tdm_copy(self, op: Operation) -> list[Operation]:
        """`%desc into %shared`; before Triton 3.8 the copy moves the descriptor: `%desc[%i, %j] into %shared, %p`."""
        (descriptor, *moves), view = _plain(op), (_named(op, "into") or _named(op, "from"))[0]
        if not moves:
            return [_access(op, (descriptor, view), ())]
        rank = len(view.type.shape)
        roles = ("", *["add_offsets"] * rank, *["pred"] * (len(moves) - rank))
        moved = self._new(descriptor.type)
        attributes = {"roles": roles, "clamp_bounds": True}
        operands = (descriptor, *moves)
        update = Operation("amdg.update_tensor_descriptor", operands, (moved,), op.location, attributes)
        return [update, _access(op, (moved, view), ())]

    def _loaded(self, op: Operation, values: Sequence[Value]) -> tuple[list[Operation], tuple[Value, ...]]:
        steps, operands = [], []
        for value in values:
            if value.type.element == "memdesc":
                held = self._new(Type(value.type.pointee or "", value.type.shape))
                steps.append(Operation("ttg.local_load", (value,), (held,), op.location))
                value = held
            operands.append(value)
        return steps, tuple(operands)


def _access(op: Operation, operands: Sequence[Value], results: Sequence[Value]) -> Operation:
    return Operation(op.name, tuple(operands), tuple(results), op.location, op.attributes, op.words)


def _plain(op: Operation) -> tuple[Value, ...]:
    """The operands that no word names."""
    return tuple(value for value, role in zip(op.operands, op.attributes["roles"]) if not role)


def _named(op: Operation, word: str) -> tuple[Value, ...]:
    return tuple(value for value, role in zip(op.operands, op.attributes["roles"]) if role == word)


_RULES: dict[str, Callable[[_Expander, Operation], list[Operation]]] = {
    "amdg.async_copy_local_to_global": _Expander.async_store,
    "amdg.async_tdm_copy_global_to_local": _Expander.tdm_copy,
    "amdg.async_tdm_copy_local_to_global": _Expander.tdm_copy,
    "amdg.buffer_atomic_cas": _Expander.buffer_atomic_cas,
    "amdg.buffer_atomic_rmw": _Expander.buffer_atomic_rmw,
    "amdg.buffer_load": _Expander.buffer_load,
    "amdg.buffer_load_to_local": _Expander.buffer_load_to_local,
    "amdg.buffer_store": _Expander.buffer_store,
    "ttg.async_copy_global_to_local": _Expander.async_copy,
    "ttg.global_scratch_alloc": _Expander.nothing,
    "ttg.local_load": _Expander.local_load,
    "ttng.reinterpret_tensor_descriptor": _Expander.described,
    "ttng.tensormap_create": _Expander.map_created,
    "ttng.tensormap_fenceproxy_acquire": _Expander.nothing,
    "ttng.warp_group_dot": _Expander.dot,
}
