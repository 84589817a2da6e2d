"""Where libraries disagree: who says what, today, and why we say what we say.

Each test pins the other side too. When a new version of a library no longer says what is written here, the test fails,
and what is to be changed is the sentence about the library, hardly ever ours. Rules of what cannot be installed here
(microxcaling, Transformer Engine, CUDA's `cvt`) are restated in a line or two and marked as restatements.
"""

import numpy as np
import pytest
import torch

from fp4guard.formats import E2M1, E2M3, E3M2, E4M3, E8M0, NanElement, Overflow, Rounding, ScaleRule, codec, e8m0, mx
from fp4guard.formats.policies import ZeroBlock

WHY = 'needs {}: pip install -e ".[test]"'
ml_dtypes = pytest.importorskip("ml_dtypes", reason=WHY.format("ml_dtypes"))
gfloat = pytest.importorskip("gfloat", reason=WHY.format("gfloat"))
from gfloat import formats as gfloat_formats  # noqa: E402

TIES = np.array([0.25, 1.25, 2.5, 5.0], np.float32)
FLT_MAX = np.finfo(np.float32).max


def ml_codes(values, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(dtype).view(np.uint8).tolist()


def torch_codes(values, dtype):
    return torch.from_numpy(np.asarray(values, np.float32)).to(dtype).view(torch.uint8).tolist()


def gfloat_codes(values, info, saturate=True):
    rounded = gfloat.round_ndarray(info, np.asarray(values, np.float64), gfloat.RoundMode.TiesToEven, saturate)
    return gfloat.encode_ndarray(info, rounded).tolist()


# -- 1. E2M1 ties ---------------------------------------------------------------------------------------------------


def test_e2m1_ties_ml_dtypes_and_gfloat_go_to_even():
    """OCP MX v1.0, section 6.3, asks for roundTiesToEven: our default too."""
    down = [0.0, 1.0, 2.0, 4.0]
    assert codec.decode(E2M1, codec.encode(E2M1, TIES)).tolist() == down
    assert TIES.astype(ml_dtypes.float4_e2m1fn).astype(np.float32).tolist() == down
    assert gfloat.round_ndarray(gfloat_formats.format_info_ocp_e2m1, TIES).tolist() == down


def test_e2m1_ties_microxcaling_and_transformer_engine_go_away():
    """A restatement: microxcaling's default rounds a mantissa with floor(m + 0.5); Transformer Engine's kernels add a
    guard bit. Both are Rounding.TIES_AWAY here, to be stated by who tests such a kernel."""
    quanta = np.array([0.5, 0.5, 1.0, 2.0], np.float32)  # between the neighbours of each tie
    theirs = np.floor(TIES / quanta + np.float32(0.5)) * quanta
    assert theirs.tolist() == [0.5, 1.5, 3.0, 6.0]
    assert codec.decode(E2M1, codec.encode(E2M1, TIES, Rounding.TIES_AWAY)).tolist() == theirs.tolist()


# -- 2. the float32 below a quarter ---------------------------------------------------------------------------------


def test_below_a_quarter_microxcaling_says_a_half_and_the_others_zero():
    """A restatement of floor(x / 0.5 + 0.5): the sum rounds up to 1 in float32. It is nearer to 0 than to 0.5, so no
    rounding but a stochastic one may say 0.5."""
    x = np.uint32(0x3E7FFFFF).view(np.float32)
    assert np.floor(x / np.float32(0.5) + np.float32(0.5)) * 0.5 == 0.5
    for rounding in (Rounding.TIES_TO_EVEN, Rounding.TIES_AWAY, Rounding.TOWARD_ZERO):
        assert codec.encode(E2M1, x, rounding) == 0
    assert ml_codes([x], ml_dtypes.float4_e2m1fn) == gfloat_codes([x], gfloat_formats.format_info_ocp_e2m1) == [0]


# -- 3. the largest float32, and logarithms that round --------------------------------------------------------------


def test_the_largest_float32_is_nan_in_microxcaling_and_saturates_here():
    """A restatement: x / 2^e * 2^e with e = floor(log2(x)) in float32. log2 rounds up to 128, 2^128 is Inf, and 0 * Inf
    is NaN. Section 6.3 of OCP MX v1.0 clamps."""
    power = torch.tensor(2.0) ** torch.floor(torch.log2(torch.tensor(FLT_MAX)))
    assert torch.isnan(torch.tensor(FLT_MAX) / power * power)
    assert codec.decode(E2M1, codec.encode(E2M1, FLT_MAX)) == 6
    assert ml_codes([FLT_MAX], ml_dtypes.float4_e2m1fn) == [7]


def test_below_eight_gfloats_and_microxcalings_logarithm_gives_a_scale_twice_too_large():
    """gfloat's compute_scale_amax, and as a restatement microxcaling, take floor(log2(amax)) in float32: 3
    for 8 - 1 ulp. The exponent is 2: frexp says so, and the standard's scale is 2^(2 - 2)."""
    amax = np.nextafter(np.float32(8), np.float32(0))
    assert np.floor(np.log2(amax)) == 3
    assert gfloat.compute_scale_amax(2.0, np.array([amax])) == 2.0
    assert e8m0.decode(mx.scale_bytes(amax, ScaleRule.FLOOR)) == 1.0


# -- 4. NaN to E2M1 -------------------------------------------------------------------------------------------------


def test_nan_to_e2m1_gfloat_raises_ml_dtypes_gives_zeros_and_cuda_six():
    """No standard says what it becomes, so it is refused until a policy is stated. CUDA's cvt is a restatement of the
    PTX ISA (9.7.9.21): NaN becomes the largest value, positive."""
    nans = np.array([np.nan, -np.nan], np.float32)
    with pytest.raises((ValueError, AssertionError)):
        gfloat.encode_ndarray(gfloat_formats.format_info_ocp_e2m1, nans.astype(np.float64))
    assert ml_codes(nans, ml_dtypes.float4_e2m1fn) == [8, 0]
    with pytest.raises(ValueError, match="NaN has no e2m1 code"):
        codec.encode(E2M1, nans)
    assert codec.encode(E2M1, nans, nan=NanElement.MAX).tolist() == [7, 7]
    assert codec.encode(E2M1, nans, nan=NanElement.ZERO).tolist() == [0, 0]


@pytest.mark.parametrize(("fmt", "theirs"), [(E2M3, "float6_e2m3fn"), (E3M2, "float6_e3m2fn")], ids=["e2m3", "e3m2"])
def test_nan_to_six_bits_ml_dtypes_gives_zeros(fmt, theirs):
    """-0 for +NaN and +0 for -NaN; refused here as for E2M1."""
    assert ml_codes(np.array([np.nan, -np.nan], np.float32), getattr(ml_dtypes, theirs)) == [0x20, 0]
    with pytest.raises(ValueError, match=f"NaN has no {fmt.name} code"):
        codec.encode(fmt, [np.nan])


# -- 5. float64 is rounded twice ------------------------------------------------------------------------------------


def test_float64_ml_dtypes_rounds_twice_and_we_once():
    """0.25 + 1e-12 is above the tie, so 0.5 is nearest. Through float32 it is the tie, and goes to 0."""
    x = np.float64(0.25 + 1e-12)
    assert ml_codes([x], ml_dtypes.float4_e2m1fn) == [0]
    assert codec.encode(E2M1, x) == 1
    assert gfloat_codes([x], gfloat_formats.format_info_ocp_e2m1) == [1]


# -- 6. dirty high bits ---------------------------------------------------------------------------------------------


def test_dirty_high_bits_ml_dtypes_ignores_and_we_refuse():
    """A byte above 15 is a packing error: two codes that were not unpacked. gfloat refuses it too."""
    dirty = np.array([0x17], np.uint8)
    assert dirty.view(ml_dtypes.float4_e2m1fn).astype(np.float32) == -6
    with pytest.raises(ValueError, match="Code point"):
        gfloat.decode_ndarray(gfloat_formats.format_info_ocp_e2m1, dirty)
    with pytest.raises(ValueError, match="0x17"):
        codec.decode(E2M1, dirty)


# -- 7. E8M0 --------------------------------------------------------------------------------------------------------


def test_e8m0_of_zero_is_255_in_ml_dtypes_0_in_torch_and_gfloat_and_stated_here():
    """The format has no zero (OCP MX v1.0, section 5.4.1)."""
    zero = np.zeros(1, np.float32)
    assert ml_codes(zero, ml_dtypes.float8_e8m0fnu) == [255]
    assert torch_codes(zero, torch.float8_e8m0fnu) == [0]
    assert gfloat_codes(zero, gfloat_formats.format_info_ocp_e8m0) == [0]
    with pytest.raises(ValueError, match="zero="):
        e8m0.encode(zero)
    for byte in (0, 255):
        assert e8m0.encode(zero, zero=byte).tolist() == [byte]


def test_e8m0_of_three_is_129_in_ml_dtypes_and_torch_and_128_in_gfloat():
    """A tie of two significands of one bit, neither of them even. IEEE 754-2019, section 4.3.1, delivers the larger,
    and so do we; gfloat takes the even byte. Toward zero is 128."""
    ties = np.array([1.5, 3.0, 6.0, 12.0], np.float32)
    assert ml_codes(ties, ml_dtypes.float8_e8m0fnu) == torch_codes(ties, torch.float8_e8m0fnu) == [128, 129, 130, 131]
    assert gfloat_codes(ties, gfloat_formats.format_info_ocp_e8m0) == [128, 128, 130, 130]
    assert e8m0.encode(ties, Rounding.TIES_TO_EVEN).tolist() == [128, 129, 130, 131]
    assert e8m0.encode(ties, Rounding.TOWARD_ZERO).tolist() == [127, 128, 129, 130]


def test_e8m0_of_infinity_is_255_in_ml_dtypes_torch_and_gfloat_and_stated_here():
    """254 is what saturating kernels write."""
    infinity = np.array([np.inf], np.float32)
    assert ml_codes(infinity, ml_dtypes.float8_e8m0fnu) == torch_codes(infinity, torch.float8_e8m0fnu) == [255]
    assert gfloat_codes(infinity, gfloat_formats.format_info_ocp_e8m0, saturate=False) == [255]
    with pytest.raises(ValueError, match="infinity="):
        e8m0.encode(infinity)
    for byte in (254, 255):
        assert e8m0.encode(infinity, infinity=byte).tolist() == [byte]


def test_e8m0_beyond_its_largest_is_255_in_ml_dtypes_and_torch_and_254_by_default_here():
    """Scales are clamped by OCP MX v1.0, section 6.3; the others' is Overflow.NONSATURATING."""
    assert ml_codes([FLT_MAX], ml_dtypes.float8_e8m0fnu) == torch_codes([FLT_MAX], torch.float8_e8m0fnu) == [255]
    assert e8m0.encode([FLT_MAX], Rounding.TIES_TO_EVEN).tolist() == [254]
    assert e8m0.encode([FLT_MAX], Rounding.TIES_TO_EVEN, overflow=Overflow.NONSATURATING).tolist() == [255]


def test_e8m0_just_above_its_smallest_ml_dtypes_and_torch_go_up():
    """From 2^-127 on, what is nearer to it than to 2^-126 becomes the latter all the same: their float32 is subnormal
    there, and any bit below the first counts as more than half. We and gfloat say the nearest."""
    patterns = np.arange(0x00400000, 0x00800001, 0x1000, dtype=np.uint32)
    values = patterns.view(np.float32)
    up = (patterns > 0x00400000).astype(np.uint8).tolist()
    assert ml_codes(values, ml_dtypes.float8_e8m0fnu) == torch_codes(values, torch.float8_e8m0fnu) == up
    nearest = (patterns >= 0x00600000).astype(np.uint8)
    assert codec.encode(E8M0, values).tolist() == nearest.tolist()
    untied = patterns != 0x00600000
    assert (
        np.array(gfloat_codes(values, gfloat_formats.format_info_ocp_e8m0))[untied].tolist() == nearest[untied].tolist()
    )


def test_e8m0_of_negative_values_torch_drops_the_sign_ml_dtypes_says_nan_and_we_refuse():
    """The format has no sign."""
    assert torch_codes([-1.0], torch.float8_e8m0fnu) == [127]
    assert ml_codes(np.array([-1.0], np.float32), ml_dtypes.float8_e8m0fnu) == [255]
    with pytest.raises(ValueError, match=r"-1\.0"):
        e8m0.encode([-1.0], Rounding.TIES_TO_EVEN)
    with pytest.raises(ValueError, match="neither a zero nor a sign"):
        codec.encode(E8M0, [-1.0])


# -- 8. E4M3 beyond its largest -------------------------------------------------------------------------------------


def test_e4m3_above_464_is_nan_in_ml_dtypes_and_448_in_torch():
    """OCP FP8 v1.0 names both modes. Our default saturates, as MX v1.0, section 6.3, does; ml_dtypes's is
    Overflow.NONSATURATING. torch 2.13 saturates; earlier releases gave NaN."""
    values = np.array([464, 465, 1e9, np.inf, -np.inf], np.float32)
    assert ml_codes(values, ml_dtypes.float8_e4m3fn) == [0x7E, 0x7F, 0x7F, 0x7F, 0xFF]
    saturating = tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) >= (2, 13)
    if saturating:
        assert torch_codes(values, torch.float8_e4m3fn) == [0x7E, 0x7E, 0x7E, 0x7E, 0xFE]
    assert codec.encode(E4M3, values).tolist() == [0x7E, 0x7E, 0x7E, 0x7E, 0xFE]
    assert codec.encode(E4M3, values, overflow=Overflow.NONSATURATING).tolist() == [0x7E, 0x7F, 0x7F, 0x7F, 0x7F]


def test_a_nan_keeps_its_sign_in_ml_dtypes_and_torch_and_not_here():
    """Both codes mean NaN; PTX's cvt writes 0x7F for either (PTX ISA, 9.7.9.21), and so do we."""
    nans = np.array([np.nan, -np.nan], np.float32)
    assert ml_codes(nans, ml_dtypes.float8_e4m3fn) == torch_codes(nans, torch.float8_e4m3fn) == [0x7F, 0xFF]
    assert codec.encode(E4M3, nans).tolist() == [0x7F, 0x7F]


# -- 9. amax --------------------------------------------------------------------------------------------------------


def test_a_zero_block_has_byte_0_in_gfloat_and_127_in_some_kernels():
    """Not pinned down by the standard, so a policy. 127, a scale of 1, is a restatement of Transformer Engine's."""
    assert gfloat.compute_scale_amax(2.0, np.zeros(32, np.float32)) == 2.0**-127
    assert int(mx.scale_bytes(0.0, ScaleRule.FLOOR, ZeroBlock.SMALLEST)) == 0
    assert int(mx.scale_bytes(0.0, ScaleRule.FLOOR, ZeroBlock.ONE)) == 127


def test_a_nan_in_a_block_is_kept_by_gfloats_amax_and_ignored_by_a_gpus_maximum():
    """Not pinned down by the standard, so a policy; the GPU's is a restatement: IEEE 754's maxNum drops a NaN, as
    max.f32 does without .NaN (PTX ISA, 9.7.3.12)."""
    values = np.ones(32, np.float32)
    values[3] = np.nan
    assert np.isnan(gfloat.compute_scale_amax(2.0, values))
    assert np.fmax.reduce(np.abs(values)) == 1
    with pytest.raises(ValueError, match="nan"):
        mx.quantize(values)
