"""TTGIR: types with layouts, operations with words before their operands, what is spelled out; live compilations."""

# ruff: noqa: E501 (lines of TTGIR are as long as they are)
from __future__ import annotations

import inspect

import pytest
import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.amd import cdna4

from fp4guard import UnsupportedError
from fp4guard.ttir import Arch, Type, compile_launch, parse_module, parse_type

HEAD = """#blocked = #ttg.blocked<{sizePerThread = [1], threadsPerWarp = [64], warpsPerCTA = [4], order = [0]}>
#mma = #ttg.amd_mfma<{version = 4, warpsPerCTA = [2, 2], instrShape = [32, 32, 16], isTransposed = true}>
#shared = #ttg.swizzled_shared<{vec = 1, perPhase = 1, maxPhase = 1, order = [0]}>
#smem = #ttg.shared_memory
"""
BLOCKED = "#ttg.blocked<{sizePerThread = [1], threadsPerWarp = [64], warpsPerCTA = [4], order = [0]}>"


def ops(body, arguments=""):
    text = f"{HEAD}module {{\n  tt.func public @k({arguments}) attributes {{noinline = false}} {{\n{body}\n    tt.return\n  }}\n}}\n"
    return parse_module(text, 1).body.block.operations[:-1]


@pytest.mark.parametrize(("text", "expected", "layout"), [
    ("tensor<64xf16, #ttg.slice<{dim = 1, parent = #ttg.dot_op<{opIdx = 0, parent = #mma, kWidth = 8}>}>>", Type("f16", (64,)),
     "#ttg.slice<{dim = 1, parent = #ttg.dot_op<{opIdx = 0, parent = #mma, kWidth = 8}>}>"),
    ("!ttg.memdesc<2x64x32xf16, #shared, #smem, mutable>", Type("memdesc", (2, 64, 32), "f16"), "#shared, #smem, mutable"),
    ("!ttg.memdesc<32x64xf8E4M3FN, #shared, #smem, mutable, 2x64x64>", Type("memdesc", (32, 64), "f8E4M3FN"),
     "#shared, #smem, mutable, 2x64x64"),
    ("!ttg.memdesc<1xi64, #shared1, #smem>", Type("memdesc", (1,), "i64"), "#shared1, #smem"),
    ("!tt.tensordesc<64x64xf16, #shared>", Type("tensordesc", (), "tensor<64x64xf16, #shared>"), ""),
    ("!tt.tensordesc<tensor<64x64xf16, #shared>>", Type("tensordesc", (), "tensor<64x64xf16, #shared>"), ""),
    ("!ttg.async.token", Type("token"), ""),
])  # fmt: skip
def test_types(text, expected, layout):
    found = parse_type(text)
    assert found == expected
    assert found.layout == layout


def test_names_of_layouts_are_spelled_out():
    (op,) = ops(
        "    %0 = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32, #ttg.slice<{dim = 0, parent = #blocked}>>"
    )
    assert op.result.type.layout == f"#ttg.slice<{{dim = 0, parent = {BLOCKED}}}>"
    assert str(op.result.type) == "tensor<64xi32>"
    assert op.result.type == Type("i32", (64,))  # no value depends on a layout


T, P = "tensor<256xi32, #blocked>", "!tt.ptr<f32>"
ARGUMENTS = f"%p: {P}, %o: {T}, %m: tensor<256xi1, #blocked>, %v: tensor<256xf32, #blocked>, %s: i32"


@pytest.mark.parametrize(("line", "name", "count"), [
    (f"%0 = amdg.buffer_load %p[%o] : {P} -> tensor<256xf32, #blocked>", "amdg.buffer_load", 1),
    (f"%0 = amdg.buffer_load %p[%o], %m, %v cacheModifier = ca stride = %s {{contiguity = 4 : i32}} : {P} -> tensor<256xf32, #blocked>",
     "amdg.buffer_load", 3),
    (f"%0 = amdg.buffer_load %p[%o], %m {{cachePolicy = #tt.cache_policy<cache_modifier = ca, eviction_policy = evict_normal>}} : {P} -> tensor<256xf32, #blocked>",
     "amdg.buffer_load", 2),
    (f"amdg.buffer_store %v, %p[%o], %m stride = %s : {P} -> tensor<256xf32, #blocked>", "amdg.buffer_store", 3),
    (f"%0 = amdg.buffer_atomic_rmw fadd, acq_rel, gpu, %v, %p[%o], %m : {P} -> tensor<256xf32, #blocked>", "amdg.buffer_atomic_rmw", 3),
    (f"%0 = amdg.buffer_atomic_cas acq_rel, gpu, %v, %v, %p[%o] : {P} -> tensor<256xf32, #blocked>", "amdg.buffer_atomic_cas", 3),
])  # fmt: skip
def test_a_buffer_operation_is_an_access_through_a_pointer_moved(line, name, count):
    splat, moved, access = ops(f"    {line}", ARGUMENTS)
    assert (splat.name, moved.name, access.name) == ("tt.splat", "tt.addptr", name)
    assert str(moved.result.type) == "tensor<256x!tt.ptr<f32>>"
    assert access.operands[0] is moved.result
    assert len(access.operands) == count
    assert all(v.type.element != "i32" for v in access.operands)  # neither the offsets nor the stride


def test_a_copy_to_shared_memory_is_a_load_and_a_store():
    body = f"""    %a = ttg.local_alloc : () -> !ttg.memdesc<256xf32, #shared, #smem, mutable>
    %0 = amdg.buffer_load_to_local %p[%o] mask = %m other = %v stride = %s into %a : {P}[{T}] tensor<256xf32, #blocked> -> <256xf32, #shared, #smem, mutable>
    %1 = ttg.async_commit_group tokens %0
    %2 = ttg.async_wait %1 {{num = 0 : i32}}
    %3 = ttg.local_load %a token %2 : !ttg.memdesc<256xf32, #shared, #smem, mutable> -> tensor<256xf32, #blocked>"""
    alloc, _, moved, load, store, _, _, read = ops(body, ARGUMENTS)
    assert alloc.attributes["name"] == "a"
    assert [v.type.element for v in load.operands] == ["ptr", "i1", "f32"]
    assert load.operands[0] is moved.result
    assert store.name == "ttg.local_store"
    assert store.operands == (load.result, alloc.result)
    assert read.operands == (alloc.result,)


def test_a_product_loads_what_is_in_shared_memory():
    body = """    %a = ttg.local_alloc : () -> !ttg.memdesc<64x16xf16, #shared, #smem, mutable>
    %b_3 = ttg.local_alloc : () -> !ttg.memdesc<16x32xf16, #shared, #smem, mutable>
    %d = ttng.warp_group_dot %a, %b_3, %c, %t {inputPrecision = 0 : i32} : !ttg.memdesc<64x16xf16, #shared, #smem, mutable> * !ttg.memdesc<16x32xf16, #shared, #smem, mutable> -> tensor<64x32xf32, #mma>"""
    _, b, left, right, dot = ops(body, "%c: tensor<64x32xf32, #mma>, %t: i1")
    assert b.attributes["name"] == "b"
    assert left.name == right.name == "ttg.local_load"
    assert [str(v.type) for v in dot.operands] == ["tensor<64x16xf16>", "tensor<16x32xf16>", "tensor<64x32xf32>", "i1"]


def test_offsets_in_brackets():
    body = """    %0 = ttg.memdesc_subslice %a[32, 0] : !ttg.memdesc<64x64xf16, #shared, #smem, mutable> -> !ttg.memdesc<32x64xf16, #shared, #smem, mutable, 64x64>
    %1 = amdg.extract_slice %x [0, 16] : tensor<64x64xf32, #mma> to tensor<64x16xf32, #mma>
    %2 = ttg.memdesc_index %a[%i] : !ttg.memdesc<64x64xf16, #shared, #smem, mutable> -> !ttg.memdesc<64xf16, #shared, #smem, mutable>"""
    arguments = "%a: !ttg.memdesc<64x64xf16, #shared, #smem, mutable>, %x: tensor<64x64xf32, #mma>, %i: i32"
    cut, part, index = ops(body, arguments)
    assert cut.attributes["offsets"] == (32, 0)
    assert part.attributes["offsets"] == (0, 16)
    assert "offsets" not in index.attributes


@pytest.mark.parametrize("body", [
    """    ttg.warp_specialize(%p) attributes {requestedRegisters = array<i32: 24>}
    default {
      scf.if %t {
        ttg.barrier all loc(#loc)
      } loc(#loc)
      ttg.warp_yield loc(#loc)
    }
    partition0(%q: !tt.ptr<f32> loc(unknown)) num_warps(4) {
      ttg.warp_return loc(#loc)
    } : (!tt.ptr<f32>) -> () loc("k.py":7:3)""",
    """    ttg.mask %t {
      scf.if %t {
        ttg.barrier all loc(#loc)
      } else {
        ttg.barrier all loc(#loc)
      } loc(#loc)
      ttg.mask.return loc(#loc)
    } loc("k.py":7:3)""",
])  # fmt: skip
def test_regions_that_are_not_known_are_refused_by_name_and_line(body):
    with pytest.raises(UnsupportedError, match=r"ttg\.(warp_specialize|mask)") as caught:
        ops(body, "%p: !tt.ptr<f32>, %t: i1")
    location = caught.value.location
    assert (location.file, location.line, location.column) == ("k.py", 7, 3)


def test_a_region_that_runs_where_it_stands():
    body = """    %0 = scf.execute_region -> tensor<256xf32, #blocked> no_inline {
      scf.yield %v : tensor<256xf32, #blocked>
    } {triton.warp_pipeline.stage = "load"}"""
    (op,) = ops(body, ARGUMENTS)
    assert str(op.result.type) == "tensor<256xf32>"
    assert op.regions[0].block.operations[-1].name == "scf.yield"


@gluon.jit
def scale(x, out, n, factor, BLOCK: gl.constexpr, LAYOUT: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LAYOUT)
    gl.store(out + i, gl.load(x + i, mask=i < n) * factor, mask=i < n)


@gluon.jit
def buffer_scale(x, out, n, factor, BLOCK: gl.constexpr, LAYOUT: gl.constexpr):
    i = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LAYOUT)
    cdna4.buffer_store(cdna4.buffer_load(x, i, mask=i < n) * factor, out, i, mask=i < n)


@pytest.mark.parametrize(("arch", "threads"), [
    ("sm_90", 32), ("sm_100", 32), ("gfx942", 64), ("gfx950", 64), ("gfx1250", 32),
])  # fmt: skip
def test_live_compilations(arch, threads):
    x, layout = torch.zeros(8), gl.BlockedLayout([1], [threads], [4], [0])
    for kernel in (scale, buffer_scale)[: 1 + arch.startswith("gfx9")]:
        compiled, _ = compile_launch(kernel, Arch(arch), (x, x, 8, 2.0), {"BLOCK": 256, "LAYOUT": layout})
        assert (compiled.stage, compiled.parameters) == ("ttgir", ("x", "out", "n", "factor"))
        load = next(op for op in compiled.function.operations if op.name.endswith("load"))
        lines, first = inspect.getsourcelines(kernel.fn)
        assert load.location.line == first + 3
        assert load.location.source == lines[3].strip()
        assert f"threadsPerWarp = [{threads}]" in load.result.type.layout
