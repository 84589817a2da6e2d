"""Element types, and the operands that operations are given: all codes of the short types, else specials and random."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import torch

#: Names of rows' types: floats, then integers as Triton sees them.
TYPES = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
    **{f"i{n}": getattr(torch, f"int{n}") for n in (8, 16, 32, 64)},
    **{f"u{n}": getattr(torch, f"uint{n}") for n in (8, 16, 32, 64)},
}
FLOATS = ("f16", "bf16", "f32", "f64")
SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
WIDTH = {name: dtype.itemsize for name, dtype in TYPES.items()}

_RAW = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SMALL = [0, 1, 2, 3, 7, 8, 10, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256]
#: Where formats end, and where integers do.
_VALUES = [
    *map(float, _SMALL), 0.5, 1.5, 2.5, 0.75, np.pi, np.e, 1 / 3, 1e-3, 1e10, 89.0, 0.1, 5.5, 6.0, 448.0, 464.0,
    465.0, 57344.0, 61440.0, 65504.0, 65519.0, 65520.0, 2.0**31 - 1, 2.0**31, 2.0**32, 2.0**63, 2.0**64, 2.0**24 + 1,
    2.0**-6, 2.0**-9, 2.0**-10, 2.0**-14, 2.0**-24, 2.0**-25, 2.0**-126, 2.0**-149, 2.0**-1022, 2.0**-1074, np.inf,
]  # fmt: skip


def is_float(name: str) -> bool:
    return name in FLOATS or name in ("e4m3", "e5m2")


def tensor(raw: np.ndarray, name: str) -> torch.Tensor:
    """Bits as a tensor of a type."""
    return torch.from_numpy(np.ascontiguousarray(raw).view(f"i{WIDTH[name]}").copy()).view(TYPES[name])


def raw(values: torch.Tensor) -> np.ndarray:
    """The bits of a tensor, unsigned."""
    width = values.element_size()
    return values.contiguous().view(_RAW[width]).cpu().numpy().view(f"u{width}")


def rounded(values: np.ndarray, name: str) -> np.ndarray:
    """float64 or integers as the bits of a type."""
    if is_float(name):
        return raw(torch.from_numpy(np.asarray(values, np.float64)).to(TYPES[name]))
    return np.asarray(values).astype(np.int64).astype(f"u{WIDTH[name]}")


def values_of(bits: np.ndarray, name: str) -> np.ndarray:
    """Bits as float64, or as integers."""
    if is_float(name):
        return tensor(bits, name).to(torch.float64).numpy()
    return bits.view(f"{'i' if name in SIGNED else 'u'}{WIDTH[name]}")


def specials(name: str) -> np.ndarray:
    """The numbers at which things go wrong."""
    kind = f"u{WIDTH[name]}"
    bits = 8 * WIDTH[name]
    if not is_float(name):
        ends = [(1 << n) + d for n in (7, 8, 15, 16, 31, 32, 53, 63, 64) for d in (-1, 0, 1) if n <= bits]
        numbers = {n % (1 << bits) for value in (*_SMALL, *ends) for n in (value, -value)}
        return np.array(sorted(numbers), np.uint64).astype(kind)
    sign = np.array(1 << (bits - 1), kind)
    if bits == 8:
        return np.arange(256).astype(kind)
    positive = rounded(np.array(_VALUES), name)
    infinity = rounded(np.array([np.inf]), name)[0]
    least_normal = rounded(np.array([{"f16": 2.0**-14, "f64": 2.0**-1022}.get(name, 2.0**-126)]), name)[0]
    one = rounded(np.array([1.0]), name)[0]
    near = [one + 1, one - 1, infinity - 1, least_normal - 1, least_normal, infinity + infinity // 100]
    positive = np.unique(np.concatenate([positive, np.array(near, np.uint64).astype(kind)]))
    return np.concatenate([positive, positive | sign])


def _random(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """A third any bits, a third of ordinary size, a third small."""
    kind, third = f"u{WIDTH[name]}", count // 3
    bits = rng.integers(0, 1 << 64, third, np.uint64).astype(kind)
    rest = count - 2 * third
    if is_float(name):
        return np.concatenate([bits, rounded(rng.normal(0, 10, third), name), rounded(rng.uniform(-1, 1, rest), name)])
    small = rng.integers(-100, 101, third).astype(kind)
    return np.concatenate([bits, small, rng.integers(0, 8 * WIDTH[name], rest).astype(kind)])


def operands(types: tuple[str, ...], count: int = 1 << 15, seed: int = 0) -> list[np.ndarray]:
    """`count` operands of each type (65536 where these are all combinations of codes)."""
    rng = np.random.default_rng(seed)
    if sum(WIDTH[t] for t in types) <= 2:
        size = 256 if sum(WIDTH[t] for t in types) == 1 else 1 << 16
        codes = np.arange(size)
        if len(types) == 2:
            return [(codes >> 8).astype("u1"), (codes & 0xFF).astype("u1")]
        return [codes.astype(f"u{WIDTH[types[0]]}")]
    pools = [specials(t) for t in types]
    limit = count // 2
    if np.prod([len(p) for p in pools]) > limit:  # of three operands, some of all combinations
        most = int(limit ** (1 / len(pools)))
        pools = [rng.permutation(p)[:most] for p in pools]
    first = [np.array(column, p.dtype) for column, p in zip(zip(*product(*pools)), pools)]
    # A random order within thirds, so that operands of every size meet.
    drawn = [rng.permutation(_random(t, count - len(first[0]), rng)) for t in types]
    quarter = len(drawn[0]) // 4
    for (a, b), (s, t) in zip(pairwise(drawn), pairwise(types)):
        if s == t:  # equal operands, and neighbours
            b[:quarter] = a[:quarter]
            b[quarter : quarter + quarter // 2] = a[quarter : quarter + quarter // 2] ^ 1
    if len(types) == 3 and is_float(types[2]):  # what a fused multiply-add cancels
        with np.errstate(all="ignore"):
            cancel = -(values_of(drawn[0], types[0]) * values_of(drawn[1], types[1]))
        drawn[2][quarter:] = np.where(np.arange(len(cancel)) % 2, rounded(cancel, types[2]), drawn[2])[quarter:]
    return [np.concatenate(pair) for pair in zip(first, drawn)]
