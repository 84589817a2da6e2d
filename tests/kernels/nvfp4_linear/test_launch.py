"""The launchers' errors and what they launch. No kernel runs here."""

import inspect
from types import SimpleNamespace

import pytest
import torch


def _family():
    from kernels.nvfp4_linear import backends, configs, kernel, launch, linear, scales

    return backends, configs, kernel, launch, linear, scales


backends, configs, kernel, launch, linear, scales = _family()


def bytes_(*shape):
    return torch.zeros(shape, dtype=torch.uint8)


@pytest.fixture
def launches(monkeypatch):
    """What would have been launched, in order."""
    seen = []

    class Recorder:
        def __init__(self, function):
            self.function = function

        def __getitem__(self, grid):
            def run(*args, **kwargs):
                for name in ("num_warps", "num_stages"):
                    kwargs.pop(name, None)
                bound = inspect.signature(self.function.fn).bind(*args, **kwargs).arguments
                seen.append(SimpleNamespace(grid=grid, **bound))

            return run

    for name in ("quantize_nvfp4_kernel", "gemm_nvfp4_kernel"):
        monkeypatch.setattr(kernel, name, Recorder(getattr(kernel, name)))
    return seen


def quantize(m=17, k=48, **replaced):
    arguments = {"x": torch.zeros((m, k), dtype=torch.bfloat16), "global_scale": torch.ones(1)} | replaced
    return launch.scaled_fp4_quant(arguments.pop("x"), arguments.pop("global_scale"), **arguments)


def multiply(m=17, n=96, k=160, **replaced):
    arguments = {
        "a": bytes_(m, k // 2),
        "b": bytes_(n, k // 2),
        "a_scales": bytes_(128, 12),
        "b_scales": bytes_(128, 12),
        "alpha": torch.ones(1),
    } | replaced
    operands = [arguments.pop(name) for name in ("a", "b", "a_scales", "b_scales", "alpha")]
    return launch.scaled_fp4_mm(*operands, **arguments)


class TestQuantize:
    @pytest.mark.parametrize(
        ("replaced", "error", "message"),
        [
            ({"layout": "8x8"}, ValueError, r"layout is '8x8'; allowed: 'linear', '128x4', '8x4'"),
            ({"arithmetic": "torchao"}, ValueError, r"arithmetic is 'torchao'; allowed: 'fast', 'exact'"),
            ({"x": torch.zeros((17, 48))}, TypeError, r"x is torch\.float32; allowed: torch\.float16, torch\.bfloat16"),
            ({"x": torch.zeros(48, dtype=torch.float16)}, ValueError, r"x has shape \(48,\); allowed: 2 dimensions"),
            ({"x": torch.zeros((1, 48), dtype=torch.float16).expand(17, 48)}, ValueError, r"x has strides \(0, 1\)"),
            ({"k": 56}, ValueError, r"K is 56 .*allowed: multiples of 16"),
            ({"m": 33, "layout": "8x4"}, ValueError, r"layout is '8x4' for 33 rows; allowed: up to 32"),
            ({"padded_k": 40}, ValueError, r"padded_k is 40; allowed: multiples of 16 from K = 48 on"),
            ({"padded_k": 32}, ValueError, r"padded_k is 32"),
            ({"global_scale": torch.ones(2)}, ValueError, r"global_scale has shape \(2,\); allowed: one element"),
            ({"global_scale": torch.ones(1).half()}, TypeError, r"global_scale is torch\.float16; allowed"),
            ({"global_scale": torch.ones(1, device="meta")}, ValueError, r"global_scale is on meta; allowed: cpu"),
            ({"codes": bytes_(17, 48)}, ValueError, r"codes has shape \(17, 48\); allowed: \(17, 24\)"),
            ({"codes": torch.zeros((17, 24))}, TypeError, r"codes is torch\.float32; allowed: torch\.uint8"),
            ({"scales": bytes_(128, 3)}, ValueError, r"scales has shape \(128, 3\); allowed: \(128, 4\)"),
            (
                {"scales": bytes_(4, 128).T},
                ValueError,
                r"scales has strides \(1, 128\); allowed with 128x4: contiguous",
            ),
            ({"codes": bytes_(500).as_strided((17, 24), (23, 1))}, ValueError, r"codes has strides .*no overlapping"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_a_wrong_argument_is_named_with_what_is_allowed(self, launches, replaced, error, message):
        with pytest.raises(error, match=message):
            quantize(**replaced)
        assert not launches

    def test_outputs_must_have_memory_of_their_own(self):
        x = torch.zeros((17, 48), dtype=torch.bfloat16)
        with pytest.raises(ValueError, match="codes shares memory with x"):
            quantize(x=x, codes=x.view(torch.uint8).reshape(-1)[: 17 * 24].reshape(17, 24))

    @pytest.mark.parametrize(
        ("options", "shape"),
        [
            ({"layout": "linear"}, (17, 3)),
            ({"layout": "128x4"}, (128, 4)),
            ({"layout": "8x4"}, (24, 4)),
            ({"layout": "128x4", "m": 129, "padded_k": 80}, (256, 8)),
        ],
    )
    def test_shapes(self, launches, options, shape):
        codes, stored = quantize(**options)
        assert codes.shape == (options.get("m", 17), 24)
        assert tuple(stored.shape) == shape
        assert shape == (launches[0].PADDED_M, launches[0].PADDED_GROUPS)

    @pytest.mark.parametrize(("m", "k"), [(0, 48), (0, 0), (17, 0)])
    def test_nothing_to_quantize_launches_nothing(self, launches, m, k):
        codes, _ = quantize(m=m, k=k)
        assert codes.shape == (m, k // 2)
        assert not launches


class TestMultiply:
    @pytest.mark.parametrize(
        ("replaced", "error", "message"),
        [
            ({"backend": "marlin"}, ValueError, r"backend is 'marlin'; allowed: 'cutlass', 'flashinfer-cutlass', 'fl"),
            ({"a_layout": "4x4"}, ValueError, r"a_layout is '4x4'; allowed: 'linear', '128x4', '8x4'"),
            ({"a": torch.zeros((17, 80))}, TypeError, r"a is torch\.float32; allowed: torch\.uint8"),
            ({"b_scales": bytes_(1536)}, ValueError, r"b_scales has shape \(1536,\); allowed: 2 dimensions"),
            ({"a": bytes_(17, 72)}, ValueError, r"a has shape \(17, 72\), b \(96, 80\); .*Are both padded"),
            ({"k": 144}, ValueError, r"K is 144; allowed with backend cutlass: multiples of 32"),
            ({"n": 100}, ValueError, r"N is 100; allowed with backend cutlass: multiples of 32"),
            ({"backend": "flashinfer-cutlass"}, ValueError, r"N is 96; .*flashinfer-cutlass: multiples of 128"),
            ({"a_scales": bytes_(128, 10)}, ValueError, r"a_scales has shape \(128, 10\); allowed: \(128, 12\), 128x4"),
            ({"b_scales": bytes_(96, 10)}, ValueError, r"b_scales has shape \(96, 10\); allowed: \(128, 12\)"),
            ({"a_layout": "8x4", "m": 33}, ValueError, r"a_layout is '8x4' for 33 rows; allowed: up to 32"),
            ({"b_scales": bytes_(12, 128).T}, ValueError, r"b_scales has strides \(1, 128\); .*contiguous"),
            ({"alpha": torch.ones(1).half()}, TypeError, r"alpha is torch\.float16; allowed: torch\.float32"),
            ({"alpha": torch.ones(96)}, ValueError, r"alpha has shape \(96,\); allowed: one element"),
            ({"bias": torch.ones(90)}, ValueError, r"bias has shape \(90,\); allowed: \(96,\)"),
            ({"bias": torch.ones(96).double()}, TypeError, r"bias is torch\.float64"),
            ({"dtype": torch.float32}, TypeError, r"dtype is torch\.float32; allowed: torch\.bfloat16, torch\.float16"),
            ({"out": torch.zeros((17, 96))}, TypeError, r"out is torch\.float32"),
            ({"out": torch.zeros((17, 90)).half()}, ValueError, r"out has shape \(17, 90\); allowed: \(17, 96\)"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_a_wrong_argument_is_named_with_what_is_allowed(self, launches, replaced, error, message):
        with pytest.raises(error, match=message):
            multiply(**replaced)
        assert not launches

    def test_launch(self, launches):
        out = multiply(config=configs.CONFIGS["BM16_BN64_BK256"], dtype=torch.float16)
        (launched,) = launches
        assert launched.grid == (2 * 2,)
        assert (launched.K, launched.BLOCK_K, launched.a_tiles_across) == (80, 128, 3)
        assert launched.c_ptr is out
        assert (out.shape, out.dtype) == ((17, 96), torch.float16)

    def test_no_rows_launch_nothing(self, launches):
        assert multiply(m=0, a_scales=bytes_(0, 12)).shape == (0, 96)
        assert not launches


class TestBackends:
    def test_alignments_differ(self):
        padded = {name: backend.padded(173, 464) for name, backend in backends.BACKENDS.items()}
        assert padded == {"cutlass": (192, 480), "flashinfer-cutlass": (256, 512), "flashinfer-trtllm": (256, 512)}

    @pytest.mark.parametrize(("m", "layout"), [(1, "8x4"), (32, "8x4"), (33, "128x4")])
    def test_few_rows_have_small_tiles(self, m, layout):
        assert backends.BACKENDS["flashinfer-trtllm"].activation_layout(m) == layout
        assert backends.BACKENDS["cutlass"].activation_layout(m) == "128x4"


class TestLayer:
    @pytest.mark.parametrize(
        ("replaced", "error", "message"),
        [
            ({"backend": "flashinfer-cudnn"}, ValueError, r"backend is 'flashinfer-cudnn'; allowed: 'cutlass', "),
            ({"codes": bytes_(100, 30)}, ValueError, r"K is 60 .*allowed: multiples of 16"),
            ({"scales": bytes_(100, 6)}, ValueError, r"scales has shape \(100, 6\); allowed: \(100, 5\)"),
            ({"scales": torch.zeros((100, 5))}, TypeError, r"scales is torch\.float32; allowed: torch\.uint8"),
            ({"parts": 3}, ValueError, r"parts is 3; allowed: divisors of N = 100"),
            ({"bias": torch.zeros(5)}, ValueError, r"bias has shape \(5,\); allowed: \(100,\)"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_a_wrong_weight_is_named_with_what_is_allowed(self, replaced, error, message):
        arguments = {"codes": bytes_(100, 40), "scales": bytes_(100, 5)} | replaced
        with pytest.raises(error, match=message):
            linear.prepare_weight(arguments.pop("codes"), arguments.pop("scales"), **arguments)

    def test_each_part_is_padded_by_itself(self):
        codes = torch.arange(1, 101, dtype=torch.uint8)[:, None].expand(100, 40).contiguous()
        weight = linear.prepare_weight(codes, bytes_(100, 5), torch.ones(100), backend="cutlass", parts=2)
        assert weight.codes.shape == (128, 48)
        assert weight.codes[:, 0].tolist() == [*range(1, 51), *[0] * 14, *range(51, 101), *[0] * 14]
        assert not weight.codes[:, 40:].any()
        assert weight.bias.tolist() == [*[1] * 50, *[0] * 14, *[1] * 50, *[0] * 14]

    @pytest.mark.parametrize(
        ("x", "options", "error", "message"),
        [
            (torch.zeros((3, 64)).half(), {}, ValueError, r"x has shape \(3, 64\); allowed: \(\.\.\., 80\)"),
            (torch.zeros((3, 80)), {}, TypeError, r"dtype is torch\.float32; allowed: torch\.bfloat16, "),
            (torch.zeros((3, 80)), {"dtype": torch.float16}, TypeError, r"x is torch\.float32; allowed"),
        ],
    )
    def test_wrong_activations(self, launches, x, options, error, message):
        weight = linear.prepare_weight(bytes_(100, 40), bytes_(100, 5))
        with pytest.raises(error, match=message):
            linear.nvfp4_linear(x, weight, torch.ones(1), torch.ones(1), **options)
        assert not launches

    @pytest.mark.parametrize("shape", [(0, 80), (2, 0, 80), (80,), (2, 3, 80)])
    def test_shapes(self, launches, shape):
        weight = linear.prepare_weight(bytes_(100, 40), bytes_(100, 5))
        out = linear.nvfp4_linear(torch.zeros(shape).half(), weight, torch.ones(1), torch.ones(1))
        assert out.shape == (*shape[:-1], 100)
        assert len(launches) == (0 if 0 in shape else 2)


class TestConfigs:
    @pytest.mark.parametrize("table", [configs.CONFIGS, configs.QUANTIZE_CONFIGS])
    def test_names(self, table):
        assert all(name == config.name for name, config in table.items())

    @pytest.mark.parametrize(
        ("field", "value"),
        [("block_m", 8), ("block_n", 24), ("block_k", 32), ("group_m", 17), ("num_warps", 3), ("num_stages", 0)],
    )
    def test_a_field_out_of_range_is_named(self, field, value):
        fields = {"block_m": 32, "block_n": 32, "block_k": 128, field: value}
        with pytest.raises(ValueError, match=rf"config\.{field} is {value}; allowed: "):
            configs.Config(**fields)

    def test_so_is_one_of_the_quantization(self):
        with pytest.raises(ValueError, match=r"config\.block_groups is 2; allowed: \(4, 8"):
            configs.QuantizeConfig(16, 2)

    @pytest.mark.parametrize("m", [1, 8, 9, 16, 17, 64, 128, 129, 2**20])
    def test_defaults_are_of_the_tables(self, m):
        assert configs.default_config(m) in configs.CONFIGS.values()
        assert configs.default_quantize_config(m) in configs.QUANTIZE_CONFIGS.values()


@pytest.mark.parametrize(("rows", "groups"), [(1, 1), (128, 4), (130, 5), (300, 29)])
def test_swizzle_128x4_is_the_published_offset(rows, groups):
    stored = torch.randint(1, 255, (rows, groups), dtype=torch.uint8)
    swizzled = scales.swizzle_128x4(stored, groups).reshape(-1)
    expected = torch.zeros_like(swizzled)
    for r in range(rows):
        for g in range(groups):
            tile = r // 128 * -(-groups // 4) + g // 4
            expected[tile * 512 + r % 32 * 16 + r % 128 // 32 * 4 + g % 4] = stored[r, g]
    assert torch.equal(swizzled, expected)
