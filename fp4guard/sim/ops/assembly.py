"""tt.elementwise_inline_asm: packs elements into registers as Triton does, and runs the snippet on all of them.

Each invocation gets `packed_element` neighbours of each operand. Those of fewer than 32 bits share registers, the first
in the lowest bits (Triton, ElementwiseInlineAsmOpConversion).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ...errors import UnsupportedError
from ...ttir import Operation, Type
from ..elements import Array, element_of
from .arith import Rule
from .ptx import Snippet
from .shape import materialise


def _per_register(width: int, packed: int) -> int:
    return min(max(4 // width, 1), packed)


def _bytes(types: list[Type], packed: int) -> list[int]:
    """Those of each register."""
    sizes = []
    for width in (element_of(type_).width for type_ in types):
        each = _per_register(width, packed)
        if packed % each:
            raise UnsupportedError(f"inline assembly on {packed} elements at a time, {each} to a register")
        sizes += [width * each] * (packed // each)
    return sizes


def _registers(x: Array, type_: Type, packed: int) -> list[Array]:
    """An operand [programs, *shape] as registers, each [programs, invocations]."""
    element = element_of(type_)
    bits = np.ascontiguousarray(element.store(materialise(x, type_)))
    groups = bits.reshape(len(bits), -1, packed)
    each = _per_register(element.width, packed)
    registers = []
    for first in range(0, packed, each):
        whole = np.zeros(groups.shape[:2], np.uint64 if element.width == 8 else np.uint32)
        for place in range(each):
            part = groups[:, :, first + place].astype(whole.dtype)
            whole |= part << whole.dtype.type(8 * element.width * place)
        registers.append(whole)
    return registers


def _elements(registers: list[Array], type_: Type, packed: int) -> Array:
    """The way back."""
    element = element_of(type_)
    each = _per_register(element.width, packed)
    parts = []
    for register in registers:
        for place in range(each):
            shifted = register >> register.dtype.type(8 * element.width * place) if place else register
            parts.append(shifted.astype(f"u{element.width}"))
    bits = np.ascontiguousarray(np.stack(parts, axis=-1))
    return element.load(bits.reshape(len(bits), *type_.shape))


def _assembly(op: Operation) -> Callable[..., Array]:
    packed = op.attributes["packed"]
    sources, targets = [v.type for v in op.operands], [v.type for v in op.results]
    snippet = Snippet(op.attributes["code"], op.attributes["constraints"])
    counts = [packed // _per_register(element_of(t).width, packed) for t in targets]
    size = int(np.prod(targets[0].shape))
    if size % packed:
        raise UnsupportedError(f"inline assembly on {size} elements, {packed} at a time", op.location)
    for place, (needed, held) in enumerate(zip(_bytes([*targets, *sources], packed), snippet.widths)):
        if needed > held:
            raise UnsupportedError(f"inline assembly with {8 * needed} bits in ${place}, a register of {8 * held}")

    # Once on zeros: what is not supported is refused before anything runs.
    blank = [np.zeros((1, 1), np.uint64 if element_of(t).width == 8 else np.uint32) for t in sources]
    registers = [r for r, t in zip(blank, sources) for _ in range(packed // _per_register(element_of(t).width, packed))]
    with np.errstate(all="ignore"):
        snippet.run(registers, sum(counts), (1, 1))

    def apply(*operands: Array) -> Array | tuple[Array, ...]:
        programs = max([len(x) for x in operands], default=1)
        inputs = [register for x, t in zip(operands, sources) for register in _registers(x, t, packed)]
        outputs = snippet.run(inputs, sum(counts), (programs, size // packed))
        results = []
        for type_, count in zip(targets, counts):
            results.append(_elements(outputs[:count], type_, packed))
            outputs = outputs[count:]
        return results[0] if len(results) == 1 else tuple(results)

    return apply  # type: ignore[return-value]


#: Orders a grid behind the one before, which has run (PTX ISA, griddepcontrol). Before 3.9, Triton gives it a
#: result that is none.
_GRID_DEPENDENCY = re.compile(r"griddepcontrol\.(wait|launch_dependents)\s*;\s*(//.*)?")


def does_nothing(op: Operation) -> bool:
    """Whether an operation is a snippet that has no effect here, and no result to speak of."""
    return op.name in RULES and bool(_GRID_DEPENDENCY.fullmatch(op.attributes["code"]))


RULES: dict[str, Rule] = {"tt.elementwise_inline_asm": _assembly}
