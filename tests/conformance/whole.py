"""Rows of whole kernels: products, reductions, layouts, atomics, memory, control flow, descriptors, and the GEMM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from fp4guard.included.gemm_afp4wfp4.configs import CONFIGS
from fp4guard.included.gemm_afp4wfp4.launch import gemm_afp4wfp4
from triton.tools.tensor_descriptor import TensorDescriptor

from fp4guard import oracle
from fp4guard.formats import MXFP4

from . import kernels
from .bounds import WHOLE
from .inputs import TYPES, is_float, operands, rounded
from .row import Row

Arrays = list[np.ndarray]


def _row(
    ops: str,
    what: str,
    types: str,
    out: str,
    shape: tuple[int, ...],
    make: Callable[[np.random.Generator], Arrays],
    launch: Callable[..., Any],
) -> Row:
    name = f"{ops}: {what} {types} {out}"
    return Row(
        ops, what, tuple(types.split()), out, lambda: make(np.random.default_rng(7)), launch, shape,
        WHOLE.get(name, WHOLE.get(f"{ops}: {what}", Row.__dataclass_fields__["allowed"].default_factory())),
    )  # fmt: skip


# -- products --------------------------------------------------------------------------------------------------

_M, _N, _K = 64, 64, 64
_ACCUMULATORS = {"f32": tl.float32, "f16": tl.float16, "f64": tl.float64, "i32": tl.int32}


def _small(t: str, u: str) -> Callable[[np.random.Generator], Arrays]:
    """Small integers: every sum is exact in any order."""

    def make(rng: np.random.Generator) -> Arrays:
        return [rounded(rng.integers(-3, 4, s), n) for s, n in (((_M, _K), t), ((_K, _N), u))]

    return make


def _single(t: str) -> Callable[[np.random.Generator], Arrays]:
    """A diagonal matrix and any: one product an output, so that only the operands' own rounding shows."""

    def make(rng: np.random.Generator) -> Arrays:
        return [rounded(np.diag(rng.normal(0, 10, _M)), t), rounded(rng.normal(0, 10, (_K, _N)), t)]

    return make


def _normal(t: str) -> Callable[[np.random.Generator], Arrays]:
    def make(rng: np.random.Generator) -> Arrays:
        return [rounded(rng.normal(0, 1, s), t) for s in ((_M, _K), (_K, _N))]

    return make


def _products() -> Iterator[Row]:
    def launch(precision: str | None, accumulator: str) -> Callable[..., Any]:
        return lambda a, b, out: kernels.dot[(1,)](a, b, out, _M, _N, _K, precision, _ACCUMULATORS[accumulator])

    exact = (
        ("f16", "f32", None), ("f16", "f16", None), ("bf16", "f32", None), ("e4m3", "f32", None), ("e5m2", "f32", None),
        ("f64", "f64", None), ("i8", "i32", None),
        *(("f32", "f32", p) for p in ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6")),
    )  # fmt: skip
    for t, out, precision in exact:
        what = f"exact sums{f', {precision}' if precision else ''}"
        yield _row("tt.dot", what, f"{t} {t}", out, (_M, _N), _small(t, t), launch(precision, out))
    for precision in ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6"):
        what = f"one product an output, {precision}"
        yield _row("tt.dot", what, "f32 f32", "f32", (_M, _N), _single("f32"), launch(precision, "f32"))
        yield _row(
            "tt.dot", f"random, {precision}", "f32 f32", "f32", (_M, _N), _normal("f32"), launch(precision, "f32")
        )
    for t in ("f16", "bf16", "e4m3", "e5m2"):
        yield _row("tt.dot", "one product an output", f"{t} {t}", "f32", (_M, _N), _single(t), launch(None, "f32"))
        yield _row("tt.dot", "random", f"{t} {t}", "f32", (_M, _N), _normal(t), launch(None, "f32"))
    yield _row(
        "tt.dot", "with an accumulator", "f16 f16 f32", "f32", (_M, _N),
        lambda rng: [*_small("f16", "f16")(rng), rounded(rng.integers(-999, 1000, (_M, _N)), "f32")],
        lambda a, b, c, out: kernels.dot_accumulate[(1,)](a, b, c, out, _M, _N, _K),
    )  # fmt: skip


_GROUPS = 4
_PACKED = {"e2m1": 2, "e4m3": 1, "e5m2": 1, "bf16": 1, "fp16": 1}
_HOLDS = {"e2m1": "u8", "e4m3": "e4m3", "e5m2": "e5m2", "bf16": "bf16", "fp16": "f16"}


def _elements(form: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    if form == "e2m1":
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rounded(rng.choice([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6], shape), _HOLDS[form])


def _scaled() -> Iterator[Row]:
    k = 32 * _GROUPS
    scales: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "scales near 1": lambda rng: rng.integers(126, 129, (_M, _GROUPS)).astype(np.uint8),
        "scales with NaN (255)": lambda rng: np.where(
            rng.random((_M, _GROUPS)) < 0.02, 255, rng.integers(126, 129, (_M, _GROUPS))
        ).astype(np.uint8),
        "one scale of 2 to 253 each": lambda rng: np.repeat(rng.integers(2, 254, (_M, 1)), _GROUPS, 1).astype(np.uint8),
        "scale 0": lambda rng: np.zeros((_M, _GROUPS), np.uint8),
        "scale 1": lambda rng: np.ones((_M, _GROUPS), np.uint8),
        "scale 254": lambda rng: np.full((_M, _GROUPS), 254, np.uint8),
    }
    for fa, fb in (
        ("e2m1", "e2m1"), ("e4m3", "e4m3"), ("e5m2", "e5m2"), ("e4m3", "e2m1"), ("e2m1", "e5m2"), ("bf16", "e2m1"),
        ("fp16", "e2m1"), ("e5m2", "e4m3"),
    ):  # fmt: skip
        for what, scale in scales.items():
            ka, kb = k // _PACKED[fa], k // _PACKED[fb]

            def make(
                rng: np.random.Generator, fa: str = fa, fb: str = fb, scale: Any = scale, what: str = what
            ) -> Arrays:
                a = _elements(fa, (_M, k // _PACKED[fa]), rng)
                b = _elements(fb, (k // _PACKED[fb], _N), rng)
                first = scale(rng)
                # The other side is plain where scales are extreme, so that one rounding shows alone.
                near = "near" in what or "NaN" in what
                second = scale(rng) if near else np.full((_N, _GROUPS), 127, np.uint8)
                return [a, first, b, second]

            def launch(
                a: Any, sa: Any, b: Any, sb: Any, out: Any, fa: str = fa, fb: str = fb, ka: int = ka, kb: int = kb
            ) -> None:
                kernels.dot_scaled[(1,)](a, sa, b, sb, out, _M, _N, ka, kb, _GROUPS, fa, fb)

            types = f"{_HOLDS[fa]} u8 {_HOLDS[fb]} u8"
            yield _row("tt.dot_scaled", f"{fa} x {fb}, {what}", types, "f32", (_M, _N), make, launch)


# -- reductions, scans, layouts --------------------------------------------------------------------------------

_ROWS, _COLUMNS = 32, 128


def _integers(t: str, least: int = -9, most: int = 10) -> Callable[[np.random.Generator], Arrays]:
    return lambda rng: [rounded(rng.integers(least, most, (_ROWS, _COLUMNS)), t)]


def _any(t: str) -> Callable[[np.random.Generator], Arrays]:
    def make(rng: np.random.Generator) -> Arrays:
        bits = rng.permutation(operands((t,), _ROWS * _COLUMNS)[0])
        return [np.resize(bits, (_ROWS, _COLUMNS))]

    return make


def _combined() -> Iterator[Row]:
    def reducing(how: str) -> Callable[..., Any]:
        return lambda x, out: kernels.reduce[(1,)](x, out, how, _ROWS, _COLUMNS)

    def scanning(how: str, reverse: bool) -> Callable[..., Any]:
        return lambda x, out: kernels.scan[(1,)](x, out, how, reverse, _ROWS, _COLUMNS)

    numbers = ("i32", "i64", "f16", "bf16", "f32", "f64")
    for t in (*numbers, "i8", "u32"):
        out = "i32" if t == "i8" else t
        yield _row("tt.reduce", "sum, exact", t, out, (_ROWS,), _integers(t, 0 if t == "u32" else -9), reducing("sum"))
    for t in (*numbers, "i8", "i16"):
        wide = {"i8": "i32", "i16": "i32", "f16": "f32", "bf16": "f32"}.get(t, t)
        for how in ("max", "min", "own"):
            out = t if how == "own" else wide
            yield _row("tt.reduce", f"{how}, any bits", t, out, (_ROWS,), _any(t), reducing(how))
        for how in ("argmax", "argmin", "pair"):
            yield _row("tt.reduce", f"{how}, with ties", t, "i32", (_ROWS,), _integers(t), reducing(how))
    for t in ("i32", "i64"):
        yield _row("tt.reduce", "xor", t, t, (_ROWS,), _any(t), reducing("xor"))
    for reverse in (False, True):
        after = ", reversed" if reverse else ""
        whole = (_ROWS, _COLUMNS)
        for t in ("i32", "i64", "f32", "f64"):
            yield _row("tt.scan", f"cumsum, exact{after}", t, t, whole, _integers(t), scanning("cumsum", reverse))
            yield _row("tt.scan", f"max{after}", t, t, whole, _any(t), scanning("max", reverse))
        for t in ("i32", "i64"):
            yield _row("tt.scan", f"cumprod{after}", t, t, whole, _integers(t), scanning("cumprod", reverse))
            yield _row("tt.scan", f"affine pairs{after}", t, t, whole, _integers(t), scanning("affine", reverse))


_SHAPES = {
    "trans": ("tt.trans", 1), "permute": ("tt.trans", 1), "reshape": ("tt.reshape", 1), "split": ("tt.split", 0.5),
    "join": ("tt.join", 2), "interleave": ("tt.join", 2), "flip": ("tt.reshape", 1), "sort": ("tt.reshape, select", 1),
    "sort descending": ("tt.reshape, select", 1), "topk": ("tt.reshape, select", 0), "cat": ("tt.cat", 2),
    "broadcast": ("tt.broadcast", 1),
}  # fmt: skip


def _layouts() -> Iterator[Row]:
    for how, (op, size) in _SHAPES.items():
        count = int(_ROWS * _COLUMNS * size) or _ROWS * 8
        for t in ("i32", "f32", "i8") if how not in ("cat", "broadcast") else ("i32",):

            def launch(x: Any, out: Any, how: str = how) -> None:
                kernels.shape[(1,)](x, out, how, _ROWS, _COLUMNS)

            make = _integers(t) if is_float(t) or t == "i8" else _any(t)
            yield _row(op, how, t, t, (count,), make, launch)
    for axis in (0, 1):
        most = (_ROWS, _COLUMNS)[axis]

        def made(rng: np.random.Generator, most: int = most) -> Arrays:
            return [*_any("f32")(rng), rounded(rng.integers(0, most, (_ROWS, _COLUMNS)), "i32")]

        def gathered(x: Any, index: Any, out: Any, axis: int = axis) -> None:
            kernels.gather[(1,)](x, index, out, axis, _ROWS, _COLUMNS)

        yield _row("tt.gather", f"along axis {axis}", "f32 i32", "f32", (_ROWS, _COLUMNS), made, gathered)
    for is_masked in (False, True):

        def counted(x: Any, out: Any, is_masked: bool = is_masked) -> None:
            kernels.histogram[(1,)](x, out, is_masked, 1024, 64)

        what = "64 bins, masked" if is_masked else "64 bins"
        yield _row(
            "tt.histogram", what, "i32", "i32", (64,), lambda rng: [rounded(rng.integers(0, 64, 1024), "i32")], counted
        )


# -- memory ----------------------------------------------------------------------------------------------------


def _atomics() -> Iterator[Row]:
    count = 1 << 12
    kinds = {
        "add": ("i32", "i64", "u32", "f16", "bf16", "f32", "f64"),
        "max": ("i32", "i64", "u32", "u64", "f32", "f64"),
        "min": ("i32", "i64", "u32", "u64", "f32", "f64"),
        **dict.fromkeys(("and", "or", "xor"), ("i32", "i64", "u32")),
        "xchg": ("i32", "i64", "f32", "f64"),
        "cas": ("i32", "i64", "u32"),
    }
    for how, types in kinds.items():
        for t in types:
            for old in (False, True):

                def make(rng: np.random.Generator, t: str = t, how: str = how) -> Arrays:
                    cells, values = (rng.permutation(x)[:count] for x in operands((t, t), 1 << 13))
                    if how == "cas":
                        cells = np.where(rng.random(count) < 0.5, values & 7, cells)
                    return [cells, values]

                def launch(cells: Any, values: Any, out: Any, how: str = how, old: bool = old) -> None:
                    kernels.atomic[(count // 512,)](cells, values, out, how, old, 512)

                op = "tt.atomic_cas" if how == "cas" else "tt.atomic_rmw"
                yield _row(op, f"{how}, {'old values' if old else 'cells'}", f"{t} {t}", t, (count,), make, launch)
    for t in ("i32", "i64", "f16", "bf16", "f32", "f64"):

        def contended(values: Any, out: Any) -> None:
            kernels.contended[(8,)](values, out, 512, 64)

        yield _row(
            "tt.atomic_rmw", "add, many to a cell", t, t, (64,),
            lambda rng, t=t: [rounded(rng.integers(-2, 3, count), t)], contended,
        )  # fmt: skip


def _memory() -> Iterator[Row]:
    for how in ("load", "load of blocks", "store", "as 32 bits"):
        for t in ("i8",) if how == "as 32 bits" else ("i8", "i16", "f16", "f32", "i64"):

            def launch(x: Any, out: Any, how: str = how) -> None:
                kernels.masked[(8,)](x, out, 3001, how, 512)

            op = {"store": "tt.store", "as 32 bits": "tt.bitcast of pointers"}.get(how, "tt.load")
            yield _row(op, f"masked {how}", t, t, (1 << 12,), _any(t), launch)
    for how, op in {"for": "scf.for", "while": "scf.while", "if": "scf.if", "return": "cf.cond_br"}.items():

        def run(x: Any, out: Any, how: str = how) -> None:
            kernels.flow[(1 << 12,)](x, out, how, 1)

        yield _row(op, "programs that differ", "i32", "i32", (1 << 12,), _any("i32"), run)


def _workspace(x: torch.Tensor) -> None:
    """Descriptors made on the device need memory that the launcher gives them."""
    device = x.device
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=device))


def _descriptors() -> Iterator[Row]:
    m, n, bm, bn = 50, 80, 32, 64
    grid = (2, 2)
    for how, types in {
        "copy": ("f16", "f32", "i8"),
        "beyond": ("f32", "i32"),
        "add": ("i32", "f32", "f16"),
        "max": ("i32", "i64"),
    }.items():
        for t in types:

            def launch(x: Any, out: Any, how: str = how) -> None:
                _workspace(x)
                kernels.descriptor[grid](x, out, how, m, n, bm, bn)

            op = "tt.descriptor_reduce" if how in ("add", "max") else "tt.descriptor_load, store"
            yield _row(
                op, f"{how}, blocks over the edge", t, t, (m, n),
                lambda rng, t=t: [rounded(rng.integers(-9, 10, (m, n)), t)], launch,
            )  # fmt: skip

    def host(x: Any, out: Any) -> None:
        ends = [TensorDescriptor.from_tensor(tensor, [bm, bn]) for tensor in (x, out)]
        kernels.host_descriptor[grid](*ends, bm, bn)

    yield _row(
        "tt.descriptor_load, store", "made on the host", "f16", "f16", (m, n),
        lambda rng: [rounded(rng.integers(-9, 10, (m, n)), "f16")], host,
    )  # fmt: skip


# -- the included GEMM -----------------------------------------------------------------------------------------

_GEMM = (
    ("BM32_BN32_BK128", 101, 97, 224, "exact"), ("BM4_BN16_BK128", 5, 40, 96, "exact"),
    ("BM16_BN32_BK128_KS2", 33, 65, 512, "ties"), ("BM64_BN64_BK256", 130, 70, 544, "exact"),
    ("BM32_BN64_BK256_GM16", 100, 200, 320, "zeros"), ("BM32_BN32_BK128_KS4", 64, 64, 1024, "maxima"),
    ("BM128_BN128_BK256", 150, 140, 256, "exact"),
)  # fmt: skip
_OUT = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


def _matrices(m: int, n: int, k: int, regime: str) -> tuple[MXFP4, MXFP4]:
    rng = np.random.default_rng(11)
    return oracle.generate.blocks(regime, m, k, rng), oracle.generate.blocks(regime, n, k, rng)


def gemm_expected(config: str) -> oracle.Expected:
    """What the oracle says of a row of the GEMM; all of it certified."""
    m, n, k, regime = next(row[1:] for row in _GEMM if row[0] == config)
    return oracle.gemm(*_matrices(m, n, k, regime))


def _gemms() -> Iterator[Row]:
    for config, m, n, k, regime in _GEMM:
        for t in _OUT:

            def make(_: Any, m: int = m, n: int = n, k: int = k, regime: str = regime) -> Arrays:
                a, b = _matrices(m, n, k, regime)
                return [a.codes, b.codes, a.scales, b.scales]

            def launch(
                a: Any,
                b: Any,
                sa: Any,
                sb: Any,
                out: Any,
                config: str = config,
                shape: Any = (m, n),
                regime: Any = (k, regime),
            ) -> None:
                gemm_afp4wfp4(a, b, sa, sb, out, config=CONFIGS[config])
                expected = oracle.gemm(*_matrices(*shape, *regime))
                assert expected.certified.all(), "inputs that are not certified"
                kind = {2: torch.int16, 4: torch.int32}[out.element_size()]
                dtype = str(out.dtype).removeprefix("torch.")
                wrong = oracle.compare(out.cpu().view(kind).numpy(), dtype, expected)
                assert wrong is None, f"not the oracle's: {wrong}".replace("\n", " ")

            what = f"{config}, {m}x{n}x{k}, {regime}; the oracle's too"
            yield _row("gemm_afp4wfp4", what, "u8 u8 u8 u8", t, (m, n), make, launch)


def rows() -> list[Row]:
    """All of them."""
    assert set(_OUT) <= set(TYPES)
    parts = (_products, _scaled, _combined, _layouts, _atomics, _memory, _descriptors, _gemms)
    return [row for part in parts for row in part()]
