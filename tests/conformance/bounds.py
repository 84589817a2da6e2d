"""How far the GPU may be from the simulator where it computes approximately, and why it is.

Measured on the inputs of this folder, and no less than the documented error of the function where there is one (CUDA
C++ Programming Guide, "Mathematical Functions"; PTX ISA, chapter 9).
"""

from __future__ import annotations

from .row import Allowed

#: By operation and type.
ARITHMETIC: dict[tuple[str, str], Allowed] = {}

#: By symbol.
LIBDEVICE: dict[str, Allowed] = {}

#: By snippet.
PTX: dict[str, Allowed] = {}

#: By operation and kernel, with or without the types.
WHOLE: dict[str, Allowed] = {}
