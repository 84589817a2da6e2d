"""The launchers: what they refuse, and what they launch. No kernel runs here."""

import inspect
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch


def _family():
    from kernels.moe_mxfp4 import align, configs, kernel, launch, layer, weights

    return align, configs, kernel, launch, layer, weights


align, configs, kernel, launch, layer, weights = _family()

SMALL = configs.CONFIGS["BM16_BN32_BK64"]
M, TOP_K, E, K, D, N = 9, 2, 3, 70, 26, 40


@pytest.fixture
def launches(monkeypatch):
    """What would have been launched, in order."""
    seen = []

    class Recorder:
        def __init__(self, function):
            self.function = function

        def __getitem__(self, grid):
            def run(*args, **kwargs):
                options = {name: kwargs.pop(name) for name in ("num_warps", "num_stages") if name in kwargs}
                bound = inspect.signature(self.function.fn).bind(*args, **kwargs).arguments
                seen.append(SimpleNamespace(grid=grid, kernel=self.function.fn.__name__, options=options, **bound))

            return run

    for name in ("fused_moe_mxfp4_kernel", "gated_activation_kernel", "moe_sum_kernel"):
        monkeypatch.setattr(kernel, name, Recorder(getattr(kernel, name)))
    return seen


def bf16(*shape):
    return torch.zeros(shape, dtype=torch.bfloat16)


def bytes_(*shape):
    return torch.zeros(shape, dtype=torch.uint8)


def expert_weights(experts, n, k, bias=None):
    return weights.ExpertWeights(bytes_(experts, n, k // 2), bytes_(experts, n, -(-k // 32)), bias)


def ids(m=M, top_k=TOP_K):
    return torch.zeros(m, top_k, dtype=torch.int32)


def gemm(**replaced):
    arguments = {
        "a": bf16(M, K),
        "weights": expert_weights(E, N, K),
        "alignment": align.moe_align_block_size(ids(), SMALL.block_m, E),
        "c": bf16(M, TOP_K, N),
        "config": SMALL,
    }
    return launch.moe_gemm_mxfp4(**arguments | replaced)


def fused(**replaced):
    arguments = {
        "hidden_states": bf16(M, K),
        "w1": expert_weights(E, 2 * D, K),
        "w2": expert_weights(E, N, D),
        "topk_weights": torch.zeros(M, TOP_K),
        "topk_ids": ids(),
    }
    return layer.fused_moe_mxfp4(**arguments | replaced)


def permuted(**replaced):
    arguments = {
        "hidden_states": bf16(M, K),
        "expert_num_tokens": torch.tensor([4, 0, 3], dtype=torch.int32),
        "w1": expert_weights(E, 2 * D, K),
        "w2": expert_weights(E, N, D),
    }
    return layer.permuted_experts_mxfp4(**arguments | replaced)


def workspace(rows, **replaced):
    tensors = {"gate_up": bf16(rows, 2 * D), "activated": bf16(rows, D), "down": bf16(rows, N)}
    return layer.Workspace(**tensors | replaced)


GEMM = [
    ({"a": torch.zeros(M, K)}, TypeError, r"a is torch\.float32; allowed: torch\.bfloat16"),
    ({"a": bf16(M, K - 1)}, ValueError, r"a has shape \(9, 69\); allowed: \(M, 70\)"),
    ({"a": bf16(1, K).expand(M, K)}, ValueError, r"a has strides \(0, 1\); allowed: positive"),
    ({"weights": expert_weights(E, N, 2 * K)}, ValueError, r"a has shape \(9, 70\); allowed: \(M, 140\)"),
    ({"c": bf16(M * TOP_K, N)}, ValueError, r"c has shape \(18, 40\); allowed: \(9, top_k, 40\)"),
    ({"c": bf16(M, TOP_K, N + 1)}, ValueError, r"c has shape \(9, 2, 41\); allowed: \(9, top_k, 40\)"),
    ({"c": torch.zeros(M, TOP_K, N, dtype=torch.float64)}, TypeError, r"c is torch\.float64; allowed:"),
    ({"c": bf16(M, 3, N)[:, :2]}, ValueError, r"c has strides \(120, 40, 1\); allowed: stride\(0\) = 80"),
    ({"c": bf16(M, TOP_K, 1).expand(M, TOP_K, N)}, ValueError, r"c has strides \(2, 1, 0\); allowed: positive"),
    ({"c": bf16(4000).as_strided((M, TOP_K, N), (78, 39, 1))}, ValueError, r"c has strides .*do not overlap"),
    ({"c": bf16(M, TOP_K, N).to("meta")}, ValueError, r"c is on meta; allowed: cpu"),
    ({"topk_weights": torch.zeros(M, 1)}, ValueError, r"topk_weights has shape \(9, 1\); allowed: \(9, 2\)"),
    ({"topk_weights": bf16(M, TOP_K)}, TypeError, r"topk_weights is torch\.bfloat16; allowed: torch\.float32"),
    ({"topk_weights": torch.zeros(TOP_K, M).T}, ValueError, r"topk_weights has strides \(1, 9\); .*contiguous"),
    ({"config": configs.CONFIGS["BM32_BN64_BK64"]}, ValueError, r"alignment\.block_size is 16; allowed: 32"),
    ({"alignment": align.moe_align_block_size(ids(8), 16, E)}, ValueError, r"alignment\.slots is 16; allowed: 18"),
    ({"alignment": align.moe_align_block_size(ids(), 16, 4)}, ValueError, r"alignment\.experts is 4; allowed: 3"),
]

LAYER = [
    ({"activation": "relu"}, ValueError, r"activation is 'relu'; allowed: 'silu', 'gelu', 'swiglu_oai'"),
    ({"w2": expert_weights(4, N, D)}, ValueError, r"w2 has 4 experts; allowed: 3, as w1"),
    ({"w2": expert_weights(E, N, 2 * D)}, ValueError, r"w2 has K 52; allowed: 26, half of w1's N"),
    ({"hidden_states": bf16(M, K + 2)}, ValueError, r"hidden_states has shape \(9, 72\)"),
    ({"out": bf16(M, N + 2)}, ValueError, r"out has shape \(9, 42\); allowed: \(9, 40\)"),
    ({"out": torch.zeros(M, N)}, TypeError, r"out is torch\.float32; allowed: torch\.bfloat16"),
]

FUSED = [
    ({"topk_ids": ids().float()}, TypeError, r"topk_ids is torch\.float32; allowed: torch\.int32"),
    ({"topk_ids": ids(M, 0), "topk_weights": torch.zeros(M, 0)}, ValueError, r"topk_ids .*one expert a token"),
    ({"topk_ids": ids(M, 1)}, ValueError, r"topk_weights has shape \(9, 2\); allowed: \(9, 1\)"),
    ({"topk_weights": torch.zeros(TOP_K, M).T}, ValueError, r"topk_weights has strides \(1, 9\); .*contiguous"),
    ({"workspace": workspace(M)}, ValueError, r"workspace\.gate_up has shape \(9, 52\); allowed: \(18, 52\)"),
    ({"workspace": workspace(M * TOP_K, down=None)}, ValueError, r"workspace\.down is None; allowed: bf16"),
    ({"workspace": workspace(M * TOP_K, activated=bf16(18, 27))}, ValueError, r"workspace\.activated has shape"),
]

PERMUTED = [
    ({"expert_num_tokens": torch.zeros(4, dtype=torch.int32)}, ValueError, r"expert_num_tokens has shape \(4,\)"),
    ({"expert_num_tokens": torch.zeros(E)}, TypeError, r"expert_num_tokens is torch\.float32"),
    ({"row_weights": torch.zeros(M)}, ValueError, r"row_weights has shape \(9,\); allowed: \(9, 1\)"),
    ({"row_weights": torch.zeros(M, 2)[:, :1]}, ValueError, r"row_weights has strides \(2, 1\); .*contiguous"),
    ({"workspace": workspace(M + 1)}, ValueError, r"workspace\.gate_up has shape \(10, 52\); allowed: \(9, 52\)"),
]

REFUSED = [
    *((gemm, *row) for row in GEMM),
    *((call, *row) for call in (fused, permuted) for row in LAYER),
    *((fused, *row) for row in FUSED),
    *((permuted, *row) for row in PERMUTED),
]


@pytest.mark.parametrize(
    ("call", "replaced", "error", "message"),
    REFUSED,
    ids=[f"{call.__name__}-{'-'.join(replaced)}-{place}" for place, (call, replaced, *_) in enumerate(REFUSED)],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(launches, call, replaced, error, message):
    with pytest.raises(error, match=message):
        call(**replaced)
    assert not launches


def test_outputs_have_memory_of_their_own(launches):
    storage = bf16(4096)
    with pytest.raises(ValueError, match="c shares memory with a"):
        gemm(a=storage[: M * K].view(M, K), c=storage[500 : 500 + M * TOP_K * N].view(M, TOP_K, N))
    with pytest.raises(ValueError, match="y shares memory with x"):
        launch.gated_activation(storage[:120].view(10, 12), storage[60:120].view(10, 6), "silu")
    with pytest.raises(ValueError, match="y shares memory with x"):
        launch.moe_sum(storage[:120].view(10, 2, 6), storage[:60].view(10, 6))
    assert not launches


class TestLaunch:
    def test_the_gemm(self, launches):
        c = bf16(M, TOP_K, N)
        bias, factors = torch.zeros(E, N), torch.zeros(M, TOP_K)
        assert gemm(c=c, weights=expert_weights(E, N, K, bias), topk_weights=factors) is c
        (one,) = launches
        # 18 slots and 4 bins of 16: 78 ids, no more than 18 blocks of 16.
        assert one.grid == (5 * 2,)
        assert (one.N, one.K, one.EM, one.num_valid_tokens) == (N, K, 78, 18)
        assert (one.TOP_K, one.HAS_BIAS, one.MUL_ROUTED_WEIGHT) == (2, True, True)
        assert (one.stride_cm, one.stride_cn) == (N, 1)
        assert (one.BLOCK_SIZE_M, one.BLOCK_SIZE_N, one.BLOCK_SIZE_K, one.GROUP_SIZE_M) == (16, 32, 64, 1)
        assert one.options == {"num_warps": 4, "num_stages": 2}

    def test_few_slots_need_no_more_blocks_than_slots(self, launches):
        alignment = align.moe_align_block_size(ids(1, 1), SMALL.block_m, 128)
        gemm(a=bf16(1, K), c=bf16(1, 1, N), weights=expert_weights(128, N, K), alignment=alignment)
        assert len(alignment.sorted_token_ids) == 1 + 129 * 15
        assert launches[0].EM == 16
        assert launches[0].grid == (2,)

    def test_one_slot_a_token_takes_its_row_stride(self, launches):
        alignment = align.moe_align_block_size(ids(M, 1), SMALL.block_m, E)
        gemm(c=bf16(M, 1, 2 * N)[..., :N], alignment=alignment)
        assert (launches[0].stride_cm, launches[0].TOP_K) == (2 * N, 1)

    @pytest.mark.parametrize("on_input", [False, True])
    def test_the_layer_is_four_stages(self, launches, on_input):
        out = fused(apply_router_weight_on_input=on_input, config=SMALL)
        assert [one.kernel for one in launches] == [
            "fused_moe_mxfp4_kernel",
            "gated_activation_kernel",
            "fused_moe_mxfp4_kernel",
            "moe_sum_kernel",
        ]
        first, _, second, last = launches
        assert first.MUL_ROUTED_WEIGHT is on_input
        assert second.MUL_ROUTED_WEIGHT is not on_input
        assert (first.TOP_K, second.TOP_K, last.TOP_K) == (2, 1, 2)
        assert first.sorted_token_ids_ptr is second.sorted_token_ids_ptr
        assert last.y_ptr is out
        assert (out.shape, out.dtype) == ((M, N), torch.bfloat16)

    def test_permuted_rows_are_three(self, launches):
        out = permuted(row_weights=torch.zeros(M, 1))
        assert [one.kernel for one in launches][1:] == ["gated_activation_kernel", "fused_moe_mxfp4_kernel"]
        assert launches[2].c_ptr.data_ptr() == out.data_ptr()
        assert [launches[0].MUL_ROUTED_WEIGHT, launches[2].MUL_ROUTED_WEIGHT] == [False, True]

    def test_a_workspace_is_used(self, launches):
        given = workspace(M * TOP_K)
        fused(workspace=given)
        assert launches[1].x_ptr is given.gate_up
        assert launches[1].y_ptr is given.activated
        assert launches[3].x_ptr.data_ptr() == given.down.data_ptr()

    def test_nothing_to_compute_launches_nothing(self, launches):
        out = fused(hidden_states=bf16(0, K), topk_ids=ids(0), topk_weights=torch.zeros(0, TOP_K))
        assert out.shape == (0, N)
        assert permuted(hidden_states=bf16(0, K)).shape == (0, N)
        assert not launches


class TestConfigs:
    def test_names(self):
        assert all(name == config.name for name, config in configs.CONFIGS.items())

    @pytest.mark.parametrize(
        ("field", "value"), [("block_m", 8), ("block_n", 24), ("block_k", 32), ("group_m", 17), ("num_warps", 3)]
    )
    def test_a_field_out_of_range_is_named(self, field, value):
        with pytest.raises(ValueError, match=rf"config\.{field} is {value}; allowed: "):
            replace(SMALL, **{field: value})

    @pytest.mark.parametrize(
        ("tokens", "experts", "expected"),
        [(0, 8, "BM16_BN32_BK64"), (8, 8, "BM16_BN32_BK64"), (9, 8, "BM64_BN64_BK64_GM8")],
    )
    def test_default(self, tokens, experts, expected):
        assert configs.default_config(tokens, experts) is configs.CONFIGS[expected]
