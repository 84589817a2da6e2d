"""What the simulator executes, for people to read: one row an operation, made from the tables that execute them."""

from __future__ import annotations

from dataclasses import dataclass

from ..elements import ELEMENTS
from . import (
    NO_OPS,
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
    ptx,
    ptx_cvt,
    shape,
    shared,
    tdm,
    tensor_memory,
    tma,
    undefined,
)


@dataclass(frozen=True, slots=True)
class Supported:
    """`name` as TTIR prints it, `what` kind of operation it is, and what there is to know about it."""

    name: str
    what: str
    notes: str = ""


_KINDS = {
    "arithmetic": arith.RULES,
    "function": math.RULES,
    "conversion": {**convert.RULES, **fp8.RULES},
    "layout": shape.RULES,
    "product": {**dot.RULES, **dot_scaled.RULES},
    "on tensors, TTGIR": gpu.RULES,
    "library call": libdevice.RULES,
    "inline assembly": assembly.RULES,
    "arithmetic, checked": undefined.EFFECTS,
    "memory": memory.EFFECTS,
    "shared memory": shared.EFFECTS,
    "tensor memory": tensor_memory.EFFECTS,
    "atomic": atomics.EFFECTS,
    "tensor descriptor": {**descriptors.EFFECTS, **tdm.EFFECTS, **tma.EFFECTS},
    "look-up": lookup.EFFECTS,
    "pointer": pointers.EFFECTS,
    "claim": claims.EFFECTS,
    "control flow": (
        "scf.for", "scf.if", "scf.while", "scf.execute_region", "scf.condition", "scf.yield", "cf.br", "cf.cond_br",
        "tt.call", "tt.return",
    ),
    "combination": ("tt.reduce", "tt.scan"),
    "constant": ("arith.constant",),
    "nothing to do": tuple(sorted(NO_OPS)),
}  # fmt: skip

_UNDEFINED = "undefined results are poison"
_NOTES = {
    **dict.fromkeys(undefined.EFFECTS, _UNDEFINED),
    "tt.dot": "of f16, bf16, f32, f64, i8 and 8-bit floats; tf32, tf32x3, bf16x3, bf16x6, ieee",
    "tt.dot_scaled": "e2m1, e4m3, e5m2, bf16, fp16; E8M0 scales, or E4M3 scales for groups of 16",
    "tt.fp_to_fp": "rtne, and rtz to f16, bf16 and E5M2; to 8 bits saturating",
    "tt.gather": "an index out of range is undefined",
    "tt.histogram": "a value in no bin makes the program's histogram undefined",
    "tt.atomic_rmw": f"{', '.join(atomics.KINDS)}; programs in the order of their numbers",
    "tt.atomic_cas": "bits are compared; programs in the order of their numbers",
    "tt.reduce": "any region without loops",
    "tt.scan": "any region without loops, reversed too",
    "tt.call": "functions that are not inlined",
    "tt.cat": "in order, also with can_reorder",
    "tt.reshape": "in order, also with can_reorder",
    "tt.print": "prints nothing",
    "tt.assert": "as with TRITON_DEBUG=1",
    "llvm.intr.assume": "a false assumption of an active program is found",
    "tt.int_to_ptr": "addresses made by data_ptr() are translated",
    "tt.make_tensor_descriptor": "padding of zero or NaN",
    "amdg.buffer_load": "beyond the tensor is beyond it, whatever num_records; offsets have 31 bits, in bytes",
    "amdg.arrive_barrier": "where no one reads the phase that it gives",
    "amdg.buffer_store": "as amdg.buffer_load",
    "amdg.buffer_atomic_rmw": "as tt.atomic_rmw",
    "ttg.async_copy_global_to_local": "done where it is issued; masked off, 0 on NVIDIA and undefined on AMD",
    "amdg.buffer_load_to_local": "done where it is issued; what a mask leaves out is undefined",
    "ttg.local_alloc": "undefined until it is written",
    "ttg.memdesc_index": "beyond the allocation: found when it is accessed",
    "ttg.memdesc_reinterpret": "in layouts without swizzling and padding, or of another name only",
    "ttg.fp4_to_fp": "E2M1 to f16, bf16, f32",
    "ttng.tc_gen5_mma_scaled": "scales that were stored from registers (ttng.tmem_copy is not there)",
    "tt.descriptor_reduce": "add, min, max, and, or, xor",
}


def supported_ops() -> list[Supported]:
    """Every operation, by name; then the library functions, the PTX instructions and the element types."""
    kinds: dict[str, str] = {}
    for what, names in _KINDS.items():
        kinds.update(dict.fromkeys(names, what))
    rows = [Supported(name, what, _NOTES.get(name, "")) for name, what in sorted(kinds.items())]
    rows += [Supported(name, "libdevice, OCML") for name in sorted(libdevice.NAMES)]
    mnemonics = {*ptx.INSTRUCTIONS, "cvt", "setp"}
    rows += [Supported(name, "PTX") for name in sorted(mnemonics)]
    rows += [Supported(f"cvt to {target} from {source}", "PTX") for target, source in ptx_cvt.CONVERSIONS]
    rows += [Supported(name, "element type") for name in ELEMENTS]
    return rows
