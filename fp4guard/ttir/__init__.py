"""A launch -> TTIR (of a Gluon kernel, TTGIR) through Triton's own compiler, with no GPU -> typed SSA."""

from .compiler import ARCHES, Arch, Compiled, compile_launch, parse_arch, promises
from .ir import Block, Function, Location, Operation, Region, Type, Value
from .parse import parse_module
from .types import parse_type

__all__ = [
    "ARCHES",
    "Arch",
    "Block",
    "Compiled",
    "Function",
    "Location",
    "Operation",
    "Region",
    "Type",
    "Value",
    "compile_launch",
    "parse_arch",
    "parse_module",
    "parse_type",
    "promises",
]
