"""The certificate is neither wrong nor vacuous: certified sums have one value in every order, others have several.

The normal suite looks at a sample of shapes. `FP4GUARD_EXHAUSTIVE=1` makes it thousands:

    FP4GUARD_EXHAUSTIVE=1 pytest -n auto tests/oracle/test_orders.py
"""

import os

import numpy as np
import pytest

from fp4guard.formats import BLOCK_FORMATS, MXFP4, BlockScaled
from fp4guard.oracle import REGIMES, Accumulator, gemm, generate

FULL = os.environ.get("FP4GUARD_EXHAUSTIVE") == "1"
SHAPES = 8000 if FULL else 400
PARTS = 16 if FULL else 1
CERTIFIED = [name for name, regime in REGIMES.items() if regime.certified]
KINDS = [*BLOCK_FORMATS.values(), "bfloat16", "float16", "float32"]
F32 = np.float32

#: Of MXFP4 with any codes, by k: the largest d with 144 k 2^d <= 2^24, how far apart products of scales may be.
SPREADS = {64: 10, 128: 9, 1024: 6, 4096: 4, 8192: 3}


def sequential(terms, rng):
    return np.cumsum(terms, axis=-1, dtype=F32)[..., -1]


def at_random(terms, rng):
    return sequential(terms[..., rng.permutation(terms.shape[-1])], rng)


def pairwise(terms, rng):
    while terms.shape[-1] > 1:
        if terms.shape[-1] % 2:
            terms = np.concatenate([terms, np.zeros_like(terms[..., :1])], axis=-1)
        terms = terms[..., 0::2] + terms[..., 1::2]
    return terms[..., 0]


def split(terms, rng):
    cuts = np.sort(rng.choice(np.arange(1, terms.shape[-1]), min(7, terms.shape[-1] - 1), replace=False))
    parts = [sequential(part, rng) for part in np.split(terms, cuts, axis=-1)]
    return sequential(np.stack(parts, axis=-1), rng)


def truncating(terms, rng):
    """A matrix unit: the accumulator and a group of products are aligned to the largest, cut, added, and cut again."""
    group = int(rng.choice([4, 8, 16, 32]))
    terms = np.concatenate([terms, np.zeros((*terms.shape[:-1], -terms.shape[-1] % group), F32)], axis=-1)
    total = np.zeros(terms.shape[:-1])
    for start in range(0, terms.shape[-1], group):
        aligned = np.concatenate([total[..., None], terms[..., start : start + group].astype(np.float64)], axis=-1)
        total = cut(cut(aligned, np.abs(aligned).max(axis=-1, keepdims=True)).sum(axis=-1))
    return total.astype(F32)


def cut(values, largest=None):
    """Toward zero, to the 24 bits of the largest, or of each by itself."""
    exponent = np.frexp(np.abs(values) if largest is None else largest)[1]
    return np.ldexp(np.trunc(np.ldexp(values, 24 - exponent)), exponent - 24)


ORDERS = [sequential, at_random, pairwise, split, truncating]


def sums(a, b, rng):
    """Each order's float32 sums of the products, which are exact in float32: (orders, m, n)."""
    with np.errstate(all="ignore"):
        products = a.astype(F32)[:, None, :] * b.astype(F32)[None, :, :]
        return np.stack([order(products, rng) for order in ORDERS])


def operand(kind, regime, rows, k, rng):
    if isinstance(kind, str):
        return generate.dense(regime, (rows, k), kind, rng).astype(F32)
    matrix = generate.blocks(regime, rows, k, rng, kind)
    return BlockScaled(kind, matrix.elements, matrix.scales)


def values(matrix):
    return np.nan_to_num(matrix.decode() if isinstance(matrix, BlockScaled) else matrix)


@pytest.mark.parametrize("part", range(PARTS))
def test_certified_sums_have_one_value_in_every_order(part):
    rng = np.random.default_rng([part, 0])
    certified = total = 0
    for _ in range(SHAPES // PARTS):
        m, n, k = (*(int(x) for x in rng.integers(1, 7, 2)), int(32 * 2 ** rng.uniform(0, 6)) // 32 * 32)
        regime = str(rng.choice([*CERTIFIED, "wild"]))
        a, b = (operand(KINDS[rng.integers(len(KINDS))], regime, rows, k, rng) for rows in (m, n))
        expected = gemm(a, b)
        sure = expected.certified & ~expected.nan & ~np.isinf(expected.value)
        for result in sums(values(a), values(b), rng):
            np.testing.assert_array_equal(result[sure], expected.value[sure])
        certified += int(sure.sum())
        total += sure.size
    assert certified > total / 2


def spread(k, by, rng):
    """Two MXFP4 matrices of positive codes: half of the blocks have products of scales that are 2^by of the others'."""
    large = rng.permutation(np.arange(k // 32) % 2)
    return [
        BlockScaled(
            MXFP4, rng.integers(1, 8, (6, k), dtype=np.uint8), np.tile((127 + part * large).astype(np.uint8), (6, 1))
        )
        for part in (by // 2, by - by // 2)
    ]


def first_beyond(k, bits, rng):
    """Such matrices, none of whose sums is certified at `bits` any more, but all or some with one step less."""
    for by in range(40):
        a, b = spread(k, by, rng)
        if not gemm(a, b, Accumulator(bits=bits)).certified.any():
            return a, b
    raise AssertionError("all of them are certified")


@pytest.mark.parametrize("k", list(SPREADS))
def test_the_worst_codes_are_certified_up_to_the_limit_and_no_farther(k):
    # All the largest under the largest scale but for one product, the smallest codes' under the smallest scale.
    for by, certified in ((SPREADS[k], True), (SPREADS[k] + 2, False)):
        matrices = []
        for width in (by // 2, by - by // 2):
            elements, scales = np.full((1, k), 7, np.uint8), np.full((1, k // 32), 127 + width, np.uint8)
            elements[:, 0], scales[:, 0] = 1, 127
            matrices.append(BlockScaled(MXFP4, elements, scales))
        assert bool(gemm(*matrices).certified.all()) == certified


@pytest.mark.parametrize("k", [64, 128, 1024, 4096])
def test_two_steps_beyond_the_limit_orders_differ_often(k):
    differing = []
    for seed in range(100 if FULL else 4):
        rng = np.random.default_rng(seed)
        a, b = first_beyond(k, 26, rng)
        results = sums(values(a), values(b), rng)
        differing.append((results != results[0]).any(axis=0).mean())
    assert np.mean(differing) > 0.8


@pytest.mark.parametrize("k", [128, 1024])
def test_a_certificate_of_two_bits_too_many_would_be_found_out(k):
    # The experiment has the power to tell: at 26 bits there are matrices that are certified and whose sums differ.
    wrong = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        a, b = first_beyond(k, 24, rng)
        claimed = gemm(a, b, Accumulator(bits=26)).certified
        results = sums(values(a), values(b), rng)
        wrong += int((claimed & (results != results[0]).any(axis=0)).sum())
    assert wrong > 0
