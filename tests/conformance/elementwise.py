"""Rows of one expression: arithmetic, conversions, functions, libdevice, inline PTX."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

from triton.language.extra.cuda import libdevice

from fp4guard.sim.ops.libdevice import name_of

from .bounds import ARITHMETIC, LIBDEVICE, PTX
from .inputs import FLOATS, SIGNED, UNSIGNED, is_float
from .row import Row, elementwise

#: (operation where signed, where unsigned, expression)
_INTEGERS = (
    ("arith.addi", "arith.addi", "a + b"),
    ("arith.subi", "arith.subi", "a - b"),
    ("arith.muli", "arith.muli", "a * b"),
    ("arith.divsi", "arith.divui", "a // b"),
    ("arith.remsi", "arith.remui", "a % b"),
    ("arith.andi", "arith.andi", "a & b"),
    ("arith.ori", "arith.ori", "a | b"),
    ("arith.xori", "arith.xori", "a ^ b"),
    ("arith.shli", "arith.shli", "a << b"),
    ("arith.shrsi", "arith.shrui", "a >> b"),
    ("arith.maxsi", "arith.maxui", "tl.maximum(a, b)"),
    ("arith.minsi", "arith.minui", "tl.minimum(a, b)"),
    ("arith.select", "arith.select", "tl.where(a < b, a, b)"),
)
_COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_FLOATS = (
    ("arith.addf", "a + b"),
    ("arith.subf", "a - b"),
    ("arith.mulf", "a * b"),
    ("arith.divf", "a / b"),
    ("arith.remf", "a % b"),
    ("arith.maxnumf", "tl.maximum(a, b)"),
    ("arith.minnumf", "tl.minimum(a, b)"),
    ("arith.maximumf", "tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)"),
    ("arith.minimumf", "tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)"),
    ("tt.clampf", "tl.clamp(a, -1.0, 2.0)"),
    ("tt.clampf", "tl.clamp(a, -1.0, 2.0, propagate_nan=tl.PropagateNan.ALL)"),
    ("math.fma", "tl.fma(a, b, c)"),
    ("arith.negf", "-a"),
    ("math.absf", "tl.abs(a)"),
)
#: Functions that Triton's frontend has for float32 and float64 alone.
_FUNCTIONS = (
    *((f"math.{name}", f"tl.{name}(a)") for name in (
        "floor", "ceil", "sqrt", "rsqrt", "exp", "exp2", "log", "log2", "sin", "cos", "erf"
    )),
)  # fmt: skip
_SINGLE = (("tt.precise_sqrt", "tl.sqrt_rn(a)"), ("tt.precise_divf", "tl.div_rn(a, b)"))

#: PTX: `t`, `u` are .b16, `p`, `q` predicates; operands are registers of 32 bits.
_CVT_PAIR = "{{ .reg .b16 t; cvt.rn.satfinite.{}.f32 t, $2, $1; cvt.u32.u16 $0, t; }}"
_CVT_HALF = "{{ .reg .b16 t; cvt.rn.satfinite.{}.f16x2 t, $1; cvt.u32.u16 $0, t; }}"
_CVT_WIDEN = "{{ .reg .b16 t, u; mov.b32 {{t, u}}, $1; cvt.rn.f16x2.{} $0, t; }}"
_SETP = "{{ .reg .pred p; setp.{} p, $1, $2; selp.b32 $0, $1, $2, p; }}"
_BINARY, _TERNARY, _UNARY = ("u32 u32", "=r,r,r"), ("u32 u32 u32", "=r,r,r,r"), ("u32", "=r,r")
_SNIPPETS: tuple[tuple[str, tuple[str, str]], ...] = (
    *((_CVT_PAIR.format(t), _BINARY) for t in ("e4m3x2", "e5m2x2")),
    *((_CVT_HALF.format(t), _UNARY) for t in ("e4m3x2", "e5m2x2")),
    *((_CVT_WIDEN.format(t), _UNARY) for t in ("e4m3x2", "e5m2x2")),
    *((f"cvt.rn.{relu}{t}.f32 $0, $2, $1;", _BINARY) for t in ("f16x2", "bf16x2") for relu in ("", "relu.")),
    ("prmt.b32 $0, $1, $2, 0xB4D3;", _BINARY),
    ("prmt.b32 $0, $1, $2, $3;", _TERNARY),
    ("lop3.b32 $0, $1, $2, $3, 0x6C;", _TERNARY),
    ("lop3.b32 $0, $1, $2, $3, 0xE8;", _TERNARY),
    ("bfe.u32 $0, $1, $2, 5;", _BINARY),
    ("bfe.u32 $0, $1, $2, $3;", _TERNARY),
    *((f"{op}.{t} $0, $1, $2;", _BINARY) for op, t in (
        ("shr", "s32"), ("shr", "u32"), ("shr", "b32"), ("shl", "b32"), ("and", "b32"), ("or", "b32"), ("xor", "b32"),
        ("add", "s32"), ("sub", "u32"), ("mul.lo", "s32"), ("min", "s32"), ("max", "u32"),
        ("add", "f16x2"), ("sub", "f16x2"), ("mul", "f16x2"), ("min", "f16x2"), ("max", "f16x2"),
        ("min", "bf16x2"), ("max", "bf16x2"), ("add", "bf16x2"), ("mul", "bf16x2"),
        ("add", "f32"), ("add.ftz", "f32"), ("mul", "f32"), ("mul.ftz", "f32"), ("sub.ftz", "f32"), ("div.rn", "f32"),
        ("div.approx", "f32"), ("div.full", "f32"), ("min", "f32"), ("max", "f32"), ("min.ftz", "f32"),
    )),
    *((f"{op}.{t} $0, $1;", _UNARY) for op, t in (
        ("not", "b32"), ("neg", "s32"), ("abs", "s32"), ("neg", "f32"), ("abs", "f32"), ("abs.ftz", "f32"),
        ("abs", "f16x2"), ("neg", "f16x2"), ("abs", "bf16x2"), ("neg", "bf16x2"),
        ("ex2.approx", "f32"), ("ex2.approx.ftz", "f32"), ("lg2.approx", "f32"), ("lg2.approx.ftz", "f32"),
        ("sin.approx", "f32"), ("cos.approx", "f32"), ("tanh.approx", "f32"), ("rcp.approx.ftz", "f32"),
        ("rcp.rn", "f32"), ("rsqrt.approx", "f32"), ("sqrt.approx", "f32"), ("sqrt.rn", "f32"),
    )),
    ("fma.rn.f32 $0, $1, $2, $3;", _TERNARY),
    ("fma.rn.ftz.f32 $0, $1, $2, $3;", _TERNARY),
    ("fma.rn.f16x2 $0, $1, $2, $3;", _TERNARY),
    ("fma.rn.bf16x2 $0, $1, $2, $3;", _TERNARY),
    ("mad.lo.u32 $0, $1, $2, $3;", _TERNARY),
    *((_SETP.format(f"{c}.f32"), _BINARY) for c in (
        "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
    )),
    *((_SETP.format(c), _BINARY) for c in ("lt.s32", "ge.u32", "lo.u32", "ls.u32", "hi.u32", "hs.u32")),
    *((f"cvt.{r}.{i}.f32 $0, $1;", _UNARY) for i in ("s32", "u32") for r in ("rni", "rzi", "rmi", "rpi")),
    *((f"cvt.rn.f32.{i} $0, $1;", _UNARY) for i in ("s32", "u32")),
    ("cvt.rni.f32.f32 $0, $1;", _UNARY),
    ("cvt.sat.f32.f32 $0, $1;", _UNARY),
    ("{ .reg .b16 t; cvt.rn.f16.f32 t, $1; cvt.u32.u16 $0, t; }", _UNARY),
    ("{ .reg .b16 t; cvt.rn.bf16.f32 t, $1; cvt.u32.u16 $0, t; }", _UNARY),
    ("{ .reg .b16 t, u; mov.b32 {t, u}, $1; cvt.f32.f16 $0, u; }", _UNARY),
    ("{ .reg .pred q; setp.lt.s32 q, $1, $2; mov.u32 $0, $2; @q mov.u32 $0, $1; @!q add.u32 $0, $0, 3; }", _BINARY),
)  # fmt: skip


def _integers() -> Iterator[Row]:
    for t in (*SIGNED, *UNSIGNED):
        signed = t in SIGNED
        for where_signed, where_unsigned, expression in _INTEGERS:
            yield elementwise(where_signed if signed else where_unsigned, expression, f"{t} {t}")
        for compared in _COMPARED.values():
            yield elementwise("arith.cmpi", f"(a {compared} b).to(tl.int8)", f"{t} {t}", "i8")
    for t in SIGNED:
        yield elementwise("math.absi", "tl.abs(a)", t)
        yield elementwise("arith.subi", "-a", t)
    for t in ("i32", "u32", "i64", "u64"):
        yield elementwise("tt.mulhiui", "tl.umulhi(a, b)", f"{t} {t}")
    for first, second in (("&", "arith.andi"), ("|", "arith.ori"), ("^", "arith.xori"), ("==", "arith.cmpi")):
        yield elementwise(f"{second} of i1", f"((a < 0) {first} (b < 3)).to(tl.int8)", "i8 i8")


def _floats() -> Iterator[Row]:
    for t in FLOATS:
        for op, expression in _FLOATS:
            count = 3 if "c)" in expression else 2 if re.search(r"\bb\b", expression) else 1
            yield elementwise(op, expression, " ".join([t] * count), allowed=ARITHMETIC.get((op, t)))
        for compared in _COMPARED.values():
            yield elementwise("arith.cmpf", f"(a {compared} b).to(tl.int8)", f"{t} {t}", "i8")
    for op, expression in _FUNCTIONS:
        for t in ("f32", "f64"):
            yield elementwise(op, expression, t, allowed=ARITHMETIC.get((op, t)))
    for op, expression in _SINGLE:
        yield elementwise(op, expression, "f32 f32" if "b" in expression[9:] else "f32")


_TRITON = {
    **{t: f"tl.int{t[1:]}" for t in SIGNED},
    **{t: f"tl.uint{t[1:]}" for t in UNSIGNED},
    "f16": "tl.float16", "bf16": "tl.bfloat16", "f32": "tl.float32", "f64": "tl.float64",
    "e4m3": "tl.float8e4nv", "e5m2": "tl.float8e5",
}  # fmt: skip
_EIGHT = ("e4m3", "e5m2")


def _conversions() -> Iterator[Row]:
    every = (*SIGNED, *UNSIGNED)
    for source in (*every, *FLOATS, *_EIGHT):
        for target in (*every, *FLOATS, *_EIGHT):
            if source == target or (source in _EIGHT and target not in ("f16", "bf16", "f32")):
                continue
            if target in _EIGHT and (not is_float(source) or source in ("f64", *_EIGHT)):
                continue  # 8-bit floats to f64, and integers and f64 to them, do not compile for Hopper
            op = _conversion(source, target)
            yield elementwise(
                op, f"a.to({_TRITON[target]})", source, target, ARITHMETIC.get((op, f"{source} {target}"))
            )
    for source, target in (("f32", "f16"), ("f32", "bf16"), ("f32", "e5m2")):
        expression = f'a.to({_TRITON[target]}, fp_downcast_rounding="rtz")'
        yield elementwise("tt.fp_to_fp rtz", expression, source, target)
    for source, target in (
        ("f32", "i32"),
        ("i32", "f32"),
        ("bf16", "i16"),
        ("i16", "f16"),
        ("f64", "i64"),
        ("u8", "e4m3"),
    ):
        yield elementwise("tt.bitcast", f"a.to({_TRITON[target]}, bitcast=True)", source, target)
    for source in ("i32", "f32", "bf16", "u8"):
        yield elementwise("to i1", "a.to(tl.int1).to(tl.int8)", source, "i8")


def _conversion(source: str, target: str) -> str:
    floats = is_float(source), is_float(target)
    if floats == (True, True):
        if "e" in source[0] + target[0]:
            return "tt.fp_to_fp"
        return "arith.extf" if source in ("f16", "bf16") and target in ("f32", "f64") else "arith.truncf"
    if floats[1]:
        return "arith.sitofp" if source in SIGNED else "arith.uitofp"
    if floats[0]:
        return "arith.fptosi" if target in SIGNED else "arith.fptoui"
    if int(source[1:]) > int(target[1:]):
        return "arith.trunci"
    return "arith.extsi" if source in SIGNED else "arith.extui"


_SHORT = {"fp32": "f32", "fp64": "f64", "int32": "i32", "int64": "i64", "uint32": "u32", "uint64": "u64", "fp16": "f16"}


def _libdevice() -> Iterator[Row]:
    """Every function that Triton's libdevice offers and the simulator knows, with every signature."""
    for function in ast.parse(inspect.getsource(libdevice)).body:
        table = next((node for node in ast.walk(function) if isinstance(node, ast.Dict)), None)
        if not isinstance(function, ast.FunctionDef) or table is None:
            continue
        for key, value in zip(table.keys, table.values):
            types = [_SHORT[name] for name in re.findall(r"dtype\('(\w+)'\)", ast.unparse(key))]
            (symbol,) = re.findall(r"'(__nv_\w+)'", ast.unparse(value))
            (result,) = (_SHORT[name] for name in re.findall(r"dtype\('(\w+)'\)", ast.unparse(value)))
            name = name_of(symbol)
            if name is None:
                continue
            call = f"libdevice.{function.name}({', '.join('abcd'[: len(types)])})"
            yield elementwise(symbol, call, " ".join(types), result, LIBDEVICE.get(symbol))


def _assembly() -> Iterator[Row]:
    for snippet, (types, constraints) in _SNIPPETS:
        given = ", ".join("abc"[: len(types.split())])
        call = (
            f'tl.inline_asm_elementwise("{snippet}", "{constraints}", [{given}], dtype=tl.uint32, is_pure=True, pack=1)'
        )
        # Registers hold bits; a result that is a float is compared as one.
        kind = re.search(r"(?:^|\.)(f32|s32|u32|b32|f16x2|bf16x2) \$0", snippet)
        out = "f32" if kind and kind[1] == "f32" else "u32"
        if out == "f32":
            call = f"({call}).to(tl.float32, bitcast=True)"
        operands = " ".join(
            "f32" if snippet.count("f32") and not re.search("s32|u32", snippet) else t for t in types.split()
        )
        if re.search(r"cvt\.r\w\w\.[su]32\.f32", snippet):
            operands = "f32"
        row = elementwise("PTX", call, operands, out, PTX.get(snippet))
        yield Row(row.ops, f"`{snippet}`", row.types, row.out, row.make, row.launch, allowed=row.allowed)


def rows() -> list[Row]:
    """All of them."""
    return [*_integers(), *_floats(), *_conversions(), *_libdevice(), *_assembly()]
