"""The codecs against their definition: every code, and all kinds of values where an answer changes, by policy."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import E2M1, E4M3, E4M3FNUZ, E5M2, E8M0, FLOAT16, FLOAT32, FORMATS, codec, round_to
from fp4guard.formats.arithmetic import code_dtype
from fp4guard.formats.policies import NanElement, Overflow, Rounding, ZeroSign
from fp4guard.formats.scalar import decode_scalar, encode_scalar

SMALL = [fmt for fmt in FORMATS.values() if fmt.width <= 8]
LARGE = [fmt for fmt in FORMATS.values() if fmt.width > 8]
NEAREST_AND_TOWARD_ZERO = [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC]
EXTREMES = [0.0, 2.0**-149, 2.0**-126, 1e-30, 1e30, 2.0**127, 3.4028234663852886e38, np.inf]
name = lambda row: row.name  # noqa: E731


def all_codes(fmt):
    return np.arange(fmt.codes, dtype=code_dtype(fmt))


def policies(fmt):
    """Every combination that a format has an answer to, but for the rounding."""
    overflows = Overflow if (fmt.nan, fmt.infinity) != (None, None) else [Overflow.SATURATE]
    nans = [NanElement.RAISE] if fmt.nan is not None else [NanElement.ZERO, NanElement.MAX]
    for overflow, nan, zero_sign in itertools.product(overflows, nans, ZeroSign):
        yield {"overflow": overflow, "nan": nan, "zero_sign": zero_sign}


def some_codes(fmt):
    """All codes of the finite magnitudes, of large formats those at the ends, at powers of two, and some others."""
    if fmt.width <= 8:
        return range(fmt.max_code + 1)
    steps = range(0, fmt.max_code, max(1, fmt.max_code // 12) | 1)
    powers = range(1 << fmt.mantissa_bits, fmt.max_code, max(1 << fmt.mantissa_bits, fmt.max_code // 12))
    return sorted({0, 1, 2, *steps, *powers, *(p - 1 for p in powers), fmt.max_code - 1, fmt.max_code})


def around(points, dtype, steps=4):
    """The points that the type holds, and their neighbours up to `steps` ulps away, of both signs."""
    with np.errstate(over="ignore", under="ignore"):
        held = np.array(points, np.float64).astype(dtype)
        rows = [held]
        for direction in (np.inf, -np.inf):
            row = held
            for _ in range(steps):
                row = np.nextafter(row, dtype(direction))
                rows.append(row)
    found = np.unique(np.abs(np.concatenate(rows)))
    return found if dtype is np.float16 else np.concatenate([found, -found])


def boundaries(fmt, dtype=np.float64):
    """Values, middles between them, the next value if there were one and the middle to it, extremes; all neighbours."""
    values = [decode_scalar(fmt, code) for code in some_codes(fmt)]
    following = [decode_scalar(fmt, min(code + 1, fmt.max_code)) for code in some_codes(fmt)]
    top = fmt.max - decode_scalar(fmt, fmt.max_code - 1)
    middles = [(a + b) / 2 for a, b in zip(values, following)]
    points = around([*values, *middles, fmt.max + top / 2, fmt.max + top, fmt.smallest / 2, *EXTREMES], dtype)
    return points if fmt.has_sign else points[points > 0]


def defined(fmt, values, rounding, random=None, **chosen):
    words = itertools.repeat(None) if random is None else map(int, random)
    found = [encode_scalar(fmt, float(v), rounding, random=word, **chosen) for v, word in zip(values, words)]
    return np.array(found, code_dtype(fmt))


class TestDecode:
    @pytest.mark.parametrize("fmt", [f for f in FORMATS.values() if f.width <= 16], ids=name)
    def test_every_code_is_its_definition(self, fmt):
        found = codec.decode(fmt, all_codes(fmt))
        expected = np.array([decode_scalar(fmt, code) for code in range(fmt.codes)], np.float32)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])

    @given(st.lists(st.integers(0, 2**32 - 1)))
    def test_float32_is_its_bits(self, codes):
        codes = np.array(codes, np.uint32)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(codec.decode(FLOAT32, codes), codes.view(np.float32))

    def test_shapes_and_strides(self):
        codes = np.arange(16, dtype=np.uint8).reshape(4, 4)
        np.testing.assert_array_equal(codec.decode(E2M1, codes.T), codec.decode(E2M1, codes).T)
        assert codec.decode(E2M1, codes[:0]).shape == (0, 4)
        assert codec.decode(E2M1, np.uint8(7)) == 6

    @pytest.mark.parametrize(
        ("fmt", "codes", "error", "match"),
        [
            (E2M1, np.array([3, 0x17], np.uint8), ValueError, "0x17; e2m1 allows 0x00 .. 0x0f"),
            (FORMATS["e3m2"], np.array([0x40], np.uint8), ValueError, "0x40; e3m2 allows 0x00 .. 0x3f"),
            (E2M1, np.array([1]), TypeError, "int64; e2m1 allows uint8"),
            (FLOAT16, np.array([1], np.uint8), TypeError, "uint8; float16 allows uint16"),
        ],
    )
    def test_refused(self, fmt, codes, error, match):
        with pytest.raises(error, match=match):
            codec.decode(fmt, codes)


class TestEncode:
    @pytest.mark.parametrize("rounding", NEAREST_AND_TOWARD_ZERO, ids=name)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("fmt", FORMATS.values(), ids=name)
    def test_every_boundary_is_its_definition(self, fmt, dtype, rounding):
        values = boundaries(fmt, dtype)
        np.testing.assert_array_equal(codec.encode(fmt, values, rounding), defined(fmt, values, rounding))

    @pytest.mark.parametrize("rounding", NEAREST_AND_TOWARD_ZERO, ids=name)
    @pytest.mark.parametrize("fmt", FORMATS.values(), ids=name)
    def test_every_policy_is_its_definition_where_policies_matter(self, fmt, rounding):
        values = boundaries(fmt, np.float32)
        ends = (np.abs(values) <= 2 * fmt.smallest) | (np.abs(values) >= fmt.max * 0.75)
        values = np.append(values[ends], [np.nan, -np.nan]).astype(np.float32)
        for chosen in policies(fmt):
            for dtype in (np.float32, np.float64):
                found = codec.encode(fmt, values.astype(dtype), rounding, **chosen)
                np.testing.assert_array_equal(found, defined(fmt, values, rounding, **chosen), err_msg=str(chosen))

    @given(
        st.sampled_from(list(FORMATS.values())),
        st.lists(st.floats(-600, 600) | st.floats(), min_size=1),
        st.sampled_from(NEAREST_AND_TOWARD_ZERO),
        st.data(),
    )
    def test_any_value_is_its_definition(self, fmt, values, rounding, data):
        chosen = data.draw(st.sampled_from(list(policies(fmt))))
        values = np.array(values)
        if not fmt.has_sign:
            values = np.abs(values) + 2.0**-140
        np.testing.assert_array_equal(
            codec.encode(fmt, values, rounding, **chosen), defined(fmt, values, rounding, **chosen)
        )

    @given(
        st.sampled_from(list(FORMATS.values())),
        st.lists(st.tuples(st.floats(-600, 600) | st.floats(), st.integers(0, 2**32 - 1)), min_size=1),
        st.data(),
    )
    def test_stochastic_is_its_definition_for_given_words(self, fmt, pairs, data):
        chosen = data.draw(st.sampled_from(list(policies(fmt))))
        values, words = np.array([v for v, _ in pairs]), np.array([w for _, w in pairs], np.uint32)
        if not fmt.has_sign:
            values = np.abs(values) + 2.0**-140
        found = codec.encode(fmt, values, Rounding.STOCHASTIC, random=words, **chosen)
        np.testing.assert_array_equal(found, defined(fmt, values, Rounding.STOCHASTIC, words, **chosen))

    @pytest.mark.parametrize("fmt", FORMATS.values(), ids=name)
    def test_every_value_comes_back(self, fmt):
        codes = np.array(some_codes(fmt), code_dtype(fmt))
        for sign in (0, fmt.sign_bit) if fmt.has_negative_zero and fmt.has_sign else (0,):
            signed = codes | code_dtype(fmt)(sign)
            for rounding in NEAREST_AND_TOWARD_ZERO:
                np.testing.assert_array_equal(codec.encode(fmt, codec.decode(fmt, signed), rounding), signed)

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int8, np.uint16, np.int32, np.bool_], ids=str)
    def test_narrower_types_are_converted_exactly(self, dtype):
        patterns = np.arange(1 << 16, dtype=np.uint16)
        with np.errstate(invalid="ignore"):
            values = patterns.view(dtype) if np.dtype(dtype).itemsize == 2 else patterns.astype(np.int32).astype(dtype)
            wide = values.astype(np.float64)
        np.testing.assert_array_equal(codec.encode(E4M3, values), codec.encode(E4M3, wide))

    @pytest.mark.parametrize("rounding", Rounding, ids=name)
    def test_shapes_strides_and_more_than_a_chunk(self, rounding):
        values = np.random.default_rng(0).normal(size=(3, 70_001)).astype(np.float32)
        words = None
        if rounding is Rounding.STOCHASTIC:
            words = np.random.default_rng(1).integers(0, 1 << 32, values.shape, np.uint32)
        whole = codec.encode(E2M1, values, rounding, random=words)
        assert whole.shape == values.shape
        turned = codec.encode(E2M1, values.T, rounding, random=None if words is None else words.T)
        np.testing.assert_array_equal(turned, whole.T)
        np.testing.assert_array_equal(
            whole.ravel()[::997],
            defined(E2M1, values.ravel()[::997], rounding, None if words is None else words.ravel()[::997]),
        )
        empty = codec.encode(E2M1, values[:0], rounding, random=None if words is None else words[:0])
        assert empty.shape == (0, 70_001)

    def test_a_scalar_and_a_list(self):
        assert codec.encode(E2M1, 5.0) == 6
        assert codec.encode(E2M1, [1, -6]).tolist() == [2, 15]

    def test_the_argument_is_left_alone(self):
        for dtype in (np.float32, np.float64):
            values = np.array([0.3, -1.26, 1e-300, 7], dtype)
            before = values.copy()
            codec.encode(E2M1, values)
            np.testing.assert_array_equal(values, before)

    @pytest.mark.parametrize("fmt", LARGE, ids=name)
    def test_it_is_what_round_to_says(self, fmt):
        values = boundaries(fmt)
        np.testing.assert_array_equal(codec.encode(fmt, values), round_to(values, fmt.name).bits)


class TestPolicies:
    def test_saturation_takes_infinity_with_it_and_nan_loses_its_sign(self):
        values = np.array([np.inf, -np.inf, 1e9, -1e9, np.nan, -np.nan])
        assert codec.encode(E4M3, values).tolist() == [0x7E, 0xFE, 0x7E, 0xFE, 0x7F, 0x7F]
        assert codec.encode(E5M2, values).tolist() == [0x7B, 0xFB, 0x7B, 0xFB, 0x7F, 0x7F]
        assert codec.encode(E2M1, values[:4]).tolist() == [7, 15, 7, 15]

    def test_nonsaturating_is_infinity_or_nan(self):
        values = np.array([np.inf, -np.inf, 1e9, -1e9])
        chosen = {"overflow": Overflow.NONSATURATING}
        assert codec.encode(E4M3, values, **chosen).tolist() == [0x7F] * 4
        assert codec.encode(E5M2, values, **chosen).tolist() == [0x7C, 0xFC, 0x7C, 0xFC]
        assert codec.encode(E4M3FNUZ, values, **chosen).tolist() == [0x80] * 4
        assert codec.encode(E5M2, values, Rounding.TOWARD_ZERO, **chosen).tolist() == [0x7C, 0xFC, 0x7B, 0xFB]
        assert codec.encode(E8M0, values[[0, 2]], **chosen).tolist() == [255, 127 + 30]

    def test_signs_of_zeros(self):
        tiny = [-0.0, -1e-300, 0.0, -1.0]
        assert codec.encode(E2M1, tiny).tolist() == [8, 8, 0, 10]
        assert codec.encode(E2M1, tiny, zero_sign=ZeroSign.DROP).tolist() == [0, 0, 0, 10]
        assert codec.encode(E4M3FNUZ, tiny).tolist() == [0, 0, 0, 0xC0]  # 0x80 is NaN

    def test_ties_away_differs_from_ties_to_even_at_four_magnitudes_alone(self):
        values = boundaries(E2M1, np.float32)
        differs = codec.encode(E2M1, values) != codec.encode(E2M1, values, Rounding.TIES_AWAY)
        assert sorted(set(np.abs(values[differs]).tolist())) == [0.25, 1.25, 2.5, 5]

    @pytest.mark.parametrize(
        ("fmt", "values", "chosen", "error", "match"),
        [
            (E2M1, [1, np.nan], {}, ValueError, "NaN has no e2m1 code; allowed with NanElement.ZERO"),
            (E2M1, [1, np.nan], {"rounding": Rounding.STOCHASTIC, "random": 2}, ValueError, "NaN has no e2m1"),
            (E2M1, [1], {"overflow": Overflow.NONSATURATING}, ValueError, "overflow: NONSATURATING; e2m1 has neither"),
            (E4M3, [1], {"nan": NanElement.MAX}, ValueError, "nan: MAX; e4m3 has a NaN of its own, 0x7f"),
            (E8M0, [1.0, -2.0], {}, ValueError, "-2.0; e8m0 has neither a zero nor a sign"),
            (E8M0, [0.0], {}, ValueError, "0.0; e8m0 has neither"),
            (E2M1, [1], {"rounding": Rounding.STOCHASTIC}, ValueError, "random: None; Rounding.STOCHASTIC needs"),
            (E2M1, [1], {"random": 1}, ValueError, "random: given; Rounding.TIES_TO_EVEN allows None"),
            (E2M1, [1], {"rounding": Rounding.STOCHASTIC, "random": 3}, ValueError, r"random: shape \(3,\)"),
            (E2M1, [1j], {}, TypeError, "complex128; allowed are real numbers"),
            (E2M1, ["1"], {}, TypeError, "allowed are real numbers"),
            (E2M1, [2**53 + 2], {}, ValueError, "beyond 2\\^53"),
        ],
    )
    def test_refused_by_name(self, fmt, values, chosen, error, match):
        if "random" in chosen:
            chosen = {**chosen, "random": np.zeros(chosen["random"], np.uint32)}
        with pytest.raises(error, match=match):
            codec.encode(fmt, values, **chosen)

    def test_words_of_another_type_are_refused(self):
        with pytest.raises(TypeError, match="float64; allowed is uint32"):
            codec.encode(E2M1, [1.0], Rounding.STOCHASTIC, random=np.zeros(1))


@pytest.mark.parametrize("fmt", SMALL, ids=name)
def test_half_a_table_entry_off_would_be_seen(fmt, monkeypatch):
    """The boundaries above notice a look-up that forgets the bits below the upper sixteen."""
    monkeypatch.setattr(codec, "_to_odd_halves", lambda bits, out: np.right_shift(bits, 16, out=out))
    values = boundaries(fmt, np.float32)
    rounding = Rounding.TIES_TO_EVEN
    if fmt is E8M0:  # its one tie goes up, so that a cut-off value stays on its side
        np.testing.assert_array_equal(codec.encode(fmt, values, rounding), defined(fmt, values, rounding))
        return
    assert (codec.encode(fmt, values, rounding) != defined(fmt, values, rounding)).any()
