"""Live compilations: what a launch becomes on this version of Triton, and what is cached."""

from __future__ import annotations

import gc
import inspect
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import triton
import triton.language as tl

from fp4guard.ttir import ARCHES, Arch, compile_launch
from fp4guard.ttir.compiler import VERSION

SM_90 = Arch("sm_90")
HERE = Path(__file__)
X = torch.zeros(8)
GLOBAL: tl.constexpr = tl.constexpr(3)


def compiled(kernel, *args, arch=SM_90, **kwargs):
    return compile_launch(kernel, arch, args, kwargs)[0]


def location_of(kernel, text):
    """Line and column, from 1, of a text in a kernel's source."""
    lines, first = inspect.getsourcelines(kernel.fn)
    for number, line in enumerate(lines):
        if text in line:
            return first + number, line.index(text) + 1
    raise AssertionError(text)


@triton.jit
def scale_kernel(x, out, n, factor, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n) * factor, mask=offsets < n)


@pytest.mark.parametrize("arch", ARCHES)
def test_every_architecture_compiles_without_a_gpu(arch):
    program = compiled(scale_kernel, X, X, 8, 2.0, BLOCK=8, arch=Arch(arch))
    assert program.kernel == "scale_kernel"
    assert program.parameters == ("x", "out", "n", "factor")
    assert [str(v.type) for v in program.function.arguments] == ["!tt.ptr<f32>", "!tt.ptr<f32>", "i32", "f32"]
    names = [op.name for op in program.function.operations]
    assert names.count("tt.load") == names.count("tt.store") == 1


@triton.jit
def _helper(pointer, offsets):
    return tl.load(pointer + offsets)


@triton.jit
def located_kernel(x, out, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    near = _helper(x, offsets)
    total = tl.zeros((BLOCK,), tl.float32)
    for i in range(n):
        total += tl.load(x + i + offsets)
    far = tl.sum(total, axis=0) + tl.cdiv(n, 3)
    tl.store(out + offsets, near + far)


def test_operations_stand_where_their_author_wrote_them():
    program = compiled(located_kernel, X, X, 8, BLOCK=8)
    found = {}
    for op in program.function.operations:
        found.setdefault(op.name, []).append(op.location)
    assert {location.file for name in found for location in found[name] if location.line} == {str(HERE)}
    loads = [(at.line, at.column) for at in found["tt.load"]]
    # A helper of the user's is reported at the helper's line, the library's at the user's. Before 3.8 Triton gives the
    # column of a call's last argument.
    called, given = ("tl.load", "tl.load(x + i") if VERSION >= (3, 8) else ("pointer + offsets", "x + i")
    assert loads == [location_of(_helper, called), location_of(located_kernel, given)]
    assert [at.line for at in found["tt.store"]] == [location_of(located_kernel, "tl.store")[0]]
    assert [at.line for at in found["tt.reduce"]] == [location_of(located_kernel, "tl.sum")[0]]
    assert [at.line for at in found["arith.divsi"]] == [location_of(located_kernel, "tl.cdiv")[0]]
    assert found["tt.load"][0].source == "return tl.load(pointer + offsets)"
    assert str(found["tt.load"][0]).endswith("test_compiler.py:{}:{}".format(*loads[0]))


def test_a_path_of_any_characters(tmp_path):
    folder = tmp_path / "caf\u00e9 at (1"
    folder.mkdir()
    file = folder / "k.py"
    file.write_text(
        "import triton\nimport triton.language as tl\n\n@triton.jit\ndef half(x):\n    return tl.load(x) / 2\n\n"
        "@triton.jit\ndef k(x):\n    tl.store(x, half(x))\n"
    )
    namespace = {"__name__": "anywhere"}
    exec(compile(file.read_text(), str(file), "exec"), namespace)
    program = compiled(namespace["k"], X)
    (load,) = [op for op in program.function.operations if op.name == "tt.load"]
    assert (load.location.file, load.location.line) == (str(file), 6)
    assert load.location.source == "return tl.load(x) / 2"


# What is compiled anew


def test_one_program_serves_every_launch_of_its_kind():
    first = compiled(scale_kernel, X, X, 8, 2.0, BLOCK=8)
    for n, factor in ((7, 3.0), (16, 0.0), (2, 1.0)):
        assert compiled(scale_kernel, X, X[1:], n, factor, 8) is first
    assert compiled(scale_kernel, x=X, out=X, n=8, factor=-1.0, BLOCK=8) is first


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X, X, 1, 2.0, 8), {}),
        ((X, X, 8, 2.0, 16), {}),
        ((X, X, 8, 2, 8), {}),
        ((X.half(), X, 8, 2.0, 8), {}),
        ((X, X, 2**40, 2.0, 8), {}),
        ((X, X, 2**31, 2.0, 8), {}),
        ((X, X, 8, 2.0, 8), {"num_warps": 8}),
    ],
    ids=["equal to 1", "constexpr", "int for float", "dtype", "int64", "beyond int32", "options"],
)
def test_another_program_for_another_specialisation(args, kwargs):
    first = compiled(scale_kernel, X, X, 8, 2.0, BLOCK=8)
    other = compiled(scale_kernel, *args, **kwargs)
    assert other is not first
    assert compiled(scale_kernel, *args, **kwargs) is other


def test_another_program_for_another_architecture():
    assert compiled(scale_kernel, X, X, 8, 2.0, 8, arch=Arch("gfx950")) is not compiled(scale_kernel, X, X, 8, 2.0, 8)


def test_an_argument_of_1_becomes_a_constant():
    assert compiled(scale_kernel, X, X, 1, 2.0, BLOCK=8).parameters == ("x", "out", "factor")


@triton.jit(do_not_specialize=["n"])
def unspecialised_kernel(x, n):
    tl.store(x, n)


def test_do_not_specialize():
    first = compiled(unspecialised_kernel, X, 8)
    assert first.parameters == ("x", "n")
    assert compiled(unspecialised_kernel, X, 1) is first


@triton.jit
def defaults_kernel(x, value=5.0, NAME: tl.constexpr = "add", EXTRA: tl.constexpr = 0):
    if NAME == "add":
        tl.store(x, value + EXTRA)
    else:
        tl.store(x, value * EXTRA)


def operations(program):
    return {op.name for op in program.function.operations}


def test_default_arguments_and_strings():
    program, bound = compile_launch(defaults_kernel, SM_90, (X,), {})
    assert bound["value"] == 5.0
    assert program.parameters == ("x", "value")
    assert compiled(defaults_kernel, X, NAME="add") is program
    assert "arith.mulf" in operations(compiled(defaults_kernel, X, NAME="mul", EXTRA=3))


@triton.jit
def optional_kernel(x, bias, out, DTYPE: tl.constexpr, EPS: tl.constexpr, SCALE: tl.constexpr):
    value = tl.load(x).to(DTYPE).to(tl.float32) + EPS
    if bias is not None:
        value = value * tl.load(bias)
    if SCALE is not None:
        value = value - SCALE
    tl.store(out, value)


def test_none_floats_and_dtypes_as_constants():
    program = compiled(optional_kernel, X, None, X, tl.float16, 1e-6, None)
    assert program.parameters == ("x", "out")
    assert {"arith.truncf", "arith.addf"} <= operations(program)
    assert not {"arith.mulf", "arith.subf"} & operations(program)
    assert "arith.mulf" in operations(compiled(optional_kernel, X, X, X, tl.float16, 1e-6, None))
    assert "arith.subf" in operations(compiled(optional_kernel, X, None, X, tl.float16, 1e-6, 0.5))
    bf16 = compiled(optional_kernel, X, None, X, tl.bfloat16, 1e-6, None)
    assert bf16 is not program
    assert compiled(optional_kernel, X, None, X, tl.bfloat16, 1e-5, None) is not bf16


@triton.jit
def _twice(x):
    return x + x


@triton.jit
def _square(x):
    return x * x


@triton.jit
def function_kernel(x, FUNCTION: tl.constexpr):
    tl.store(x, FUNCTION(tl.load(x)))


def test_functions_as_constants():
    twice, square = compiled(function_kernel, X, _twice), compiled(function_kernel, X, FUNCTION=_square)
    assert "arith.addf" in operations(twice)
    assert "arith.mulf" in operations(square)
    assert compiled(function_kernel, X, _twice) is twice


@triton.jit
def loose_function_kernel(x, function, PAIR: tl.constexpr):
    tl.store(x, PAIR[1](function(tl.load(x))))


def _kernel_from(body, tmp_path, name):
    file = tmp_path / f"{name}.py"
    file.write_text(
        f"import triton\nimport triton.language as tl\n@triton.jit\ndef f(x):\n    return {body}\n"
        "@triton.jit\ndef k(x):\n    tl.store(x, f(tl.load(x)))\n"
    )
    namespace = {"__name__": "same"}
    exec(compile(file.read_text(), str(file), "exec"), namespace)
    return namespace


def test_two_kernels_of_one_name_are_two(tmp_path):
    add, multiply = (_kernel_from(body, tmp_path, str(i)) for i, body in enumerate(("x + 2", "x * 2")))
    assert "arith.addf" in operations(compiled(add["k"], X))
    assert "arith.mulf" in operations(compiled(multiply["k"], X))


def test_functions_of_one_name_as_constants_are_two(tmp_path):
    """Even when one is gone before the other is made, and might have been given its identity."""
    for i in range(6):
        body, operation = (("x + 2", "arith.addf"), ("x * 2", "arith.mulf"))[i % 2]
        function = _kernel_from(body, tmp_path, str(i))["f"]
        assert operation in operations(compiled(function_kernel, X, function))
        del function
        gc.collect()


def test_functions_in_tuples_and_without_an_annotation_are_told_apart_too(tmp_path):
    add, multiply, exponential = (
        _kernel_from(body, tmp_path, str(i))["f"] for i, body in enumerate(("x + 2", "x * 2", "tl.exp(x)"))
    )
    assert "arith.addf" in operations(compiled(loose_function_kernel, X, add, (0, _twice)))
    assert "arith.mulf" in operations(compiled(loose_function_kernel, X, multiply, (0, _twice)))
    assert "math.exp" in operations(compiled(loose_function_kernel, X, _twice, (0, exponential)))
    assert "arith.mulf" in operations(compiled(loose_function_kernel, X, _twice, (0, multiply)))


@dataclass(frozen=True)
class Shape:
    rows: int


class Opaque:
    def __init__(self, rows):
        self.rows = rows


@triton.jit
def object_kernel(x, SHAPE: tl.constexpr):
    tl.store(x, SHAPE.rows)


@pytest.mark.parametrize("kind", [Shape, Opaque])
def test_objects_as_constants(kind):
    for rows in (2, 3, 4) * 2:
        program = compiled(object_kernel, X, kind(rows))
        (stored,) = [op for op in program.function.operations if op.name == "arith.constant"]
        assert float(stored.attributes["value"]) == rows
        gc.collect()
    assert compiled(object_kernel, X, Shape(2)) is compiled(object_kernel, X, Shape(2))


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1, True), (1, 1.0)])
def test_constants_that_are_equal_and_yet_not_the_same(one, other):
    first, second = (compiled(defaults_kernel, X, EXTRA=value) for value in (one, other))
    assert first is not second


def test_what_is_cached_keeps_no_kernel_alive(tmp_path):
    namespace = _kernel_from("x + 2", tmp_path, "gone")
    program = weakref.ref(compiled(namespace["k"], X))
    kernel = weakref.ref(namespace.pop("k"))
    namespace.clear()
    _kernel_from("x + 2", tmp_path, "next")  # Triton itself keeps the last kernel of a name
    gc.collect()
    assert kernel() is None
    assert program() is None


@triton.jit
def global_kernel(x):
    tl.store(x, GLOBAL)


def test_a_global_that_has_changed_is_an_error_as_it_is_in_triton(monkeypatch):
    first = compiled(global_kernel, X)
    monkeypatch.setitem(global_kernel.fn.__globals__, "GLOBAL", tl.constexpr(4))
    with pytest.raises(RuntimeError, match="Global variable GLOBAL has changed since we compiled this kernel"):
        compiled(global_kernel, X)
    monkeypatch.undo()
    assert compiled(global_kernel, X) is first


class Pair(NamedTuple):
    pointer: object
    value: object


@triton.jit
def tuple_kernel(x, pair, nested):
    tl.store(pair[0], pair[1])
    tl.store(nested[1].pointer, nested[1].value + nested[0])


def test_tuples_are_taken_apart():
    program, bound = compile_launch(tuple_kernel, SM_90, (X, (X, 2.5), (7, Pair(X, 3.0), 1)), {})
    assert program.parameters == ("x", "pair[0]", "pair[1]", "nested[0]", "nested[1].pointer", "nested[1].value")
    assert program.given(bound)[2:4] == [2.5, 7]
    assert compiled(tuple_kernel, X, (X, 9.0), (5, Pair(X, 4.0), 1)) is program
    # What is a constant is told apart, by its value.
    assert compiled(tuple_kernel, X, (X, 1), (1, Pair(X, 4.0), 1)).parameters == (
        "x", "pair[0]", "nested[1].pointer", "nested[1].value",
    )  # fmt: skip
    constants = [compiled(tuple_kernel, X, (X, tl.constexpr(n)), (5, Pair(X, 4.0), 1)) for n in (2, 3, 2)]
    assert constants[0] is constants[2]
    assert constants[0] is not constants[1]


@triton.jit
def grammar_kernel(x, y, out, n, m, BLOCK: tl.constexpr):
    if n < 0:
        return
    offsets = tl.arange(0, BLOCK)
    at, total = x + offsets, tl.full((BLOCK,), float("-inf"), tl.float32)
    for i in range(0, n, m):
        if i % 3 == 0:
            total = tl.maximum(total, tl.load(at, mask=offsets < n - i, other=-1.5))
        elif i % 3 == 1:
            at += 1
        else:
            at, total = y + offsets, -total
    left = n
    while left > 1:
        left = left // 2 - 1
    best, place = tl.max(total, 0, return_indices=True)
    pairs = tl.join(total, total.to(tl.bfloat16).to(tl.float32))
    low, high = tl.split(tl.trans(tl.reshape(pairs, (2, BLOCK)), 1, 0))
    both = tl.reshape(tl.cat(low, high, can_reorder=True), (2, BLOCK)) + best + left
    flag = (n > 3) & (m < 5)
    tl.store(out + tl.arange(0, 2)[:, None] * BLOCK + offsets[None, :], both, mask=flag)
    tl.store(out, place)


@pytest.mark.filterwarnings("ignore:.*can_reorder")
@pytest.mark.parametrize("arch", ["sm_90", "gfx950"])
def test_every_construct_of_one_long_kernel(arch):
    program = compiled(grammar_kernel, X, X, X, 8, 3, BLOCK=8, arch=Arch(arch))
    assert {
        "cf.cond_br", "scf.for", "scf.if", "scf.while", "tt.reduce", "tt.join", "tt.split", "tt.cat", "tt.reshape",
        "tt.load", "tt.store", "arith.constant",
    } <= operations(program)  # fmt: skip
    (loop,) = [op for op in program.function.operations if op.name == "scf.for"]
    assert {str(v.type) for v in loop.results} >= {"tensor<8x!tt.ptr<f32>>", "tensor<8xf32>"}
    (reduction,) = [op for op in program.function.operations if op.name == "tt.reduce"]
    assert [str(v.type) for v in reduction.results] == ["f32", "i32"]
    slots = [v.index for v in program.function.arguments]
    slots += [v.index for op in program.function.operations for v in op.results]
    assert len(slots) == len(set(slots))
    assert max(slots) < program.function.value_count
