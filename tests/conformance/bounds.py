"""How far the GPU may be from the simulator where they differ, and why.

Bounds of functions are the documented errors (CUDA C++ Programming Guide, "Mathematical Functions"; PTX ISA, chapter 9)
plus one ulp of the simulator's own. Those of the Bessel functions of float64, erfcx, normcdf, i1, powi, tanh.approx and
of inexact dots were set after a first measurement: they say that nothing got worse, not that either side is right.
`lanes` of a whole row check nothing but that it runs.
"""

from __future__ import annotations

from .row import Allowed

_FTZ = "Triton compiles libdevice's float32 code so that subnormal operands and results are 0 (nvvm-reflect-ftz)"
_APPROXIMATE = "approximate on the GPU"
_FUSED = f"{_APPROXIMATE}; {_FTZ}"
_REMAINDER = (
    "the GPU computes fma(-trunc(a / b), b, a) (99.8 % of a sample of float32); the simulator the exact remainder"
)
_EXP = "the GPU computes 2**(x * log2(e)), whose exponent is rounded: 2 + 1.173 |x| ulp"

_EVERY = 1 << 17

#: By operation and type.
ARITHMETIC: dict[tuple[str, str], Allowed] = {
    **{("arith.remf", t): Allowed(why=_REMAINDER, lanes=_EVERY) for t in ("f16", "bf16", "f32", "f64")},
    ("arith.divf", "f32"): Allowed(2, "`/` of float32 is div.full, off by 2 ulp; tl.div_rn is exact"),
    ("math.floor", "f32"): Allowed(why=_FTZ, flushed=True),
    ("math.ceil", "f32"): Allowed(why=_FTZ, flushed=True),
    ("math.sqrt", "f32"): Allowed(1, "sqrt.approx, off by 1 ulp; tl.sqrt_rn is exact", flushed=True),
    ("math.rsqrt", "f32"): Allowed(3, _FUSED, flushed=True),
    ("math.rsqrt", "f64"): Allowed(2, _APPROXIMATE),
    ("math.exp", "f32"): Allowed(107, _EXP, flushed=True),
    ("math.exp2", "f32"): Allowed(3, _FUSED, flushed=True),
    ("math.log", "f32"): Allowed(3, _FUSED, flushed=True),
    ("math.log2", "f32"): Allowed(3, _FUSED, flushed=True),
    ("math.sin", "f32"): Allowed(3, _FUSED, flushed=True),
    ("math.cos", "f32"): Allowed(3, _FUSED, flushed=True),
    ("math.erf", "f32"): Allowed(3, _FUSED, flushed=True),
    **{
        (f"math.{name}", "f64"): Allowed(3, _APPROXIMATE)
        for name in ("exp", "exp2", "log", "log2", "sin", "cos", "erf")
    },
    ("tt.fp_to_fp", "e5m2 bf16"): Allowed(
        why="Triton shifts bits, which makes finite numbers of 65536 and more of E5M2's Inf and NaN", lanes=8
    ),
}

#: Documented errors in ulp: float32, float64.
_DOCUMENTED = {
    "rsqrt": (2, 1), "cbrt": (1, 1), "rcbrt": (1, 1), "hypot": (3, 2), "rhypot": (2, 1), "norm3d": (3, 2),
    "norm4d": (3, 2), "rnorm3d": (2, 1), "rnorm4d": (2, 1), "exp": (2, 1), "exp2": (2, 1), "exp10": (2, 1),
    "expm1": (1, 1), "log": (1, 1), "log2": (1, 1), "log10": (2, 1), "log1p": (1, 1), "sin": (2, 2), "cos": (2, 2),
    "tan": (4, 2), "sinpi": (1, 2), "cospi": (1, 2), "asin": (2, 2), "acos": (2, 2), "atan": (2, 2), "atan2": (3, 2),
    "sinh": (3, 2), "cosh": (2, 1), "tanh": (2, 1), "asinh": (3, 3), "acosh": (4, 3), "atanh": (3, 2), "pow": (4, 2),
    "erf": (2, 2), "erfc": (4, 5), "erfinv": (2, 5), "erfcinv": (4, 6), "erfcx": (4, 4), "normcdf": (5, 5),
    "normcdfinv": (5, 8), "cyl_bessel_i0": (6, 6), "cyl_bessel_i1": (6, 6), "sqrt": (1, 0),
}  # fmt: skip

#: Those of float32 that are exact but for subnormals.
_EXACT = (
    "fabs", "floor", "ceil", "trunc", "rint", "nearbyint", "round", "saturate", "fmin", "fmax", "fmod", "fma",
    "fmaf_rn", "fdiv_rn", "frcp_rn", "fsqrt_rn", "frsqrt_rn", "fadd_rn", "fsub_rn", "fmul_rn", "nextafter",
    "ldexp", "scalbn", "ilogb", "logb", "fdim", "copysign",
    *(f"float2{i}_{r}" for i in ("int", "uint", "ll", "ull") for r in ("rn", "rz", "rd", "ru")),
    "llrint", "llround", "lrint", "lround",
)  # fmt: skip

_SINE = "absolute errors of 2**-20.5 up to pi, beyond which PTX promises nothing"
_LOG = "an absolute error of 2**-22 near 1, 3 ulp elsewhere"
_BESSEL = "absolute errors of the GPU's beyond 8 (documented: 2.2e-6; measured against mpmath: 8e-7); subnormals as 0"
_BESSEL_64 = (
    "the simulator is the less exact: torch's float64 function is off by up to 7e-7, the GPU by 3e-13 "
    "(mpmath, a sample up to 1e4)"
)
_OWN = "here the simulator's function, torch's in float64, is the less exact"

#: By symbol.
LIBDEVICE: dict[str, Allowed] = {
    **{f"__nv_{name}{end}": Allowed(why=_FTZ, flushed=True) for name in _EXACT for end in ("", "f")},
    **{f"__nv_{name}f": Allowed(single + 1, _FUSED, flushed=True) for name, (single, _) in _DOCUMENTED.items()},
    **{f"__nv_{name}": Allowed(double + 1, _APPROXIMATE) for name, (_, double) in _DOCUMENTED.items()},
    "__nv_sqrt": Allowed(),
    "__nv_fma": Allowed(),
    "__nv_fmod": Allowed(),
    "__nv_fast_sinf": Allowed(2, _SINE, flushed=True, absolute=2.0**-20.5, within=3.1416),
    "__nv_fast_cosf": Allowed(2, _SINE, flushed=True, absolute=2.0**-20.5, within=3.1416),
    "__nv_fast_tanf": Allowed(2, "the quotient of the two", flushed=True, absolute=2.0**-18, within=1.0),
    "__nv_fast_logf": Allowed(3, _LOG, flushed=True, absolute=2.0**-21),
    "__nv_fast_log2f": Allowed(3, _LOG, flushed=True, absolute=2.0**-21),
    "__nv_fast_log10f": Allowed(3, _LOG, flushed=True, absolute=2.0**-21),
    "__nv_fast_expf": Allowed(107, _EXP, flushed=True),
    "__nv_fast_exp10f": Allowed(115, "as exp, with log2(10)", flushed=True),
    "__nv_fast_powf": Allowed(why="the GPU computes 2**(y * log2(x)), with any error where y is large", lanes=_EVERY),
    "__nv_fast_fdividef": Allowed(3, "div.approx; 0 for divisors beyond 2**126", flushed=True, within=2.0**126),
    "__nv_powif": Allowed(128, f"the GPU multiplies repeatedly; {_FTZ}", flushed=True, lanes=16),
    "__nv_powi": Allowed(4096, "the GPU multiplies repeatedly", lanes=64),
    "__nv_lgammaf": Allowed(7, f"near zeros of the function an absolute error; {_FTZ}", flushed=True, absolute=1e-6),
    "__nv_lgamma": Allowed(5, "near zeros of the function an absolute error", absolute=1e-13),
    **{f"__nv_{name}f": Allowed(10, _BESSEL, flushed=True, absolute=9e-6) for name in ("j0", "j1", "y0", "y1")},
    **{f"__nv_{name}": Allowed(64, _BESSEL_64, absolute=5e-6) for name in ("j0", "j1", "y0", "y1")},
    "__nv_erfcx": Allowed(8192, _OWN),
    "__nv_normcdf": Allowed(8192, _OWN),
    "__nv_cyl_bessel_i1": Allowed(12, _OWN),
    "__nv_erfcinv": Allowed(7, "the simulator halves the least subnormal, which makes 0 of it", lanes=2),
}

#: By snippet.
PTX: dict[str, Allowed] = {
    "mul.ftz.f32 $0, $1, $2;": Allowed(why="the GPU flushes before it rounds, the simulator after", flushed=True),
    "fma.rn.ftz.f32 $0, $1, $2, $3;": Allowed(
        why="the GPU flushes before it rounds, the simulator after", flushed=True
    ),
    "div.approx.f32 $0, $1, $2;": Allowed(3, "0 for divisors beyond 2**126", flushed=True, within=2.0**126),
    "div.full.f32 $0, $1, $2;": Allowed(2, _APPROXIMATE),
    "ex2.approx.f32 $0, $1;": Allowed(3, _APPROXIMATE),
    "ex2.approx.ftz.f32 $0, $1;": Allowed(3, _APPROXIMATE, flushed=True),
    "lg2.approx.f32 $0, $1;": Allowed(3, _LOG, absolute=2.0**-21),
    "lg2.approx.ftz.f32 $0, $1;": Allowed(3, _LOG, absolute=2.0**-21),
    "sin.approx.f32 $0, $1;": Allowed(2, _SINE, flushed=True, absolute=2.0**-20.5, within=3.1416),
    "cos.approx.f32 $0, $1;": Allowed(2, _SINE, flushed=True, absolute=2.0**-20.5, within=3.1416),
    "tanh.approx.f32 $0, $1;": Allowed(128, "a relative error of 2**-11 is documented", flushed=True),
    "rcp.approx.ftz.f32 $0, $1;": Allowed(2, _APPROXIMATE, flushed=True),
    "rsqrt.approx.f32 $0, $1;": Allowed(3, _APPROXIMATE),
    "sqrt.approx.f32 $0, $1;": Allowed(2, _APPROXIMATE),
}

_PARTS = "the GPU adds the products of the parts in its own order"
_SUMS = "inexact sums: a tensor core cuts off addends that it aligns, in its own order"
_SUMS_8 = "inexact sums: Hopper's 8-bit tensor cores keep 14 bits of an addend"
_ZERO = "Triton shifts the scale into a bf16: 0 where the format says 2**-127"
_LARGE = "Hopper has no such instruction: Triton scales in bf16, where 2**127 and more becomes Inf, and Inf - Inf NaN"
_HALF = "Triton scales fp16 operands in fp16, which holds 2**-24 to 2**15 only"
_PAIRS = (
    "e2m1 x e2m1", "e4m3 x e4m3", "e5m2 x e5m2", "e4m3 x e2m1", "e2m1 x e5m2", "bf16 x e2m1", "fp16 x e2m1",
    "e5m2 x e4m3",
)  # fmt: skip

#: By operation and kernel, with or without the types.
WHOLE: dict[str, Allowed] = {
    **{f"tt.dot: one product an output, {p}": Allowed(1, _PARTS) for p in ("tf32x3", "bf16x3", "bf16x6")},
    **{
        f"tt.dot: random, {p}": Allowed(why=_SUMS, absolute=2.0**-16)
        for p in ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6")
    },
    **{f"tt.dot: random {t} {t} f32": Allowed(why=_SUMS, absolute=2.0**-16) for t in ("f16", "bf16")},
    **{f"tt.dot: random {t} {t} f32": Allowed(why=_SUMS_8, absolute=2.0**-5) for t in ("e4m3", "e5m2")},
    **{f"tt.dot_scaled: {pair}, scale 0": Allowed(why=_ZERO, lanes=4096) for pair in _PAIRS},
    **{f"tt.dot_scaled: {pair}, scale 254": Allowed(why=_LARGE, lanes=4096) for pair in _PAIRS},
    **{f"tt.dot_scaled: {pair}, one scale of 2 to 253 each": Allowed(why=_LARGE, lanes=16) for pair in _PAIRS},
    "tt.dot_scaled: fp16 x e2m1, one scale of 2 to 253 each": Allowed(why=_HALF, lanes=4096),
    "tt.dot_scaled: fp16 x e2m1, scale 1": Allowed(why=_HALF, lanes=4096),
}
