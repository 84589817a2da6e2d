"""Library functions by symbol, against torch and Python's math; every symbol of Triton's is known or refused."""

from __future__ import annotations

import decimal
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra.hip import libdevice as hip_libdevice

from fp4guard import UnsupportedError
from fp4guard.sim.ops.libdevice import name_of


@triton.jit
def functions(x, y, n, out, out_int, op: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    v, w, k = tl.load(x + i), tl.load(y + i), tl.load(n + i)
    if op == "tanh":
        r = libdevice.tanh(v)
    elif op == "erf":
        r = libdevice.erf(v)
    elif op == "erfinv":
        r = libdevice.erfinv(v)
    elif op == "exp":
        r = libdevice.exp(v)
    elif op == "expm1":
        r = libdevice.expm1(v)
    elif op == "log1p":
        r = libdevice.log1p(v)
    elif op == "atan2":
        r = libdevice.atan2(v, w)
    elif op == "pow":
        r = libdevice.pow(v, w)
    elif op == "powi":
        r = libdevice.pow(v, k)
    elif op == "ldexp":
        r = libdevice.ldexp(v, k)
    elif op == "rint":
        r = libdevice.rint(v)
    elif op == "round":
        r = libdevice.round(v)
    elif op == "fmod":
        r = libdevice.fmod(v, w)
    elif op == "hypot":
        r = libdevice.hypot(v, w)
    elif op == "copysign":
        r = libdevice.copysign(v, w)
    elif op == "fast_exp":
        r = libdevice.fast_expf(v)
    elif op == "fast_divide":
        r = libdevice.fast_dividef(v, w)
    else:
        r = v
    tl.store(out + i, r)
    if op == "llrint":
        tl.store(out_int + i, libdevice.llrint(v))
    elif op == "llround":
        tl.store(out_int + i, libdevice.llround(v))
    elif op == "float_as_int":
        tl.store(out_int + i, libdevice.float_as_int(v))
    elif op == "ffs":
        tl.store(out_int + i, libdevice.ffs(k))
    elif op == "popc":
        tl.store(out_int + i, libdevice.popc(k))
    elif op == "clz":
        tl.store(out_int + i, libdevice.clz(k))
    elif op == "brev":
        tl.store(out_int + i, libdevice.brev(k))
    elif op == "hadd":
        tl.store(out_int + i, libdevice.hadd(k, 5 - k))
    elif op == "rhadd":
        tl.store(out_int + i, libdevice.rhadd(k, k - 4))
    elif op == "mul24":
        tl.store(out_int + i, libdevice.mul24(k, k - 3))
    elif op == "byte_perm":
        tl.store(out_int + i, libdevice.byte_perm(k, ~k, 0x6310))
    elif op == "abs":
        tl.store(out_int + i, libdevice.abs(k))
    elif op == "isnan":
        tl.store(out_int + i, libdevice.isnan(v))
    elif op == "isinf":
        tl.store(out_int + i, libdevice.isinf(v))


def int32(n):
    return (n + 2**31) % 2**32 - 2**31


def low_24(n):
    return (n + 2**23) % 2**24 - 2**23


FLOAT = {
    "tanh": lambda v, w, k: torch.tanh(v),
    "erf": lambda v, w, k: torch.erf(v),
    "erfinv": lambda v, w, k: torch.erfinv(v),
    "exp": lambda v, w, k: torch.exp(v),
    "expm1": lambda v, w, k: torch.expm1(v),
    "log1p": lambda v, w, k: torch.log1p(v),
    "atan2": lambda v, w, k: torch.atan2(v, w),
    "pow": lambda v, w, k: torch.pow(v, w),
    "powi": lambda v, w, k: torch.pow(v, k),
    "ldexp": lambda v, w, k: v * torch.exp2(k.double()),
    "rint": lambda v, w, k: torch.round(v),
    "round": lambda v, w, k: (v.abs() + 0.5).floor().copysign(v),
    "fmod": lambda v, w, k: torch.fmod(v, w),
    "hypot": lambda v, w, k: torch.hypot(v, w),
    "copysign": lambda v, w, k: torch.copysign(v, w),
    "fast_exp": lambda v, w, k: torch.exp(v),
    "fast_divide": lambda v, w, k: v / w,
}
INTEGER = {
    "llrint": lambda v, k: round(v) if math.isfinite(v) else -(2**63) if not v > 0 else 2**63 - 1,
    "llround": lambda v, k: (
        int(math.copysign(math.floor(abs(v) + 0.5), v)) if math.isfinite(v) else -(2**63) if not v > 0 else 2**63 - 1
    ),
    "float_as_int": lambda v, k: int(np.float32(v).view(np.int32)),
    "ffs": lambda v, k: (k & -k).bit_length() if k else 0,
    "popc": lambda v, k: bin(k & 0xFFFFFFFF).count("1"),
    "clz": lambda v, k: 32 - (k & 0xFFFFFFFF).bit_length(),
    "brev": lambda v, k: int32(int(f"{k & 0xFFFFFFFF:032b}"[::-1], 2)),
    "hadd": lambda v, k: (k + int32(5 - k)) // 2,
    "rhadd": lambda v, k: (k + int32(k - 4) + 1) // 2,
    "mul24": lambda v, k: int32(low_24(k) * low_24(int32(k - 3))),
    "byte_perm": lambda v, k: int.from_bytes(
        bytes(((k & 0xFFFFFFFF) | (~k & 0xFFFFFFFF) << 32).to_bytes(8, "little")[i] for i in (0, 1, 3, 6)),
        "little",
        signed=True,
    ),
    "abs": lambda v, k: abs(k),
    "isnan": lambda v, k: int(math.isnan(v)),
    "isinf": lambda v, k: int(math.isinf(v)),
}


def inputs(run):
    rng = np.random.default_rng(1)
    v = torch.from_numpy(
        np.concatenate([[0.0, -0.0, 0.5, -0.5, 1.5, 2.5, np.inf, -np.inf], rng.normal(0, 1, 56)])
    ).float()
    w = torch.from_numpy(rng.normal(0, 2, 64)).float()
    k = torch.from_numpy(np.concatenate([[0, -1, 1, 2**31 - 1], rng.integers(-6, 6, 60)]).astype(np.int32))
    return (v, w, k), [run.place(t, name=name) for t, name in ((v, "v"), (w, "w"), (k, "k"))]


@pytest.mark.parametrize("op", FLOAT)
def test_float_functions(new_run, op):
    run = new_run()
    (v, w, k), given = inputs(run)
    out = run.empty((64,))
    run.launch(functions, (1,), *given, out, out, op, N=64)
    expected = FLOAT[op](v.double(), w.double(), k).float()
    torch.testing.assert_close(out, expected, rtol=3e-7, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("op", INTEGER)
def test_integer_functions(new_run, op):
    run = new_run()
    (v, _, k), given = inputs(run)
    out, out_int = run.empty((64,)), run.empty((64,), torch.int64, name="integers")
    run.launch(functions, (1,), *given, out, out_int, op, N=64)
    assert out_int.tolist() == [INTEGER[op](a, b) for a, b in zip(v.tolist(), k.tolist())]


@triton.jit
def norms(parts, out, n, op: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    mask = i < n
    a, b = tl.load(parts + i, mask), tl.load(parts + n + i, mask)
    c, d = tl.load(parts + 2 * n + i, mask), tl.load(parts + 3 * n + i, mask)
    if op == "hypot":
        r = libdevice.hypot(a, b)
    elif op == "norm3d":
        r = libdevice.norm3d(a, b, c)
    elif op == "norm4d":
        r = libdevice.norm4d(a, b, c, d)
    elif op == "rhypot":
        r = libdevice.rhypot(a, b)
    elif op == "rnorm3d":
        r = libdevice.rnorm3d(a, b, c)
    else:
        r = libdevice.rnorm4d(a, b, c, d)
    tl.store(out + i, r, mask)


@pytest.mark.parametrize("op, of", [("hypot", 2), ("norm3d", 3), ("norm4d", 4)])
def test_norms_of_the_greatest_and_the_least(new_run, op, of):
    edges = [0.0, -5e-324, 3e-310, 1e-200, 1.0, -3.0, 1e200, 1.7976931348623157e308, math.inf]
    columns = np.array(list(itertools.product(edges, repeat=4))).T
    with decimal.localcontext(decimal.Context(prec=50)):
        lengths = [sum(decimal.Decimal(x) ** 2 for x in row[:of]).sqrt() for row in columns.T]
        expected = {
            op: [float(length) for length in lengths],
            f"r{op}": [float(1 / length) if length else math.inf for length in lengths],
        }
    for name, right in expected.items():
        run = new_run()
        out = run.empty((len(right),), torch.float64)
        run.launch(norms, (1,), run.place(torch.from_numpy(columns)), out, len(right), name, N=8192)
        np.testing.assert_array_max_ulp(out.numpy(), np.array(right), maxulp=1)


@triton.jit
def norms_of_programs(x, y, out, op: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + tl.program_id(0) * N + i), tl.load(y + i)
    r = libdevice.rhypot(a, b) if op == "rhypot" else libdevice.norm4d(b, a, b, a)
    tl.store(out + tl.program_id(0) * N + i, r)


@pytest.mark.parametrize("op", ["rhypot", "norm4d"])
def test_norms_of_what_programs_have_in_common_and_what_each_has(new_run, op):
    run = new_run()
    x, y, out = torch.arange(1, 33.0), torch.arange(8.0), run.empty((32,))
    run.launch(norms_of_programs, (4,), run.place(x), run.place(y, name="y"), out, op, N=8)
    squares = x.view(4, 8) ** 2 + y**2
    expected = squares.rsqrt() if op == "rhypot" else (2 * squares).sqrt()
    torch.testing.assert_close(out.view(4, 8), expected, rtol=3e-7, atol=0)


def skip_without(op):
    """Triton 3.6 has fewer functions for AMD, 3.9 has the most."""
    if not hasattr(hip_libdevice, "fast_expf" if op == "fast_exp" else op):
        pytest.skip(f"this Triton has no {op} for AMD")


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("op", ["pow", "rint", "tanh", "fast_exp", "erf"])
def test_amd_twins(new_run, arch, op):
    skip_without(op)
    run = new_run(arch=arch)
    (v, w, k), given = inputs(run)
    out = run.empty((64,))
    run.launch(functions, (1,), *given, out, out, op, N=64)
    expected = FLOAT[op](v.double(), w.double(), k).float()
    torch.testing.assert_close(out, expected, rtol=3e-7, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("op", ["llrint", "popc", "clz", "abs", "isinf"])
def test_amd_twins_that_give_integers(new_run, op):
    skip_without(op)
    run = new_run(arch="gfx950")
    (v, _, k), given = inputs(run)
    out, out_int = run.empty((64,)), run.empty((64,), torch.int64, name="integers")
    run.launch(functions, (1,), *given, out, out_int, op, N=64)
    inner = slice(None) if op != "llrint" else torch.isfinite(v).numpy()
    assert (
        out_int.numpy()[inner].tolist()
        == np.array([INTEGER[op](a, b) for a, b in zip(v.tolist(), k.tolist())], object)[inner].tolist()
    )


@triton.jit
def unknown(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, libdevice.add_rd(tl.load(x + i), 1.0))


def test_function_without_a_row_is_refused_by_its_symbol(new_run):
    run = new_run()
    with pytest.raises(UnsupportedError, match="__nv_fadd_rd"):
        run.launch(unknown, (1,), run.place(torch.zeros(8)), run.empty((8,)), N=8)


def test_symbols_that_are_known():
    """All that Triton's modules list, but what rounds in a direction, and a few that do not occur in kernels."""
    root = Path(triton.__file__).parent / "language" / "extra"
    nvidia = set(re.findall(r'"(__nv_\w+)"', (root / "cuda" / "libdevice.py").read_text()))
    amd = set(re.findall(r'"(__\w+)"', (root / "hip" / "libdevice.py").read_text()))
    assert {"__nv_tanhf", "__nv_powif"} < nvidia
    assert "__ocml_tanh_f64" in amd
    rare = re.compile(
        r"__nv_(\w*_r[duz]|double2(float_rn|hiint|loint)|hiloint2double|jnf?|ynf?|rcp64h|remainderf?|tgammaf?)"
    )
    assert [s for s in sorted(nvidia | amd) if name_of(s) is None and not rare.fullmatch(s)] == []
