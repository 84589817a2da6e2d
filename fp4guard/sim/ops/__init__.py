"""What each operation does, as tables: one row an operation.

A rule takes the operation as parsed and gives the function that is called with its operands' arrays (see `Machine`
for their shapes). Rules of EFFECTS give a function that takes the machine and the site first.
"""

from . import (
    arith,
    assembly,
    atomics,
    claims,
    convert,
    descriptors,
    dot,
    dot_scaled,
    fp8,
    gpu,
    libdevice,
    lookup,
    math,
    memory,
    pointers,
    shape,
    shared,
    tdm,
    tensor_memory,
    tma,
    undefined,
)

_PURE = (arith, math, convert, fp8, shape, dot, dot_scaled, libdevice, assembly, gpu)
_SEEING = (memory, undefined, atomics, claims, descriptors, lookup, pointers, shared, tdm, tensor_memory, tma)

#: Where an operation has a row in both, that of EFFECTS is what runs.
RULES = {name: rule for module in _PURE for name, rule in module.RULES.items()}
EFFECTS = {name: rule for module in _SEEING for name, rule in module.EFFECTS.items()}

#: Operations that change no value: barriers, as what they order is in order here already, and output of the kernel's.
#: Also what makes a grid wait for the one before, which has run.
NO_OPS = frozenset({*gpu.NO_OPS, "tt.print", "tt.grid_dependency_launch_dependents", "tt.grid_dependency_wait"})
