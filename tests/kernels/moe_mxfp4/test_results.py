"""What the kernels compute, against formulas in torch's float64 that share nothing with the oracle."""

import pytest
import torch

from fp4guard.memory import ALL_ONES, Memory
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch


def _family():
    from kernels.moe_mxfp4 import align, configs, launch, layer, weights

    return align, configs, launch, layer, weights


align, configs, launch, layer, weights = _family()

SMALL = configs.CONFIGS["BM16_BN32_BK64"]
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=torch.float64)
E2M1 = torch.cat([E2M1, -E2M1])


@pytest.fixture(params=["sm_90"], autouse=True)
def simulated(request):
    with Simulator(Memory(ALL_ONES), parse_arch(request.param)).intercepting():
        yield


def decoded(w):
    """Weights in float64 (E, N, K), scale byte 0 as 0.0 and 255 as Inf."""
    codes = torch.stack([w.codes & 15, w.codes >> 4], -1).flatten(-2).long()
    scales = 2.0 ** (w.scales.double() - 127)
    scales = torch.where(w.scales == 0, 0.0, torch.where(w.scales == 255, torch.inf, scales))
    return E2M1[codes] * scales.repeat_interleave(32, -1)[..., : codes.shape[-1]]


def problem(m=19, k=70, d=26, n=42, experts=3, top_k=2, bias=True, seed=0):
    """Tokens and weights of small numbers: every product's sum is exact in fp32."""
    rng = torch.Generator().manual_seed(seed)

    def expert_weights(rows, columns):
        codes = torch.randint(0, 256, (experts, rows, columns // 2), dtype=torch.uint8, generator=rng)
        scales = torch.randint(125, 129, (experts, rows, -(-columns // 32)), dtype=torch.uint8, generator=rng)
        values = torch.randint(-8, 9, (experts, rows), generator=rng).bfloat16() if bias else None
        return weights.ExpertWeights(codes, scales, values)

    hidden = torch.randint(-4, 5, (m, k), generator=rng).bfloat16() / 8
    ids = torch.rand(m, experts, generator=rng).argsort(1)[:, :top_k].int()
    factors = torch.randint(1, 9, (m, top_k), generator=rng).float() / 8
    return hidden, expert_weights(2 * d, k), expert_weights(n, d), factors, ids


def grouped(rows, w, local, factors=None):
    """Float64 (M, top_k, N) of rows (M, top_k, K): (row @ W.T + bias) * factor; zeros where `local` is -1."""
    matrix = decoded(w)[local]
    result = torch.einsum("mtk,mtnk->mtn", rows.double(), matrix)
    if w.bias is not None:
        result = result + w.bias.double()[local]
    if factors is not None:
        result = result * factors.double()[..., None]
    return torch.where(local[..., None] < 0, 0.0, result)


def activated(x, activation):
    gate, up = x.double().chunk(2, -1)
    if activation == "silu":
        return torch.nn.functional.silu(gate) * up
    if activation == "gelu":
        return torch.nn.functional.gelu(gate) * up
    gate, up = x.double()[..., 0::2].clamp(max=7), x.double()[..., 1::2].clamp(-7, 7)
    return (up + 1) * gate * torch.sigmoid(1.702 * gate)


@pytest.mark.parametrize("config", configs.CONFIGS.values(), ids=configs.CONFIGS)
@pytest.mark.parametrize("top_k", [1, 2])
def test_the_grouped_gemm_is_exact(config, top_k):
    hidden, w, _, factors, ids = problem(top_k=top_k)
    c = torch.empty(19, top_k, 52, dtype=torch.float32)
    alignment = align.moe_align_block_size(ids, config.block_m, 3)
    assert launch.moe_gemm_mxfp4(hidden, w, alignment, c, topk_weights=factors, config=config) is c
    rows = hidden[:, None].expand(-1, top_k, -1)
    assert torch.equal(c.double(), grouped(rows, w, ids.long(), factors))


@pytest.mark.parametrize("simulated", ["sm_100", "gfx950", "gfx1201"], indirect=True)
def test_other_architectures_give_the_same(simulated):
    test_the_grouped_gemm_is_exact(SMALL, 2)


def test_every_code_and_the_ends_of_the_scales():
    scales = torch.tensor([0, 1, 127, 254, 255], dtype=torch.uint8)
    codes = torch.arange(16, dtype=torch.uint8).repeat(5, 1)  # the odd k are 0
    w = weights.ExpertWeights(codes.reshape(1, 80, 1), scales.repeat_interleave(16).reshape(1, 80, 1))
    c = torch.empty(1, 1, 80)
    one = torch.tensor([[1.0, 0.0]]).bfloat16()
    alignment = align.moe_align_block_size(torch.zeros(1, 1, dtype=torch.int32), 16, 1)
    launch.moe_gemm_mxfp4(one, w, alignment, c, config=SMALL)
    expected = decoded(w)[0, :, 0].float().reshape(5, 16)
    expected[3, [4, 5, 6, 7]], expected[3, [12, 13, 14, 15]] = torch.inf, -torch.inf  # beyond bf16
    expected[4] = torch.nan  # the odd k: 0 * Inf
    torch.testing.assert_close(c[0, 0].reshape(5, 16), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("activation", launch.ACTIVATIONS)
@pytest.mark.parametrize("on_input", [False, True])
def test_the_whole_layer(activation, on_input):
    hidden, w1, w2, factors, ids = problem()
    expert_map = torch.tensor([2, -1, 0], dtype=torch.int32)
    ids[3] = torch.tensor([-1, 7])
    out = layer.fused_moe_mxfp4(
        hidden,
        w1,
        w2,
        factors,
        ids,
        activation=activation,
        expert_map=expert_map,
        apply_router_weight_on_input=on_input,
        config=SMALL,
    )
    local = torch.where((ids >= 0) & (ids < 3), expert_map[ids.clamp(0, 2).long()].long(), -1)
    rows = hidden[:, None].expand(-1, 2, -1)
    x = activated(grouped(rows, w1, local, factors if on_input else None).bfloat16(), activation).bfloat16()
    expected = grouped(x, w2, local, None if on_input else factors).bfloat16().double().sum(1)
    assert not out[3].any(), "a token of no expert"
    # Rounded to bf16 three times on the way, and differently where two float computations straddle a midpoint.
    scale = expected.abs().amax()
    torch.testing.assert_close(out.double(), expected, rtol=2**-6, atol=float(scale) * 2**-8)


@pytest.mark.parametrize("activation", launch.ACTIVATIONS)
def test_permuted_rows_give_the_same_bits_as_tokens(activation):
    hidden, w1, w2, factors, ids = problem(top_k=1)
    fused = layer.fused_moe_mxfp4(hidden, w1, w2, factors, ids, activation=activation, config=SMALL)
    order = ids[:, 0].argsort(stable=True)
    counts = ids[:, 0].bincount(minlength=3).int()
    spare = hidden.new_full((4, hidden.shape[1]), torch.nan)
    permuted = layer.permuted_experts_mxfp4(
        torch.cat([hidden[order], spare]),
        counts,
        w1,
        w2,
        row_weights=torch.cat([factors[order], torch.full((4, 1), torch.nan)]),
        activation=activation,
        config=SMALL,
    )
    assert torch.equal(permuted[:19], fused[order])


def test_no_tokens_give_no_rows():
    hidden, w1, w2, factors, ids = problem(m=0)
    assert layer.fused_moe_mxfp4(hidden, w1, w2, factors, ids).shape == (0, 42)
    assert layer.permuted_experts_mxfp4(hidden, torch.zeros(3, dtype=torch.int32), w1, w2).shape == (0, 42)
