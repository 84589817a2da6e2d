"""MQA logits against torch in float64 and float32 kernels, right ones and mistaken ones."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import E4M3, KV_16X16, codec
from fp4guard.oracle import FP8_HOPPER, FP32_TRUNCATING, NanOperand, PagedKeys, compare, mqa_logits

F32 = np.float32
seeds = st.integers(0, 2**32 - 1)
HEADS, SIZE = 4, 32


def in_float32(rows, k):
    """Dot products of float32 [heads, size] with [size], one term after the other."""
    return np.cumsum(rows * k, axis=1, dtype=F32)[:, -1]


def in_14_bits(rows, k):
    """The same as the FP8 tensor cores of Hopper do it: terms are cut 13 bits below the largest."""
    total = np.zeros(len(rows))
    for start in range(0, SIZE, 8):
        terms = np.column_stack([total, rows[:, start : start + 8].astype(float) * k[start : start + 8]])
        step = np.exp2(np.frexp(np.abs(terms).max(axis=1))[1] - 14.0)[:, None]
        total = (np.trunc(terms / step) * step).sum(axis=1)
    return total.astype(F32)


class Problem:
    """A small cache, its pages in any order. Of integers, all sums are exact; of other numbers, none is."""

    def __init__(self, seed, *, integers=True, next_n=2, tokens=16, max_model_len=70, lengths=(0, 1, 17, 70)):
        rng = self.rng = np.random.default_rng(seed)
        self.max_model_len, self.tokens, self.next_n = max_model_len, tokens, next_n
        self.lengths = np.array(lengths, np.int32)
        pages = -(-max_model_len // tokens)
        blocks = len(lengths) * pages
        self.tables = rng.permutation(blocks).reshape(len(lengths), pages).astype(np.int32)
        rows = len(lengths) * next_n
        if integers:
            draw = lambda shape: rng.integers(-3, 4, shape).astype(np.float64)  # noqa: E731
            self.weights = rng.integers(-3, 4, (rows, HEADS)).astype(F32)
            scales = np.exp2(rng.integers(-2, 3, (blocks, tokens)))
        else:
            draw = lambda shape: codec.decode(E4M3, codec.encode(E4M3, rng.normal(size=shape).astype(F32)))  # noqa: E731
            self.weights = rng.normal(size=(rows, HEADS)).astype(F32)
            scales = rng.uniform(0.5, 2, (blocks, tokens)).astype(F32)
        self.q = torch.from_numpy(draw((len(lengths), next_n, HEADS, SIZE)).astype(F32)).to(torch.float8_e4m3fn)
        self.keys = PagedKeys(draw((blocks, tokens, SIZE)).astype(np.float64), scales.astype(np.float64))

    def expect(self, **changes):
        arguments = {
            "q": self.q, "keys": self.keys, "weights": self.weights, "context_lens": self.lengths,
            "block_tables": self.tables, "max_model_len": self.max_model_len, "chunk": 16, **changes,
        }  # fmt: skip
        return mqa_logits(**arguments)

    def kernel(self, before, chunk=16, mistake=None, dot=in_float32):
        """float32, token after token."""
        q = self.q.float().numpy()
        out = before.copy()
        for b, length in enumerate(self.lengths.tolist()):
            for t in range(min(-(-length // chunk) * chunk, self.max_model_len)):
                page = self.tables[b, t // self.tokens]
                for n in range(self.next_n):
                    row = b * self.next_n + n
                    last = length - self.next_n + n + (mistake == "causal rule")
                    if t > last or t >= length:
                        out[row, t] = -np.inf
                        continue
                    k = self.keys.values[page, t % self.tokens].astype(F32)
                    scale = F32(self.keys.scales[page, (t + (mistake == "scale")) % self.tokens])
                    score = dot(q[b, n], k) * scale
                    score = score if mistake == "no relu" else np.maximum(score, F32(0))
                    weights = self.weights[row]
                    if mistake == "relu last":
                        out[row, t] = max(F32(0), (score * weights).sum(dtype=F32))
                    else:
                        out[row, t] = np.cumsum((score * weights)[self.rng.permutation(HEADS)], dtype=F32)[-1]
        return out

    def before(self):
        shape = (len(self.lengths) * self.next_n, self.max_model_len)
        return self.rng.normal(size=shape).astype(F32)


def allowed(result, expected):
    return compare(result.view(np.uint32), "float32", expected) is None


@given(seeds, st.sampled_from([1, 2]), st.booleans(), st.sampled_from([1, 16, 24, 256]))
def test_a_correct_kernel_passes_and_integers_are_certified(seed, next_n, integers, chunk):
    p = Problem(seed, integers=integers, next_n=next_n)
    logits = p.expect(chunk=chunk)
    before = p.before()
    assert allowed(p.kernel(before, chunk), logits.over(before))
    assert allowed(p.kernel(before, chunk), logits.expected)
    assert logits.expected.certified[logits.written].all() == integers


def test_the_adder_of_hopper_is_a_policy():
    """Seen on an H100: products of FP8 are off by far more than float32's adder could be."""
    for seed in range(5):
        p, before = Problem(seed, integers=False), 0.0
        narrow = p.kernel(np.zeros((8, 70), F32), dot=in_14_bits)
        assert allowed(narrow, p.expect(accumulator=FP8_HOPPER).over(before))
        assert not allowed(narrow, p.expect(accumulator=FP32_TRUNCATING).over(before))
        p = Problem(seed)
        assert allowed(p.kernel(np.zeros((8, 70), F32), dot=in_14_bits), p.expect(accumulator=FP8_HOPPER).over(before))


@given(seeds)
def test_the_whole_formula_in_float64(seed):
    p = Problem(seed, integers=False, lengths=(33, 70))
    expected = p.expect().over(-np.inf)
    keys = torch.from_numpy(p.keys.values[p.tables].reshape(2, -1, SIZE))[:, :70]
    scales = torch.from_numpy(p.keys.scales[p.tables].reshape(2, -1))[:, :70]
    dots = torch.einsum("bnhd,btd->bnht", p.q.double(), keys) * scales[:, None, None]
    logits = (torch.relu(dots) * torch.from_numpy(p.weights).double().reshape(2, 2, HEADS, 1)).sum(dim=2)
    last = torch.from_numpy(p.lengths)[:, None] - 2 + torch.arange(2)
    logits = torch.where(torch.arange(70) <= last[..., None], logits, -torch.inf).reshape(4, 70).numpy()
    finite = np.isfinite(logits)
    np.testing.assert_array_equal(np.isfinite(expected.value), finite)
    np.testing.assert_allclose(expected.value[finite], logits[finite], rtol=1e-12, atol=1e-12)
    assert (expected.low[finite] <= logits[finite]).all()
    assert (logits[finite] <= expected.high[finite]).all()
    assert (expected.bound[finite] < 1e-3).all()


def test_against_rational_arithmetic():
    p = Problem(1, integers=False, lengths=(20,), next_n=1)
    expected = p.expect().expected
    q = p.q.double().numpy()
    for t in range(20):
        page, offset = p.tables[0, t // 16], t % 16
        k, scale = p.keys.values[page, offset], Fraction(float(p.keys.scales[page, offset]))
        exact = Fraction(0)
        for head in range(HEADS):
            dot = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(q[0, 0, head], k))
            exact += Fraction(float(p.weights[0, head])) * max(Fraction(0), scale * dot)
        assert Fraction(expected.low[0, t]) <= exact <= Fraction(expected.high[0, t])


@pytest.mark.parametrize("mistake", ["causal rule", "scale", "no relu", "relu last"])
@pytest.mark.parametrize("integers", [True, False])
def test_planted_mistakes_are_outside(mistake, integers):
    p = Problem(0, integers=integers)
    before = p.before()
    assert allowed(p.kernel(before), p.expect().over(before))
    assert not allowed(p.kernel(before, mistake=mistake), p.expect().over(before))


class TestWritten:
    def test_whole_chunks_up_to_the_length_of_a_row_of_the_tensor(self):
        p = Problem(0, next_n=1)
        for chunk, ends in ((1, [0, 1, 17, 70]), (16, [0, 16, 32, 70]), (64, [0, 64, 64, 70]), (256, [0, 70, 70, 70])):
            written = p.expect(chunk=chunk).written
            assert written.sum(axis=1).tolist() == ends
            assert (written == (np.arange(70) < np.array(ends)[:, None])).all()

    def test_a_store_beyond_the_last_chunk_is_found_by_what_was_there_before(self):
        p = Problem(0)
        before = p.before()
        beyond = p.kernel(before)
        beyond[2, 40] = -np.inf
        assert not allowed(beyond, p.expect().over(before))
        assert allowed(beyond, p.expect().expected)
        assert not allowed(beyond, p.expect().over(1.0))

    def test_positions_of_a_processed_chunk_that_are_left_as_they_were_are_wrong(self):
        p = Problem(0)
        before = p.before()
        result = p.kernel(before)
        result[2, 5] = before[2, 5]
        assert not allowed(result, p.expect().over(before))

    def test_rows_of_new_tokens_that_precede_the_context(self):
        # One token of context, two new ones: the first row has nothing to attend to.
        p = Problem(0, lengths=(1,), next_n=2)
        expected = p.expect().expected
        assert (expected.value[0, :16] == -np.inf).all()
        assert np.isfinite(expected.value[1, 0])


class TestCache:
    @pytest.mark.parametrize("layout", [None, KV_16X16])
    def test_bytes_plain_and_preshuffled(self, layout):
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 127, (3, 16, 64), dtype=np.uint8)
        scales = rng.uniform(0.5, 2, (3, 16)).astype(F32)
        stored = codes
        if layout is not None:  # the form of the kernel's own host code
            stored = codes.reshape(3, 1, 16, 2, 2, 16).transpose(0, 1, 3, 4, 2, 5)
        cache = np.concatenate([stored.reshape(3, -1), scales.view(np.uint8).reshape(3, -1)], axis=1)
        arguments = {} if layout is None else {"layout": layout}
        keys = PagedKeys.from_bytes(torch.from_numpy(cache.reshape(3, 16, 1, 68)), 16, 64, **arguments)
        torch_says = torch.from_numpy(codes).view(torch.float8_e4m3fn).double().numpy()
        np.testing.assert_array_equal(keys.values, torch_says)
        np.testing.assert_array_equal(keys.scales, scales)

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(ValueError, match=r"cache: shape \(2, 100\); allowed is 1088 bytes a block"):
            PagedKeys.from_bytes(np.zeros((2, 100), np.uint8), 16, 64)
        with pytest.raises(TypeError, match="cache: dtype int8"):
            PagedKeys.from_bytes(np.zeros((2, 1088), np.int8), 16, 64)
        with pytest.raises(ValueError, match=r"values, scales: shapes \(2, 3, 4\), \(2, 4\)"):
            PagedKeys(np.zeros((2, 3, 4)), np.zeros((2, 4)))


def test_max_of_0_and_nan_is_a_policy():
    p = Problem(0, lengths=(3,), next_n=1)
    p.keys.values[p.tables[0, 0], 1, 0] = np.nan
    assert p.expect().expected.value[0, 1] == 0
    assert p.expect(nan=NanOperand.PROPAGATE).expected.nan[0, :3].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"context_lens": np.array([0, 1, 17, 71])}, "context_lens: 71; allowed with max_model_len 70 .* 0 .. 70"),
        ({"context_lens": np.array([0, 1, -1, 7])}, "context_lens: -1"),
        ({"context_lens": np.array([1])}, r"shapes \(1,\)"),
        ({"block_tables": np.full((4, 5), 99)}, "block_tables: 99; allowed are 0 .. 19"),
        ({"block_tables": np.zeros((4, 4), int)}, "context_lens: 70; .* 4 blocks of 16 are 0 .. 64"),
        ({"weights": np.zeros((8, 3))}, r"weights: shape \(8, 3\); allowed is .* \(8, 4\)"),
        ({"q": np.zeros((4, 2, 4, 8))}, r"q: shape \(4, 2, 4, 8\); allowed is \(B, next_n, H, 32\)"),
        ({"chunk": 0}, "chunk: 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        Problem(0).expect(**changes)
