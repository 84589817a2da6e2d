"""The grammar, on snippets as Triton prints them."""

# ruff: noqa: E501 (lines of TTIR are as long as they are)
from __future__ import annotations

import pytest

from fp4guard import UnsupportedError
from fp4guard.ttir import Location, parse_module


def parse(body, arguments="", first_column=1, tail=""):
    lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return parse_module(
        f"module {{\n  tt.func public @k({arguments}) attributes {{noinline = false}} {{\n{lines}\n"
        f"    tt.return loc(#loc)\n  }} loc(#loc)\n}} loc(#loc)\n#loc = loc(unknown)\n{tail}",
        first_column,
    )


def ops(body, *args, **kwargs):
    return parse(body, *args, **kwargs).body.block.operations[:-1]


def types(values):
    return [str(v.type) for v in values]


def test_arguments():
    function = parse(
        "", '%x: !tt.ptr<f16> {tt.divisibility = 16 : i32} loc("x"(#loc)), %n: i32 loc("n"(#loc)), %s: f32'
    )
    assert function.name == "k"
    assert types(function.arguments) == ["!tt.ptr<f16>", "i32", "f32"]
    assert [v.index for v in function.arguments] == [0, 1, 2]


def test_a_function_without_arguments_or_attributes():
    function = parse_module("module {\n  tt.func public @k() {\n    tt.return\n  }\n}", 1)
    assert function.arguments == []
    assert [op.name for op in function.operations] == ["tt.return"]


@pytest.mark.parametrize(("line", "type_", "value"), [
    ("%c = arith.constant 7 : i32", "i32", "7"),
    ("%c = arith.constant -7 : i64", "i64", "-7"),
    ("%c = arith.constant true", "i1", "true"),
    ("%true_0 = arith.constant false loc(#loc)", "i1", "false"),
    ("%c = arith.constant 1.000000e+00 : f32", "f32", "1.000000e+00"),
    ("%c = arith.constant -1.500000e-10 : f16", "f16", "-1.500000e-10"),
    ("%c = arith.constant 0xFF800000 : f32 loc(#loc1)", "f32", "0xFF800000"),
    ("%c = arith.constant dense<0> : tensor<4x8xi8>", "tensor<4x8xi8>", "dense<0>"),
    ("%c = arith.constant dense<0xFF80> : tensor<4xbf16>", "tensor<4xbf16>", "dense<0xFF80>"),
    ("%cst = arith.constant dense<true> : tensor<4xi1>", "tensor<4xi1>", "dense<true>"),
    ("%c = arith.constant dense<[1, -2]> : tensor<2xi32>", "tensor<2xi32>", "dense<[1, -2]>"),
])  # fmt: skip
def test_constants(line, type_, value):
    (op,) = ops(line)
    assert (op.name, str(op.result.type), op.attributes["value"]) == ("arith.constant", type_, value)


OPERANDS = (
    "%p: !tt.ptr<f32>, %q: tensor<4x!tt.ptr<f32>>, %m: tensor<4xi1>, %v: tensor<4xf32>, %i: i32, %w: tensor<4xi32>"
)


@pytest.mark.parametrize(("line", "operands", "result", "words", "attributes"), [
    ("%r = tt.get_program_id x : i32", 0, "i32", ("x",), {}),
    ("%r = tt.get_num_programs y : i32", 0, "i32", ("y",), {}),
    ("%r = tt.make_range {end = 8 : i32, start = -2 : i32} : tensor<8xi32>", 0, "tensor<8xi32>", (), {"end": 8, "start": -2}),
    ("%r = arith.addi %i, %i : i32", 2, "i32", (), {}),
    ("%r = arith.addi %i, %i overflow<nsw> : i32", 2, "i32", ("overflow<nsw>",), {}),
    ("%r = arith.cmpi slt, %w, %w : tensor<4xi32>", 2, "tensor<4xi1>", ("slt",), {}),
    ("%r = arith.cmpf une, %v, %v : tensor<4xf32>", 2, "tensor<4xi1>", ("une",), {}),
    ("%r = arith.select %m, %v, %v : tensor<4xi1>, tensor<4xf32>", 3, "tensor<4xf32>", (), {}),
    ("%r = arith.truncf %v : tensor<4xf32> to tensor<4xbf16>", 1, "tensor<4xbf16>", (), {}),
    ("%r = tt.splat %p : !tt.ptr<f32> -> tensor<4x!tt.ptr<f32>>", 1, "tensor<4x!tt.ptr<f32>>", (), {}),
    ("%r = tt.addptr %q, %w : tensor<4x!tt.ptr<f32>>, tensor<4xi32>", 2, "tensor<4x!tt.ptr<f32>>", (), {}),
    ("%r = tt.load %q : tensor<4x!tt.ptr<f32>>", 1, "tensor<4xf32>", (), {}),
    ("%r = tt.load %q, %m, %v cacheModifier = ca evictionPolicy = evict_last {isVolatile = true} : tensor<4x!tt.ptr<f32>>",
     3, "tensor<4xf32>", ("cacheModifier", "ca", "evictionPolicy", "evict_last"), {"isVolatile": True}),
    ("%r = tt.load %p : !tt.ptr<f32>", 1, "f32", (), {}),
    ("%r = tt.trans %v {order = array<i32: 0>} : tensor<4xf32> -> tensor<4xf32>", 1, "tensor<4xf32>", (), {"order": (0,)}),
    ("%r = tt.reshape %v allow_reorder {x} : tensor<4xf32> -> tensor<2x2xf32>", 1, "tensor<2x2xf32>", ("allow_reorder",), {"x": True}),
    ("%r = tt.bitcast %p : !tt.ptr<f32> -> !tt.ptr<i8>", 1, "!tt.ptr<i8>", (), {}),
    ("%r = tt.expand_dims %v {axis = 1 : i32} : tensor<4xf32> -> tensor<4x1xf32>", 1, "tensor<4x1xf32>", (), {"axis": 1}),
])  # fmt: skip
def test_plain_operations(line, operands, result, words, attributes):
    (op,) = ops(line + " loc(#loc)", OPERANDS)
    assert len(op.operands) == operands
    assert (str(op.result.type), op.words, op.attributes) == (result, words, attributes)


def test_operations_without_results():
    store, assume = ops("tt.store %q, %v, %m : tensor<4x!tt.ptr<f32>>\nllvm.intr.assume %b : i1", f"{OPERANDS}, %b: i1")
    assert (store.name, len(store.operands), store.results) == ("tt.store", 3, ())
    assert (assume.name, len(assume.operands), assume.results) == ("llvm.intr.assume", 1, ())


def test_several_results():
    (op,) = ops("%a, %b = tt.split %x : tensor<4x2xf32> -> tensor<4xf32>", "%x: tensor<4x2xf32>")
    assert types(op.results) == ["tensor<4xf32>"] * 2
    first, second = ops("%a:2 = tt.twin %x : i32 -> i32, f32\n%b = arith.addi %a#0, %a#0 : i32", "%x: i32")
    assert types(first.results) == ["i32", "f32"]
    assert second.operands == (first.results[0],) * 2


def test_for_with_pointers_in_its_arguments():
    function = parse(
        """
%zero = arith.constant 0 : i32
%r:2 = scf.for %i = %zero to %n step %one iter_args(%acc = %v, %at = %q) -> (tensor<4xf32>, tensor<4x!tt.ptr<f32>>)  : i32 {
  %x = tt.load %at : tensor<4x!tt.ptr<f32>> loc(#loc2)
  %s = arith.addf %acc, %x : tensor<4xf32> loc(#loc2)
  scf.yield %s, %at : tensor<4xf32>, tensor<4x!tt.ptr<f32>> loc(#loc)
} {tt.num_stages = 3 : i32} loc(#loc2)
tt.store %r#1, %r#0 : tensor<4x!tt.ptr<f32>> loc(#loc)""",
        f"{OPERANDS}, %n: i32, %one: i32",
        tail='#loc2 = loc("k.py":5:9)',
    )
    _, loop, store, _ = function.body.block.operations
    assert types(loop.results) == ["tensor<4xf32>", "tensor<4x!tt.ptr<f32>>"]
    assert types(loop.regions[0].block.arguments) == ["i32", "tensor<4xf32>", "tensor<4x!tt.ptr<f32>>"]
    assert len(loop.operands) == 5
    assert store.operands == (loop.results[1], loop.results[0])
    assert loop.location == Location("k.py", 5, 9)
    inner = loop.regions[0].block.operations
    assert inner[0].operands[0] is loop.regions[0].block.arguments[2]
    assert [op.name for op in function.operations].count("scf.yield") == 1


def test_for_without_values_and_unsigned():
    signed, unsigned = ops(
        """
scf.for %i = %n to %n step %n  : i32 {
  %x = arith.addi %i, %i : i32
}
scf.for unsigned %i = %n to %n step %n : i32 {
}""",
        "%n: i32",
    )
    assert (signed.results, signed.words, unsigned.words) == ((), (), ("unsigned",))
    assert len(signed.operands) == 3


def test_names_of_one_region_are_not_those_of_another():
    first, second = ops(
        """
scf.if %b {
  %x = arith.constant 1 : i32
  %y = arith.addi %x, %x : i32
}
scf.if %b {
  %x = arith.constant 2.0 : f32
  %y = arith.addf %x, %x : f32
}""",
        "%b: i1",
    )
    adds = [op.regions[0].block.operations[1] for op in (first, second)]
    assert [str(op.operands[0].type) for op in adds] == ["i32", "f32"]


def test_nested_branches_with_results():
    (outer,) = ops(
        """
%r:2 = scf.if %b -> (i32, f32) {
  %x = scf.if %b -> (i32) {
    scf.yield %n : i32 loc(#loc)
  } else {
    %y = arith.addi %n, %n : i32
    scf.yield %y : i32
  } loc(#loc)
  scf.yield %x, %f : i32, f32
} else {
  scf.yield %n, %f : i32, f32
} loc(#loc)""",
        "%b: i1, %n: i32, %f: f32",
    )
    assert types(outer.results) == ["i32", "f32"]
    then, otherwise = outer.regions
    assert [op.name for op in then.block.operations] == ["scf.if", "scf.yield"]
    assert [len(region.block.operations) for region in then.block.operations[0].regions] == [1, 2]
    assert len(otherwise.block.operations) == 1


def test_while():
    (loop,) = ops(
        """
%r:2 = scf.while (%a = %n, %p1 = %q) : (i32, tensor<4x!tt.ptr<f32>>) -> (i32, tensor<4x!tt.ptr<f32>>) {
  %go = arith.cmpi sgt, %a, %n : i32
  scf.condition(%go) %a, %p1 : i32, tensor<4x!tt.ptr<f32>>
} do {
^bb0(%b: i32 loc("b"(#loc)), %p2: tensor<4x!tt.ptr<f32>> loc(unknown)):
  %c = arith.addi %b, %b : i32
  scf.yield %c, %p2 : i32, tensor<4x!tt.ptr<f32>>
} loc(#loc)""",
        f"{OPERANDS}, %n: i32",
    )
    before, after = loop.regions
    assert types(loop.results) == types(before.block.arguments) == types(after.block.arguments)
    assert len(before.block.operations[-1].operands) == 3
    assert after.block.operations[-1].operands[1] is after.block.arguments[1]


def test_blocks_with_arguments():
    function = parse_module(
        """module {
  tt.func public @k(%n: i32, %b: i1) {
    cf.cond_br %b, ^bb1(%n : i32), ^bb2(%n, %b : i32, i1) loc(#loc)
  ^bb1(%x: i32 loc("x"(#loc))):  // pred: ^bb0
    %y = arith.addi %x, %x : i32
    cf.br ^bb3 loc(#loc)
  ^bb2(%z: i32, %w: i1):  // pred: ^bb0
    cf.br ^bb3
  ^bb3:  // 2 preds: ^bb1, ^bb2
    tt.return
  }
}
#loc = loc(unknown)""",
        1,
    )
    blocks = function.body.blocks
    assert [len(block.arguments) for block in blocks] == [2, 1, 2, 0]
    branch = blocks[0].operations[0]
    n, b = function.arguments
    assert branch.operands == (b,)
    assert branch.successors == ((1, (n,)), (2, (n, b)))
    assert blocks[1].operations[-1].successors == ((3, ()),)


def test_a_reduction_of_several_operands():
    (op,) = ops(
        """
%r:2 = "tt.reduce"(%v, %w) <{axis = 1 : i32}> ({
^bb0(%a: f32 loc(unknown), %i: i32 loc(unknown), %b: f32, %j: i32):
  %gt = arith.cmpf ogt, %a, %b : f32
  %x = arith.select %gt, %a, %b : f32
  %k = arith.select %gt, %i, %j : i32
  tt.reduce.return %x, %k : f32, i32
}) : (tensor<4x8xf32>, tensor<4x8xi32>) -> (tensor<4xf32>, tensor<4xi32>) loc(#loc2)""",
        "%v: tensor<4x8xf32>, %w: tensor<4x8xi32>",
        tail='#loc2 = loc("k.py":7:1)',
    )
    assert op.attributes == {"axis": 1}
    assert types(op.results) == ["tensor<4xf32>", "tensor<4xi32>"]
    assert types(op.regions[0].block.arguments) == ["f32", "i32", "f32", "i32"]
    assert op.location.line == 7


@pytest.mark.parametrize("line", [
    'tt.assert %b, "a : b, %c {x} (\\22q\\22)" : i1',
    'tt.print " x : %d {" {hex = false, isSigned = array<i32: 1>} : %n : i32',
    '%r = tt.elementwise_inline_asm "{ add.s32 $0, %1, %laneid; }" {constraints = "=r,r", packed_element = 1 : i32, pure = true} %n : i32 -> i32',
    '%r = tt.extern_elementwise %n {libname = "", libpath = "", pure = true, symbol = "__nv_abs"} : (i32) -> i32',
    "%r = tt.atomic_rmw add, acq_rel, gpu, %p, %n, %b : (!tt.ptr<i32>, i32, i1) -> i32",
    "%r = tt.atomic_cas acq_rel, gpu, %p, %n, %n : (!tt.ptr<i32>, i32, i32) -> i32",
    "%r = tt.fp_to_fp %n, rounding = rtne : i32 -> i32",
    "%r = tt.clampf %n, %n, %n, propagateNan = none : i32",
    "tt.call @helper(%n) : (i32) -> ()",
])  # fmt: skip
def test_operations_whose_grammar_is_their_own_keep_their_name(line):
    (op,) = ops(line + " loc(#loc)", "%p: !tt.ptr<i32>, %n: i32, %b: i1")
    assert op.name in line
    assert len(op.results) == line.startswith("%r")
    assert len(op.operands) >= 1


@pytest.mark.parametrize("line", ["gibberish %x", "%r = %s", "!!", "%r:2 = arith.addi %n, %n : i32"])
def test_a_line_that_fits_no_grammar_is_quoted(line):
    with pytest.raises(UnsupportedError) as caught:
        ops(line, "%n: i32")
    assert line.split(" = ")[-1] in str(caught.value)


def test_a_value_that_nothing_defined_is_named():
    with pytest.raises(UnsupportedError, match=r"before it is defined\n  %nowhere"):
        ops("%r = arith.addi %n, %nowhere : i32", "%n: i32")


def test_functions_that_are_called_are_found_by_name():
    kernel = parse_module(
        "module {\n  tt.func private @help(%n: i32) -> i32 {\n  tt.return %n : i32\n  }\n"
        "  tt.func public @k(%m: i32) {\n  %r = tt.call @help(%m) : (i32) -> i32\n  tt.return\n  }\n}",
        1,
    )
    assert kernel.name == "k"
    assert list(kernel.callees) == ["help"]
    (call, _) = kernel.body.block.operations
    assert call.operands == tuple(kernel.arguments)
    assert types(call.results) == ["i32"]


@pytest.mark.parametrize(("location", "expected"), [
    ('"k.py":3:7', Location("k.py", 3, 7)),
    ('"a name"("k.py":3:7)', Location("k.py", 3, 7)),
    ('"a name"(#loc9)', Location("k.py", 9, 1)),
    ('callsite("in.py":1:2 at "out.py":3:4)', Location("in.py", 1, 2)),
    ('callsite("look at me (x.py":1:2 at callsite("b.py":1:1 at "out.py":3:4))', Location("look at me (x.py", 1, 2)),
    ('fused["k.py":3:7, "l.py":1:1]', Location("k.py", 3, 7)),
    ('fused<"tag">[#loc9]', Location("k.py", 9, 1)),
    (r'"/tmp/caf\C3\A9/\22k\22.py":3:7', Location('/tmp/café/"k".py', 3, 7)),
    ("unknown", Location("<unknown>", 0, 0)),
])  # fmt: skip
def test_locations(location, expected):
    (op,) = ops(
        "%r = arith.addi %n, %n : i32 loc(#loc7)", "%n: i32", tail=f'#loc7 = loc({location})\n#loc9 = loc("k.py":9:1)'
    )
    assert op.location == expected


def test_columns_counted_from_0_become_columns_from_1():
    (op,) = ops("%r = arith.addi %n, %n : i32 loc(#loc7)", "%n: i32", 0, '#loc7 = loc("k.py":3:0)')
    assert op.location == Location("k.py", 3, 1)
