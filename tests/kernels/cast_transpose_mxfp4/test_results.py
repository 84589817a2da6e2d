"""The cast-transpose's results, by definitions in torch and plain Python that share no code with the oracle."""

import math

import pytest
import torch

import fp4guard as fg
from fp4guard.memory import ALL_ONES, Memory
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch


def _family():
    from kernels.cast_transpose_mxfp4 import configs, launch

    return configs, launch


configs, launch = _family()

MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def cast(x, **options):
    """The launcher in the simulator."""
    with Simulator(Memory(ALL_ONES), parse_arch("sm_90")).intercepting():
        return launch.cast_transpose_mxfp4(x, **options)


def scale_byte(amax):
    if math.isnan(amax) or math.isinf(amax):
        return 255
    if amax == 0:
        return 0
    if amax >= 1.75 * 2.0**127:
        return 254
    half, exponent = math.frexp(amax)
    return max(exponent - 1 - 2 + (half >= 0.875) + 127, 0)


def element(value, byte):
    """The code of the nearest magnitude, the even one of two."""
    scaled = abs(value) / 2.0 ** (byte - 127)
    code = min(range(8), key=lambda code: (abs(MAGNITUDES[code] - scaled), code % 2))
    return code + 8 * (math.copysign(1, value) < 0)


def largest(block):
    return math.nan if any(map(math.isnan, block)) else max(map(abs, block))


def quantized(matrix):
    """Codes, one each, and scale bytes of a matrix, as lists; no codes of a row with a NaN block."""
    codes, scales = [], []
    for row in matrix.double().tolist():
        blocks = [row[i : i + 32] for i in range(0, len(row), 32)]
        scales.append([scale_byte(largest(block)) for block in blocks])
        pairs = zip(blocks, scales[-1], strict=True)
        codes.append(None if 255 in scales[-1] else [element(v, byte) for block, byte in pairs for v in block])
    return codes, scales


def unpacked(codes):
    return torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2)


def assert_is(result, matrix):
    """Hold linear outputs against the definition; rows with a NaN block for their scales alone."""
    codes, scales = quantized(matrix)
    assert result.scales.tolist() == scales
    rows = zip(unpacked(result.codes).tolist(), codes, strict=True)
    assert all(wanted is None or row == wanted for row, wanted in rows)


def hard(m, n, dtype, seed=0):
    """Numbers, ties and thresholds around 1."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 6.5, 7.0, 8.0])
    picked = points[torch.randint(len(points), (m, n), generator=rng)]
    noise = torch.randn((m, n), generator=rng)
    x = torch.where(torch.rand((m, n), generator=rng) < 0.5, picked, noise)
    return (x * torch.where(torch.rand((m, n), generator=rng) < 0.5, -1.0, 1.0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("config", ["BM32_BN32", "BM128_BN64"])
def test_both_directions(dtype, config):
    x = hard(96, 160, dtype)
    result = cast(x, scales="linear", config=configs.CONFIGS[config])
    assert_is(result.rowwise, x)
    assert_is(result.columnwise, x.t())


@pytest.mark.parametrize(
    ("value", "byte", "code"),
    [
        (0.0, 0, 0),
        (-0.0, 0, 8),
        (2.0**-149, 0, 0),
        (-(2.0**-149), 0, 8),
        (2.0**-126, 0, 4),
        (6.0, 127, 7),
        (6.99, 127, 7),
        (7.0, 128, 6),
        (-8.0, 128, 14),
        (1.7499999 * 2.0**127, 252, 7),
        (1.75 * 2.0**127, 254, 4),
        (3.4028234663852886e38, 254, 4),
        (math.inf, 255, None),
        (-math.inf, 255, None),
        (math.nan, 255, None),
    ],
)
def test_what_a_block_of_one_number_becomes(value, byte, code):
    x = torch.zeros(32, 32)
    x[5, 3] = value
    x[5, 7] = -0.0
    result = cast(x, scales="linear")
    assert result.rowwise.scales[5].item() == byte
    assert result.columnwise.scales[3].item() == byte
    if code is not None:
        assert unpacked(result.rowwise.codes)[5, 3] == code
        assert unpacked(result.columnwise.codes)[3, 5] == code
        assert unpacked(result.rowwise.codes)[5, 7] == 8


def test_a_nan_leaves_other_blocks_alone():
    x = torch.ones(64, 64)
    x[40, 40] = math.nan
    result = cast(x, scales="linear")
    for scales, row in ((result.rowwise.scales, 40), (result.columnwise.scales, 40)):
        assert (scales == 255).nonzero().tolist() == [[row, 1]]
        assert scales[row, 0] == 125


@pytest.mark.parametrize("shape", [(32, 32), (288, 320), (256, 256)])
def test_shuffled_scales_are_the_linear_ones_in_upstreams_order(shape):
    x = hard(*shape, torch.float32)
    linear, shuffled = cast(x, scales="linear"), cast(x, scales="shuffled")
    for plain, stored in zip(linear, shuffled):
        rows, groups = plain.scales.shape
        sm, sn = -(-rows // 256) * 256, -(-groups // 8) * 8
        padded = torch.full((sm, sn), 127, dtype=torch.uint8)
        padded[:rows, :groups] = plain.scales
        expected = padded.view(sm // 32, 2, 16, sn // 8, 2, 4).permute(0, 3, 5, 2, 4, 1).reshape(sm, sn)
        assert torch.equal(stored.scales, expected)
        assert torch.equal(stored.codes, plain.codes)


def test_shuffled_codes_are_the_linear_ones_in_upstreams_order():
    x = hard(128, 192, torch.bfloat16)
    linear, shuffled = cast(x), cast(x, codes="shuffled")
    for plain, stored in zip(linear, shuffled):
        rows, k = plain.codes.shape
        tiles = plain.codes.view(-1, rows // 16, 16, k // 32, 2, 16).permute(0, 1, 3, 4, 2, 5)
        assert torch.equal(stored.codes, tiles.reshape(rows, k))


def test_leading_axes_are_rows():
    x = hard(96, 64, torch.bfloat16)
    assert_is(cast(x.view(3, 1, 32, 64), scales="linear").columnwise, x.t())


def test_the_case_of_every_option_is_clean():
    for direction, codes, scales, out in (
        ("both", "shuffled", "shuffled", "own"),
        ("columnwise", "linear", "linear", "given"),
    ):
        report = fg.examine(
            "kernels.cast_transpose_mxfp4::cast_transpose_mxfp4",
            m=64, n=192, leading=(3, 1), config="BM64_BN128", dtype="bf16",
            direction=direction, codes=codes, scales=scales, out=out, regime="wild", seed=1,
        )  # fmt: skip
        assert not report.findings
