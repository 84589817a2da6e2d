"""TTIR as plain data: types, values, operations, regions, locations."""

from __future__ import annotations

import linecache
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Type:
    """`element` is an MLIR name ("i32", "bf16", "f8E4M3FN"), or "ptr", "memdesc" (memory of a program's own, whose
    elements are `pointee`), "tensordesc", "token"; a scalar has shape ().

    `layout` says which thread holds what, or what stands where in shared memory. No value depends on it.
    """

    element: str
    shape: tuple[int, ...] = ()
    pointee: str | None = None
    layout: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.element == "memdesc":
            return f"!ttg.memdesc<{'x'.join([*map(str, self.shape), str(self.pointee)])}>"
        element = f"!tt.ptr<{self.pointee}>" if self.element == "ptr" else self.element
        return f"tensor<{'x'.join(map(str, self.shape))}x{element}>" if self.shape else element

    def with_element(self, element: str) -> Type:
        return Type(element, self.shape, None, self.layout)


@dataclass(frozen=True, slots=True)
class Location:
    """Where an operation came from. Lines and columns count from 1, whatever the Triton version prints."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        path = Path(self.file)
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"{path}:{self.line}:{self.column}"

    @property
    def source(self) -> str:
        """The line's text, stripped; empty when the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()


UNKNOWN_LOCATION = Location("<unknown>", 0, 0)


@dataclass(eq=False, slots=True)
class Value:
    """One SSA value; `index` is its slot in a run of the function."""

    index: int
    type: Type


@dataclass(eq=False, slots=True)
class Block:
    arguments: list[Value]
    operations: list[Operation] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Region:
    """Its blocks in order; all but functions have exactly one."""

    blocks: list[Block]

    @property
    def block(self) -> Block:
        return self.blocks[0]


@dataclass(eq=False, slots=True)
class Operation:
    """`words` are the bare keywords of the custom syntax, such as the predicate of a compare.

    `successors` are the target blocks of a branch, with the values each is given.
    """

    name: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    location: Location
    attributes: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    successors: tuple[tuple[int, tuple[Value, ...]], ...] = ()

    @property
    def result(self) -> Value:
        return self.results[0]


@dataclass(eq=False)
class Function:
    name: str
    arguments: list[Value]
    body: Region
    value_count: int
    callees: dict[str, Function] = field(default_factory=dict)
    """The functions that it and they call, by name; their values have slots beside its own."""

    @cached_property
    def operations(self) -> list[Operation]:
        """Every operation, outer ones before those of their regions."""
        found: list[Operation] = []

        def walk(region: Region) -> None:
            for block in region.blocks:
                for op in block.operations:
                    found.append(op)
                    for inner in op.regions:
                        walk(inner)

        walk(self.body)
        return found
