"""The kernels' results, by definitions in torch and plain Python that share no code with the oracle."""

import math

import pytest
import torch

import fp4guard as fg
from fp4guard.memory import ALL_ONES, Memory
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch


def _family():
    from kernels.nvfp4_linear import backends, configs, launch, linear

    return backends, configs, launch, linear


backends, configs, launch, linear = _family()

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=torch.float64)


def simulated(function, *args, **options):
    with Simulator(Memory(ALL_ONES), parse_arch("sm_90")).intercepting():
        return function(*args, **options)


def e4m3(stored):
    return stored.view(torch.float8_e4m3fn).double()


def element(value):
    """The code of the nearest magnitude, the even one of two."""
    code = min(range(8), key=lambda code: (abs(float(E2M1[code]) - abs(value)), code % 2))
    return code + 8 * (math.copysign(1, value) < 0)


def quantized(x, g):
    """Codes, one each, and scale bytes; None for the codes of a group whose scale is 0 or NaN."""
    one, six = torch.tensor(1.0), torch.tensor(6.0)
    codes, scales = [], []
    for group in x.float().reshape(-1, 16):
        if not group.isfinite().all():
            codes.append(None)
            scales.append(0x7F)
            continue
        scale = (g * (group.abs().max() * (one / six))).clamp(max=448).to(torch.float8_e4m3fn)
        scales.append(int(scale.view(torch.uint8)))
        if float(scale) == 0:
            codes.append(None)
            continue
        codes.append([element(v) for v in (group * (one / (scale.float() * (one / g)))).tolist()])
    return codes, scales


def offset(layout, row, group, groups):
    across = -(-groups // 4)
    if layout == "128x4":
        return (row // 128 * across + group // 4) * 512 + row % 32 * 16 + row % 128 // 32 * 4 + group % 4
    if layout == "8x4":
        return (row // 8 * across + group // 4) * 32 + row % 8 * 4 + group % 4
    return row * groups + group


def dequantized(codes, scales):
    """float64 (rows, k) of packed codes and linear scales."""
    pairs = torch.stack([E2M1[(codes & 0xF).long()], E2M1[(codes >> 4).long()]], dim=-1)
    return pairs.reshape(len(codes), -1) * e4m3(scales).repeat_interleave(16, dim=1)


def operand(rows, k, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (rows, k // 2), dtype=torch.uint8, generator=generator)
    # 0.5 to 4, so that sums are exact.
    return codes, torch.randint(0x30, 0x48, (rows, k // 16), dtype=torch.uint8, generator=generator) & 0xF8


@pytest.mark.parametrize("layout", ["linear", "128x4", "8x4"])
@pytest.mark.parametrize("config", ["BM1_BG4", "BM16_BG16", "BM128_BG4"])
def test_quantization(layout, config):
    m, k, padded_k = 19, 464, 512
    x = torch.randn((m, k), generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    x[0, :3], x[1, 16:32], x[2, 0], x[3, 0] = torch.tensor([0.25, 2.5, 5.0]), -0.0, math.nan, -math.inf
    g = torch.tensor([448 * 6 / 5.0])
    codes, stored = simulated(
        launch.scaled_fp4_quant, x, g, layout=layout, padded_k=padded_k, config=configs.QUANTIZE_CONFIGS[config]
    )
    groups, padded_groups = k // 16, padded_k // 16
    expected_codes, expected_scales = quantized(x, g[0])
    unpacked = torch.stack([codes & 0xF, codes >> 4], dim=-1).reshape(-1, 16).tolist()
    assert [got if want else None for got, want in zip(unpacked, expected_codes, strict=True)] == expected_codes
    expected = torch.zeros(stored.numel(), dtype=torch.uint8)
    for index, scale in enumerate(expected_scales):
        expected[offset(layout, index // groups, index % groups, padded_groups)] = scale
    assert torch.equal(stored.reshape(-1), expected)


@pytest.mark.parametrize("bias", [None, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("m", "n", "k", "config"), [(17, 96, 160, "BM16_BN64_BK256"), (130, 160, 480, "BM64_BN128_BK128")]
)
def test_multiplication(m, n, k, config, bias):
    (a, a_scales), (b, b_scales) = operand(m, k, 1), operand(n, k, 2)
    stored = [linear.swizzle_128x4(one, k // 16) for one in (a_scales, b_scales)]
    added = None if bias is None else torch.arange(n).to(bias)
    alpha = torch.tensor([0.25])
    out = simulated(
        launch.scaled_fp4_mm, a, b, *stored, alpha, bias=added, dtype=torch.float16, config=configs.CONFIGS[config]
    )
    expected = dequantized(a, a_scales) @ dequantized(b, b_scales).T * 0.25
    if bias is not None:
        expected += added.double()
    assert torch.equal(out, expected.half())


@pytest.mark.parametrize("backend", backends.BACKENDS)
@pytest.mark.parametrize("parts", [1, 2])
def test_layer(backend, parts):
    leading, n, k = (2, 3), 50, 464
    # Exactly what NVFP4 holds: every group has a 6.
    x = E2M1[torch.randint(0, 16, (*leading, k), generator=torch.Generator().manual_seed(3))]
    x[..., ::16] = 6
    w, w_scales = operand(n, k, 4)
    bias = torch.arange(n).bfloat16()
    weight = linear.prepare_weight(w, w_scales, bias, backend=backend, parts=parts)
    out = simulated(linear.nvfp4_linear, x.bfloat16(), weight, torch.ones(1), torch.tensor([2.0]), dtype=torch.float16)
    assert torch.equal(out, (x @ dequantized(w, w_scales).T * 2 + bias.double()).half())


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        (
            "nvfp4_linear",
            {
                "m": 5, "n": 100, "k": 464, "batch": None, "parts": 2, "backend": "flashinfer-trtllm",
                "config": "BM32_BN64_BK128", "dtype": "fp16", "out_dtype": "bf16", "arithmetic": "exact",
                "global_scale": "this", "bias": "fp32",
            },
        ),
        (
            "scaled_fp4_mm",
            {
                "m": 17, "n_units": 3, "k_units": 5, "backend": "cutlass", "config": "BM16_BN64_BK256",
                "a_layout": "8x4", "b_layout": "linear", "dtype": "bf16", "alpha": 3.0, "bias": None,
                "outputs": "given",
            },
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("regime", ["exact", "wild"])
@pytest.mark.parametrize("arch", ["sm_90", "sm_100", "gfx950"])
def test_targets_are_clean_on_every_architecture(target, arguments, regime, arch):
    report = fg.examine(f"kernels.nvfp4_linear::{target}", regime=regime, arch=arch, layout=3, **arguments)
    assert not report.findings, report.describe()
