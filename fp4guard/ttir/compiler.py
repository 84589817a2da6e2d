"""The only module that touches Triton's internals: a launch's arguments in, TTIR out (of a Gluon kernel, TTGIR).

Works for Triton 3.6 to 3.9. The argument specialisation is Triton's own, so what is executed is what the real target
would be given.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import triton
from triton._C.libtriton import ir as triton_ir
from triton.backends import backends
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from ..errors import UsageError
from .ir import Function
from .parse import parse_module

VERSION = tuple(int(n) for n in re.findall(r"\d+", triton.__version__)[:2])

#: Triton counts columns from 0 up to 3.7 and from 1 since 3.8.
_FIRST_COLUMN = 1 if VERSION >= (3, 8) else 0

#: Architectures known to compile without a GPU; any other of the same spelling is passed to Triton as it is.
ARCHES = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942", "gfx950", "gfx1201", "gfx1250")


#: Assertions of the kernel's own stay in, as they do with TRITON_DEBUG=1. Those that Triton then adds to every addition
#: and product of integers do not: the simulator watches for overflow where it matters.
_OPTIONS = {"debug": True, "sanitize_overflow": False}


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


#: One architecture of each of Triton's backends that are installed.
_OF_EACH_VENDOR = tuple(Arch(name) for vendor, name in (("nvidia", "sm_90"), ("amd", "gfx950")) if vendor in backends)


def parse_arch(name: str) -> Arch:
    """Check the spelling of an architecture; UsageError when it is neither `sm_<n>`, n from 70 on, nor `gfx<n>`."""
    # sm_10 is sm_100 mistyped: Triton would take it for a GPU that can do next to nothing.
    if not re.fullmatch(r"sm_([7-9]|1\d)\d|gfx[0-9a-f]{3,5}", name):
        raise UsageError(f"arch={name!r}: allowed are sm_<n> and gfx<n>, such as {', '.join(ARCHES)}, n from 70 on")
    return Arch(name)


@dataclass(frozen=True, eq=False)
class Compiled:
    """One specialisation of a kernel: its function, and which launch arguments it still takes.

    `parameters` are the names of those, in the function's order, such as `x`, `pair[0]` and `options.rows`; `paths` are
    the places of their values. `options` are the compiler's (num_warps, ...). `stage` names the language of
    `text`: ttir, or ttgir of a Gluon kernel.
    """

    kernel: str
    function: Function
    parameters: tuple[str, ...]
    paths: tuple[tuple[int, ...], ...]
    options: Mapping[str, Any]
    text: str
    stage: str

    def given(self, bound: Mapping[str, Any]) -> list[Any]:
        """The values of `parameters` in a launch, of which `bound` are all values by name."""
        values = list(bound.values())
        return [_at(values, path) for path in self.paths]


def _at(values: Any, path: Sequence[int]) -> Any:
    for place in path:
        values = values[place]
    return values


@dataclass(frozen=True)
class _Backend:
    target: GPUTarget
    backend: Any


@lru_cache
def _backend(arch: Arch) -> _Backend:
    return _Backend(arch.target, make_backend(arch.target))


_binders: WeakKeyDictionary[Any, dict[Arch, Callable[..., Any]]] = WeakKeyDictionary()
_compiled: WeakKeyDictionary[Any, dict[Any, Compiled]] = WeakKeyDictionary()


#: What a launch promises of an argument, by the letters of Triton's specialisation.
_PROMISES = {"D": "a multiple of 16", "S": "smaller than 2 GiB"}


def promises(
    kernel: Any, arch: Arch, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[tuple[str, tuple[int, ...]], frozenset[str]]:
    """What Triton tells its compiler about the arguments of a launch, beside types and constants: by a parameter's name
    and, in a tuple, its place. It holds for every launch of what is compiled.
    """
    bound, specialization, _ = _binder(kernel, arch)(*args, **kwargs)
    return {key: found for name, entry in zip(bound, specialization) for key, found in _promised(name, (), *entry)}


def _promised(
    name: str, place: tuple[int, ...], type_: Any, hint: Any
) -> Iterator[tuple[tuple[str, tuple[int, ...]], frozenset[str]]]:
    if isinstance(type_, tuple):
        for i, (inner, of_it) in enumerate(zip(type_, hint)):
            yield from _promised(name, (*place, i), inner, of_it)
    elif type_ != "constexpr" and isinstance(hint, str):
        yield (name, place), frozenset(what for letter, what in _PROMISES.items() if letter in hint)


def _binder(kernel: Any, arch: Arch) -> Callable[..., Any]:
    binders = _binders.setdefault(kernel, {})
    if arch not in binders:
        binders[arch] = create_function_from_signature(kernel.signature, kernel.params, _backend(arch).backend)
    return binders[arch]


def compile_launch(
    kernel: Any, arch: Arch, args: Sequence[Any], kwargs: Mapping[str, Any], only: Compiled | None = None
) -> tuple[Compiled, dict[str, Any]]:
    """Specialise and compile one launch of a `triton.jit` function; cached by specialisation.

    Returns the compiled function and every parameter's value by name, in the kernel's order. Raises RuntimeError when
    the launch needs another compiled function than `only`, which is the one that host code holds.
    """
    bound, specialization, options = _binder(kernel, arch)(*args, **kwargs)
    key = (
        arch,
        tuple(_type_key(entry[0], value) for entry, value in zip(specialization, bound.values())),
        tuple((name, _value_key(value)) for name, value in sorted(options.items())),
    )
    programs = _compiled.setdefault(kernel, {})
    if key not in programs:
        specialization = [_without_hint(entry) for entry in specialization]
        programs[key] = _compile(kernel, arch, kwargs, bound, specialization, options)
    _check_globals(kernel)
    if only is not None and programs[key] is not only:
        raise RuntimeError(f"{kernel.fn.__name__} was compiled for arguments of other types, or with other constants")
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

    An integer equal to 1 has become a constant here already. The values of constants are not read from here.
    """
    return entry if entry[0] == "constexpr" else (entry[0], _nothing(entry[0]))


def _nothing(type_: Any) -> Any:
    return tuple(map(_nothing, type_)) if isinstance(type_, tuple) else None


def _type_key(type_: Any, value: Any) -> Any:
    """What of an argument a compilation depends on: its type, and its value where that is a constant."""
    if isinstance(type_, tuple):
        return type(type_), tuple(map(_type_key, type_, value))
    return ("constexpr", _value_key(value)) if type_ == "constexpr" else type_


def _value_key(value: Any) -> Any:
    """A key that equals that of another value only when a kernel cannot tell the two apart.

    It holds what it tells apart by identity, so that nothing else is ever given the identity of what is gone.
    """
    kind = type(value)
    if kind in (int, bool, str) or value is None:
        return kind, value
    if kind is float:
        return kind, repr(value)  # -0.0 is not 0.0, and a NaN is itself
    if isinstance(value, triton.language.constexpr):
        return kind, _value_key(value.value)
    if isinstance(value, (tuple, list)):
        return kind, tuple(map(_value_key, value))
    if isinstance(value, dict):
        return kind, tuple((_value_key(k), _value_key(v)) for k, v in value.items())
    if kind.__hash__ is None:
        return _Identity(value), repr(value)
    if is_dataclass(value):  # such as a layout; its own hash may fail, of lists in it
        return kind, tuple(_value_key(getattr(value, part.name)) for part in fields(value)), repr(value)
    return _Identity(value) if callable(value) else (kind, value, repr(value))


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
    for backend in {arch, *_OF_EACH_VENDOR}:
        # All vendors': an operation of a dialect that is not there would end the process.
        _backend(backend).backend.load_dialects(context)
    with warnings.catch_warnings():
        # Triton 3.9 announces a changed default of FP fusion, which has no meaning before the GPU's own passes.
        warnings.filterwarnings("ignore", message="TRITON_DEFAULT_FP_FUSION")
        options, signature, constexprs, attrs = kernel._pack_args(
            found.backend, {**kwargs, **options, **_OPTIONS}, bound, specialization, options
        )
        source = _source_class(kernel)(kernel, signature, constexprs, attrs)
        stage = "ttgir" if kernel.is_gluon() else "ttir"
        try:
            module = _module(source, found, options, context, stage)
        except RuntimeError as error:
            # Triton prints what is wrong and raises no more than that something is. Often it is the architecture: of a
            # Gluon kernel the layouts fit the warps of one.
            raise RuntimeError(f"{error}, compiling {kernel.fn.__name__} for {arch.name}") from error
    text = str(module)
    function = parse_module(text, _FIRST_COLUMN)
    _check_vendor(function, arch)
    _mark_descriptors(function, arch)
    leaves = [leaf for i, name in enumerate(bound) for leaf in _leaves(name, (i,), signature[name])]
    names, paths = zip(*leaves) if leaves else ((), ())
    return Compiled(kernel.fn.__name__, function, names, paths, vars(options), text, stage)


def _module(source: Any, found: _Backend, options: Any, context: Any, stage: str) -> Any:
    """The module of a kernel, after the passes up to a stage."""
    backend = found.backend
    codegen = backend.get_codegen_implementation(options)
    module = source.make_ir(found.target, options, codegen, backend.get_module_map(), context)
    capability = (found.target.arch,) if found.target.backend == "cuda" else ()
    passes = backend.gluon_to_ttgir if stage == "ttgir" else backend.make_ttir
    return passes(module, {}, options, *capability)


def _mark_descriptors(function: Function, arch: Arch) -> None:
    """Descriptors that the hardware is given: on other GPUs Triton makes pointers of them."""
    if arch.name.startswith("sm_") and int(arch.name[3:]) >= 90:
        for op in (op for f in (function, *function.callees.values()) for op in f.operations):
            if op.name == "tt.make_tensor_descriptor":
                op.attributes["tma"] = True


def _check_vendor(function: Function, arch: Arch) -> None:
    """UsageError for a kernel with operations of the other vendor's GPUs, which later passes would stumble over."""
    foreign = "amdg." if arch.target.backend == "cuda" else "ttng."
    for op in (op for f in (function, *function.callees.values()) for op in f.operations):
        if op.name.startswith(foreign):
            whose = "AMD" if foreign == "amdg." else "NVIDIA"
            allowed = ", ".join(name for name in ARCHES if name.startswith("gfx" if whose == "AMD" else "sm_"))
            raise UsageError(
                f"arch={arch.name!r}: {op.name} at {op.location} is for {whose}'s GPUs; allowed are {allowed}"
            )


def _source_class(kernel: Any) -> Any:
    """What builds the module of a kernel. Gluon's is in an experimental package: it is imported when it is needed."""
    if not kernel.is_gluon():
        return ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    return GluonASTSource


def _leaves(name: str, path: tuple[int, ...], type_: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and place of everything in an argument that is no constant; tuples may be nested."""
    if not isinstance(type_, tuple):
        if type_ != "constexpr":
            yield name, path
        return
    fields = getattr(type_, "_fields", None)
    for i, inner in enumerate(type_):
        yield from _leaves(f"{name}.{fields[i]}" if fields else f"{name}[{i}]", (*path, i), inner)
