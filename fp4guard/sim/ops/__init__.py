"""What each operation does, as tables: one row an operation.

A rule takes the operation as parsed and gives the function that is called with its operands' arrays (see `Machine`
for their shapes). Rules of EFFECTS give a function that takes the machine and the site first.
"""

from . import arith, convert, dot, memory, shape

RULES = {**arith.RULES, **convert.RULES, **shape.RULES, **dot.RULES}
EFFECTS = memory.EFFECTS

#: Operations that state a fact or a hint, and change no value.
NO_OPS = frozenset({"llvm.intr.assume"})
