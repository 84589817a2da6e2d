"""Temporary: the same tiny kernels on a GPU and in the simulator; outputs to an .npz."""
import sys
import numpy as np, torch, triton, triton.language as tl
from triton.language.extra import libdevice

@triton.jit
def conv(x, out, N: tl.constexpr):
    i = tl.arange(0, N) + tl.program_id(0) * N
    tl.store(out + i, tl.load(x + i).to(out.dtype.element_ty))
@triton.jit
def convz(x, out, N: tl.constexpr):
    i = tl.arange(0, N) + tl.program_id(0) * N
    tl.store(out + i, tl.load(x + i).to(out.dtype.element_ty, fp_downcast_rounding="rtz"))
@triton.jit
def aadd(p, v, old, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(old + i, tl.atomic_add(p + i, tl.load(v + i)))
@triton.jit
def amax(p, v, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.atomic_max(p + i, tl.load(v + i))
@triton.jit
def fma(x, y, z, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.fma(tl.load(x + i), tl.load(y + i), tl.load(z + i)))
@triton.jit
def clamp(x, out, A: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    how: tl.constexpr = tl.PropagateNan.ALL if A else tl.PropagateNan.NONE
    tl.store(out + i, tl.clamp(tl.load(x + i), -1.0, 2.0, propagate_nan=how))
@triton.jit
def dot(a, b, out, P: tl.constexpr, A: tl.constexpr):
    i = tl.arange(0, 64)[:, None] * 64 + tl.arange(0, 64)[None, :]
    tl.store(out + i, tl.dot(tl.load(a + i), tl.load(b + i), input_precision=P, out_dtype=A))
@triton.jit
def asm(x, y, out, S: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.inline_asm_elementwise(S, "=r,r,r", [tl.load(x + i), tl.load(y + i)], dtype=tl.int32, is_pure=True, pack=1))
@triton.jit
def lib(x, out, op: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    if op == "llrint":
        r = libdevice.llrint(v)
    elif op == "rint":
        r = libdevice.rint(v)
    elif op == "float2int":
        r = libdevice.float2int_rn(v)
    elif op == "float2ll":
        r = libdevice.float2ll_rz(v)
    elif op == "llround":
        r = libdevice.llround(v)
    elif op == "ilogb":
        r = libdevice.ilogb(v)
    tl.store(out + i, r)
@triton.jit
def hist(x, out, N: tl.constexpr):
    tl.store(out + tl.arange(0, 32), tl.histogram(tl.load(x + tl.arange(0, N)), 32))
@triton.jit
def dscale(a, b, sa, sb, out, FA: tl.constexpr, FB: tl.constexpr, KA: tl.constexpr, KB: tl.constexpr):
    A = tl.load(a + tl.arange(0, 64)[:, None] * KA + tl.arange(0, KA)[None, :])
    B = tl.load(b + tl.arange(0, KB)[:, None] * 64 + tl.arange(0, 64)[None, :])
    s = tl.arange(0, 64)[:, None] * 4 + tl.arange(0, 4)[None, :]
    tl.store(out + tl.arange(0, 64)[:, None] * 64 + tl.arange(0, 64)[None, :], tl.dot_scaled(A, tl.load(sa + s), FA, B, tl.load(sb + s), FB))

def main(dev, path, run):
    found = {}
    def go(name, kernel, grid, ins, out, *more):
        try:
            o = out.to(dev)
            ins = [t.to(dev) for t in ins]
            run(lambda: kernel[grid](*ins, o, *more))
            found[name] = o.cpu().view(torch.uint8).numpy()
        except Exception as e:
            print(name, type(e).__name__, str(e).strip().splitlines()[-1][:120])
    h = torch.arange(1 << 16, dtype=torch.int32)
    srcs = {"f16": h.to(torch.int16).view(torch.float16), "bf16": h.to(torch.int16).view(torch.bfloat16)}
    g = np.random.default_rng(0)
    w = np.concatenate([(np.arange(1 << 15, dtype=np.uint32) << 17) | d for d in (0, 1)] + [g.integers(0, 2**32, 1 << 16, np.uint64).astype(np.uint32)])
    f32 = w.view(np.float32)
    b16 = np.arange(1 << 15, dtype=np.float64)
    srcs["f32"] = torch.from_numpy(f32[: 1 << 17].copy())
    mid = (np.arange(1 << 13) / 1024.0 + 1) + 2.0**-13
    d = np.concatenate([mid, mid + 2.0**-40, mid - 2.0**-40, np.ldexp(mid, -24), np.ldexp(mid, -133), np.ldexp(1 + (np.arange(1 << 13) % 64 * 2 + 1) / 16.0, 3) * (1 + 2.0**-40), np.ldexp(mid, 15), np.ldexp(mid, 127)])
    srcs["f64"] = torch.from_numpy(d)
    for s, x in srcs.items():
        for t, dt in {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}.items():
            go(f"conv {s} {t}", conv, (len(x) // 4096,), [x], torch.zeros(len(x), dtype=dt), 4096)
    for t, dt in {"e5m2": torch.float8_e5m2, "f16": torch.float16, "bf16": torch.bfloat16}.items():
        go(f"rtz f32 {t}", convz, ((1 << 17) // 4096,), [srcs["f32"]], torch.zeros(1 << 17, dtype=dt), 4096)
    go("rtz f16 e5m2", convz, (16,), [srcs["f16"]], torch.zeros(1 << 16, dtype=torch.float8_e5m2), 4096)
    c8 = torch.arange(256, dtype=torch.uint8)
    for t, dt in {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}.items():
        for u, du in {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}.items():
            go(f"conv {t} {u}", conv, (1,), [c8.view(dt)], torch.zeros(256, dtype=du), 256)
    sub = torch.tensor([1e-40, 1e-39, 2e-38, 1.2e-38, -1e-40, 1.0, 1e-45, -1.2e-38], dtype=torch.float32).repeat(2)
    add = torch.tensor([1e-40, -1e-39, -1.9e-38, -1.1e-38, 1e-40, 1e-40, 0.0, 1.3e-38], dtype=torch.float32).repeat(2)
    for nm, dt in {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}.items():
        p, v = (sub if nm == "f32" else sub * 1e33 * 1e-3 if nm == "f16" else sub).to(dt), (add if nm == "f32" else add * 1e30 if nm == "f16" else add).to(dt)
        for used in ("cells", "old"):
            pp = p.to(dev); vv = v.to(dev); old = torch.zeros_like(pp)
            run(lambda: aadd[(1,)](pp, vv, old, 16))
            found[f"atomic_add {nm} {used}"] = (pp if used == "cells" else old).cpu().view(torch.uint8).numpy()
    sp = torch.tensor([float("nan"), 0.0, -0.0, float("inf"), -float("inf"), 1.0, -1.0, 2.0])
    pp = sp.repeat_interleave(8).to(dev); vv = sp.repeat(8).to(dev)
    run(lambda: amax[(1,)](pp, vv, 64)); found["atomic_max f32"] = pp.cpu().view(torch.uint8).numpy()
    x, y, z = (torch.from_numpy(g.integers(0, 2**32, 4096, np.uint64).astype(np.uint32).view(np.float32)) for _ in range(3))
    z = torch.where(torch.arange(4096) % 2 == 0, -(x.double() * y.double()).float(), z)
    for nm, dt in {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}.items():
        go(f"fma {nm}", fma, (1,), [x.to(dt), y.to(dt), z.to(dt)], torch.zeros(4096, dtype=dt), 4096)
    for a in (False, True):
        go(f"clamp {a}", clamp, (1,), [sp], torch.zeros(8), a, 8)
    a, b = (torch.from_numpy(g.normal(0, 1, (64, 64)).astype(np.float32)) for _ in range(2))
    for P in ("tf32", "tf32x3", "bf16x3", "bf16x6", "ieee"):
        go(f"~dot f32 {P}", dot, (1,), [a, b], torch.zeros(64, 64), P, tl.float32)
    ai, bi = (torch.from_numpy(g.integers(-3, 4, (64, 64)).astype(np.float32)) for _ in range(2))
    for nm, dt in {"f16": torch.float16, "bf16": torch.bfloat16, "e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "f64": torch.float64, "i8": torch.int8}.items():
        acc = {"f64": tl.float64, "i8": tl.int32}.get(nm, tl.float32)
        go(f"dot {nm}", dot, (1,), [ai.to(dt), bi.to(dt)], torch.zeros(64, 64, dtype={"f64": torch.float64, "i8": torch.int32}.get(nm, torch.float32)), None, acc)
    go("dot f16 f16", dot, (1,), [ai.half(), bi.half()], torch.zeros(64, 64).half(), None, tl.float16)
    lo, hi = (torch.from_numpy(w[k * 4096 : (k + 1) * 4096].astype(np.int32)) for k in (20, 21))
    for S in ("{ .reg .b16 t; cvt.rn.satfinite.e4m3x2.f32 t, $2, $1; cvt.u32.u16 $0, t; }", "{ .reg .b16 t; cvt.rn.satfinite.e5m2x2.f32 t, $2, $1; cvt.u32.u16 $0, t; }", "{ .reg .b16 t; cvt.rn.satfinite.e4m3x2.f16x2 t, $1; cvt.u32.u16 $0, t; }", "cvt.rn.f16x2.f32 $0, $2, $1;", "cvt.rn.bf16x2.f32 $0, $2, $1;", "prmt.b32 $0, $1, $2, 0xB4D3;", "lop3.b32 $0, $1, $2, $1, 0x6C;", "shr.s32 $0, $1, $2;", "shl.b32 $0, $1, $2;", "{ .reg .b16 t, u; mov.b32 {t, u}, $1; cvt.rn.f16x2.e4m3x2 $0, t; }", "mul.f16x2 $0, $1, $2;", "fma.rn.bf16x2 $0, $1, $2, $1;", "min.f32 $0, $1, $2;", "max.bf16x2 $0, $1, $2;", "cvt.rzi.s32.f32 $0, $1;", "cvt.rni.u32.f32 $0, $1;", "mul.ftz.f32 $0, $1, $2;", "bfe.u32 $0, $1, $2, 5;", "abs.f16x2 $0, $1;", "{ .reg .pred p; setp.lt.f32 p, $1, $2; selp.b32 $0, $1, $2, p; }"):
        go("asm " + S, asm, (1,), [lo, hi], torch.zeros(4096, dtype=torch.int32), S, 4096)
    q = srcs["f32"][: 1 << 13]
    q = torch.cat([q, torch.from_numpy(g.normal(0, 1e9, 4096).astype(np.float32)), torch.from_numpy(np.arange(4096, dtype=np.float32) / 4 - 512)])
    for op, dt in {"llrint": torch.int64, "rint": torch.float32, "float2int": torch.int32, "float2ll": torch.int64, "llround": torch.int64, "ilogb": torch.int32}.items():
        go("lib " + op, lib, (1,), [q], torch.zeros(1 << 14, dtype=dt), op, 1 << 14)
    go("hist out of range", hist, (1,), [torch.from_numpy(g.integers(-5, 70, 256).astype(np.int32))], torch.zeros(32, dtype=torch.int32), 256)
    raw = lambda *s: torch.from_numpy(g.integers(0, 256, s).astype(np.uint8))
    sc = lambda: torch.from_numpy(g.integers(123, 131, (64, 4)).astype(np.uint8))
    go("~dscale e2m1 e2m1", dscale, (1,), [raw(64, 64), raw(64, 64), sc(), sc()], torch.zeros(64, 64), "e2m1", "e2m1", 64, 64)
    go("~dscale e4m3 e2m1", dscale, (1,), [raw(64, 128) & 0x6F, raw(64, 64), sc(), sc()], torch.zeros(64, 64), "e4m3", "e2m1", 128, 64)
    np.savez_compressed(path, **found)
    print(len(found), "outputs", triton.__version__, torch.__version__)

if __name__ == "__main__":
    if sys.argv[1] == "gpu":
        main("cuda", sys.argv[2], lambda f: (f(), torch.cuda.synchronize()))
    else:
        from fp4guard.memory import ALL_ONES, Memory
        from fp4guard.sim import Simulator
        from fp4guard.ttir import parse_arch
        def run(f):
            s = Simulator(Memory(ALL_ONES), parse_arch("sm_90"))
            with s.intercepting():
                f()
        main("cpu", sys.argv[2], run)
