"""The only module that touches Triton's internals: a launch's arguments in, TTIR out.

Works for Triton 3.6 to 3.9. The argument specialisation is Triton's own, so what is executed is what the real target
would be given.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import triton
from triton._C.libtriton import ir as triton_ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from ..errors import UnsupportedError, UsageError
from .ir import Function
from .parse import parse_module

VERSION = tuple(int(n) for n in re.findall(r"\d+", triton.__version__)[:2])

#: Triton counts columns from 0 up to 3.7 and from 1 since 3.8.
_FIRST_COLUMN = 1 if VERSION >= (3, 8) else 0

#: Architectures known to compile without a GPU; any other of the same spelling is passed to Triton as it is.
ARCHES = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942", "gfx950", "gfx1201")


@dataclass(frozen=True, slots=True)
class Arch:
    """A compilation target, by the vendor's name."""

    name: str

    @property
    def target(self) -> GPUTarget:
        if self.name.startswith("sm_"):
            return GPUTarget("cuda", int(self.name[3:]), 32)
        # CDNA and GCN (gfx9...) run waves of 64, RDNA and gfx1250 waves of 32.
        return GPUTarget("hip", self.name, 64 if self.name.startswith("gfx9") else 32)


def parse_arch(name: str) -> Arch:
    """Check the spelling of an architecture; UsageError when it is neither `sm_<n>` nor `gfx<n>`."""
    if not re.fullmatch(r"sm_\d{2,3}|gfx[0-9a-f]{3,5}", name):
        raise UsageError(f"arch={name!r}: allowed are sm_<n> and gfx<n>, such as {', '.join(ARCHES)}")
    return Arch(name)


@dataclass(frozen=True, eq=False)
class Compiled:
    """One specialisation of a kernel: its function, and which launch arguments it still takes."""

    kernel: str
    function: Function
    parameters: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class _Backend:
    target: GPUTarget
    backend: Any


@lru_cache
def _backend(arch: Arch) -> _Backend:
    return _Backend(arch.target, make_backend(arch.target))


_binders: WeakKeyDictionary[Any, dict[Arch, Callable[..., Any]]] = WeakKeyDictionary()
_compiled: WeakKeyDictionary[Any, dict[Any, Compiled]] = WeakKeyDictionary()


def compile_launch(
    kernel: Any, arch: Arch, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Compiled, dict[str, Any]]:
    """Specialise and compile one launch of a `triton.jit` function; cached by specialisation.

    Returns the compiled function and every parameter's value by name, in the kernel's order.
    """
    binders = _binders.setdefault(kernel, {})
    if arch not in binders:
        binders[arch] = create_function_from_signature(kernel.signature, kernel.params, _backend(arch).backend)
    bound, specialization, options = binders[arch](*args, **kwargs)
    for name, entry in zip(bound, specialization):
        if isinstance(entry[0], tuple):
            raise UnsupportedError(f"the argument {name} of {kernel.fn.__name__}, a tuple")
    specialization = [_without_hint(entry) for entry in specialization]
    key = (arch, str(specialization), str(sorted(options.items())), _constexpr_key(kernel, bound))
    programs = _compiled.setdefault(kernel, {})
    if key not in programs:
        programs[key] = _compile(kernel, arch, kwargs, bound, specialization, options)
    _check_globals(kernel)
    return programs[key], bound


def _check_globals(kernel: Any) -> None:
    """As Triton does at every launch: a program that was compiled with other values of globals is not run."""
    for (name, _), (value, scope) in kernel.used_global_vals.items():
        if name not in scope or scope[name] != value:
            now = scope.get(name, "nothing")
            raise RuntimeError(
                f"Global variable {name} has changed since we compiled this kernel, from {value} to {now}"
            )


def _without_hint(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """Divisibility by 16 tells later passes how to vectorise and changes nothing in TTIR: one compilation serves both.

    An integer equal to 1 has become a constant here already.
    """
    return entry if entry[0] == "constexpr" else (entry[0], None)


def _constexpr_key(kernel: JITFunction[Any], bound: Mapping[str, Any]) -> tuple[Any, ...]:
    """The specialisation already prints constexpr values; functions among them are told apart by identity.

    The key holds the functions themselves, so that no other one is ever given the identity of one that is gone.
    """
    values = (v for p, v in zip(kernel.params, bound.values()) if p.is_constexpr)
    return tuple(_Identity(v) if callable(v) else repr(v) for v in values)


class _Identity:
    """A key that equals only that of the same object."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _compile(
    kernel: Any,
    arch: Arch,
    kwargs: Mapping[str, Any],
    bound: Mapping[str, Any],
    specialization: list[Any],
    options: Any,
) -> Compiled:
    found = _backend(arch)
    context = triton_ir.context()
    triton_ir.load_dialects(context)
    found.backend.load_dialects(context)
    with warnings.catch_warnings():
        # Triton 3.9 announces a changed default of FP fusion, which has no meaning before the GPU's own passes.
        warnings.filterwarnings("ignore", message="TRITON_DEFAULT_FP_FUSION")
        options, signature, constexprs, attrs = kernel._pack_args(
            found.backend, {**kwargs, **options}, bound, specialization, options
        )
        source = ASTSource(kernel, signature, constexprs, attrs)
        module = source.make_ir(
            found.target,
            options,
            found.backend.get_codegen_implementation(options),
            found.backend.get_module_map(),
            context,
        )
        capability = (found.target.arch,) if found.target.backend == "cuda" else ()
        module = found.backend.make_ttir(module, {}, options, *capability)
    text = str(module)
    constant = {path[0] for path in constexprs if len(path) == 1}
    parameters = tuple(name for i, name in enumerate(bound) if i not in constant)
    return Compiled(kernel.fn.__name__, parse_module(text, _FIRST_COLUMN), parameters, text)
