"""The GEMM's launcher, configurations and TTIR. No kernel runs here: results are the fuzzer's to judge."""

import inspect
from types import SimpleNamespace

import pytest
import torch
import triton
from hypothesis import example, given
from hypothesis import strategies as st
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend


def _family():
    from kernels.gemm_afp4wfp4 import configs, kernel, launch

    return configs, kernel, launch


configs, kernel, launch = _family()
gemm = launch.gemm_afp4wfp4

TARGETS = [GPUTarget("cuda", 90, 32), GPUTarget("cuda", 100, 32), GPUTarget("hip", "gfx950", 64)]


def operands(m=33, n=37, k=160, **replaced):
    arguments = {
        "x": torch.zeros((m, k // 2), dtype=torch.uint8),
        "w": torch.zeros((n, k // 2), dtype=torch.uint8),
        "x_scales": torch.zeros((m, k // 32), dtype=torch.uint8),
        "w_scales": torch.zeros((n, k // 32), dtype=torch.uint8),
    }
    return arguments | replaced


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
                options = {name: kwargs.pop(name) for name in ("num_warps", "num_stages") if name in kwargs}
                bound = inspect.signature(self.function.fn).bind(*args, **kwargs).arguments
                seen.append(SimpleNamespace(grid=grid, options=options, **bound))

            return run

    for name in ("gemm_afp4wfp4_kernel", "gemm_afp4wfp4_reduce_kernel"):
        monkeypatch.setattr(kernel, name, Recorder(getattr(kernel, name)))
    return seen


class TestArguments:
    @pytest.mark.parametrize(
        ("replaced", "error", "message"),
        [
            ({"x": torch.zeros((33, 80))}, TypeError, r"x is torch\.float32; allowed: torch\.uint8"),
            ({"w": None}, TypeError, r"w is of type NoneType; allowed: torch\.Tensor"),
            ({"y": [0.0]}, TypeError, r"y is of type list; allowed: torch\.Tensor"),
            ({"config": "BM32_BN32_BK128"}, TypeError, r"config is 'BM32_BN32_BK128'; allowed: a Config, such as"),
            ({"w_scales": torch.zeros((37, 5), dtype=torch.int8)}, TypeError, r"w_scales is torch\.int8"),
            ({"x": bytes_(33 * 80)}, ValueError, r"x has shape \(2640,\); allowed: two dimensions"),
            ({"w": bytes_(37, 79)}, ValueError, r"w has shape \(37, 79\); allowed: \(N, 80\)"),
            ({"x": bytes_(33, 72), "w": bytes_(37, 72)}, ValueError, r"K is 144 .*allowed: multiples of 32"),
            ({"x_scales": bytes_(33, 6)}, ValueError, r"x_scales has shape \(33, 6\); allowed: \(33, 5\)"),
            ({"w_scales": bytes_(5, 37)}, ValueError, r"w_scales has shape \(5, 37\); allowed: \(37, 5\)"),
            ({"w": bytes_(1, 80).expand(37, 80)}, ValueError, r"w has strides \(0, 1\); allowed: positive"),
            ({"w": bytes_(37, 80).to("meta")}, ValueError, r"w is on meta; allowed: cpu"),
            ({"scales": "swizzled"}, ValueError, r"scales is 'swizzled'; allowed: 'linear', 'preshuffled'"),
            ({"dtype": torch.float64}, TypeError, r"dtype is torch\.float64; allowed: torch\.bfloat16"),
            ({"y": torch.zeros((33, 37), dtype=torch.int32)}, TypeError, r"y is torch\.int32; allowed:"),
            (
                {"y": torch.zeros((33, 37)), "dtype": torch.float16},
                TypeError,
                r"y is torch\.float32; allowed",
            ),
            ({"y": torch.zeros((37, 33))}, ValueError, r"y has shape \(37, 33\); allowed: \(33, 37\)"),
            ({"y": torch.zeros((33, 37), device="meta")}, ValueError, r"y is on meta; allowed: cpu"),
            ({"y": torch.zeros(37).expand(33, 37)}, ValueError, r"y has strides \(0, 1\); allowed: positive"),
            (
                {"y": torch.zeros(33 * 37).as_strided((33, 37), (36, 1))},
                ValueError,
                r"y has strides \(36, 1\) .*do not overlap",
            ),
            ({"y": torch.zeros((33, 37)), "keep_partials": True}, ValueError, r"keep_partials .*y and dtype"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_a_wrong_one_is_named_with_what_is_allowed(self, launches, replaced, error, message):
        with pytest.raises(error, match=message):
            gemm(**operands(**replaced))
        assert not launches

    def test_y_must_not_share_memory_with_an_input(self, launches):
        storage = bytes_(8192)
        y = storage[:4884].view(torch.float32).view(33, 37)
        w = storage[4800 : 4800 + 37 * 80].view(37, 80)
        with pytest.raises(ValueError, match="y shares memory with w"):
            gemm(**operands(w=w, y=y))
        assert not launches

    def test_strides_of_size_one_are_free(self, launches):
        gemm(**operands(m=1, x=bytes_(1, 80).as_strided((1, 80), (0, 1))))
        assert len(launches) == 1

    @pytest.mark.parametrize("strides", [(37, 1), (1, 33), (80, 2), (2, 70)])
    def test_y_of_any_strides_that_do_not_overlap(self, launches, strides):
        y = torch.zeros(4096).as_strided((33, 37), strides)
        assert gemm(**operands(y=y)) is y
        assert (launches[0].stride_cm, launches[0].stride_cn) == strides

    @pytest.mark.parametrize(
        ("m", "config", "field"),
        [
            (32, "BM16_BN32_BK1024", "block_m"),
            (8, "BM16_BN32_BK128", "block_k"),
            (8, "BM256_BN16_BK128", "block_n"),
        ],
    )
    def test_preshuffled_scales_need_whole_blocks(self, launches, m, config, field):
        arguments = operands(m=m, k=256, w_scales=bytes_(2, 256))
        if m >= 32:
            arguments["x_scales"] = bytes_(1, 256)
        with pytest.raises(ValueError, match=rf"config\.{field} is .*M={m}: at least"):
            gemm(**arguments, scales="preshuffled", config=configs.CONFIGS[config])
        assert not launches

    @pytest.mark.parametrize(("m", "x_scales"), [(31, (31, 5)), (32, (1, 256)), (33, (2, 256)), (33, (8, 256))])
    def test_preshuffled_shapes(self, launches, m, x_scales):
        gemm(**operands(m=m, x_scales=bytes_(*x_scales), w_scales=bytes_(2, 256)), scales="preshuffled")
        assert launches[0].A_SCALES_SHUFFLED is (m >= 32)
        assert launches[0].B_SCALES_SHUFFLED

    @pytest.mark.parametrize("w_scales", [(1, 256), (2, 160), (37, 5)])
    def test_preshuffled_scales_of_a_wrong_shape(self, launches, w_scales):
        with pytest.raises(ValueError, match=r"w_scales .* allowed when preshuffled: \(2 or more, 256\)"):
            gemm(**operands(m=8, w_scales=bytes_(*w_scales)), scales="preshuffled")
        assert not launches


class TestLaunch:
    def test_one_split_writes_y_itself(self, launches):
        y = gemm(**operands(), config=configs.CONFIGS["BM32_BN32_BK128"])
        (launch_,) = launches
        assert launch_.grid == (2 * 2,)
        assert launch_.K == 80
        assert launch_.c_ptr.data_ptr() == y.data_ptr()
        assert y.dtype == torch.bfloat16
        assert not launch_.EVEN_K
        assert launch_.options == {"num_warps": 4, "num_stages": 2}

    def test_splits_go_through_fp32_partials(self, launches):
        y = gemm(**operands(k=384), dtype=torch.float16, config=configs.CONFIGS["BM32_BN32_BK128_KS4"])
        first, reduction = launches
        assert first.grid == (3 * 2 * 2,)
        assert (first.NUM_KSPLIT, first.SPLITK_BLOCK_SIZE, first.EVEN_K) == (3, 128, True)
        assert first.c_ptr is reduction.partials_ptr
        assert (first.c_ptr.shape, first.c_ptr.dtype) == ((3, 33, 37), torch.float32)
        assert reduction.c_ptr is y
        assert reduction.grid == (3, 1)
        assert (reduction.NUM_KSPLIT, reduction.MAX_KSPLIT) == (3, 4)

    @pytest.mark.parametrize(("config", "splits"), [("BM32_BN32_BK128", 1), ("BM32_BN32_BK128_KS4", 3)])
    def test_kept_partials_are_not_reduced(self, launches, config, splits):
        partials = gemm(**operands(k=384), keep_partials=True, config=configs.CONFIGS[config])
        assert (partials.shape, partials.dtype) == ((splits, 33, 37), torch.float32)
        assert len(launches) == 1

    @pytest.mark.parametrize(("m", "n"), [(0, 37), (33, 0), (0, 0)])
    def test_nothing_to_compute_launches_nothing(self, launches, m, n):
        assert gemm(**operands(m=m, n=n)).shape == (m, n)
        assert not launches

    @pytest.mark.parametrize("keep_partials", [False, True])
    def test_an_empty_k_gives_zeros(self, launches, keep_partials):
        out = gemm(**operands(k=0), keep_partials=keep_partials)
        assert out.shape == ((1, 33, 37) if keep_partials else (33, 37))
        assert not out.any()
        assert not launches


def published_split_k(k, block_size_k, num_ksplit):
    """The rule as AITER states it, with K in bytes."""
    k //= 2
    splitk = triton.cdiv(2 * triton.cdiv(k, num_ksplit), block_size_k) * block_size_k
    while num_ksplit > 1:
        if k % (splitk // 2) == 0 and splitk % block_size_k == 0 and k % (block_size_k // 2) == 0:
            break
        num_ksplit //= 2
        splitk = triton.cdiv(2 * triton.cdiv(k, num_ksplit), block_size_k) * block_size_k
    num_ksplit = triton.cdiv(k, splitk // 2)
    if block_size_k >= 2 * k:
        block_size_k = triton.next_power_of_2(2 * k)
        num_ksplit = 1
    block_size_k = max(block_size_k, 128)
    if num_ksplit == 1:
        splitk = 2 * k
    even_k = k % (block_size_k // 2) == 0 and splitk % block_size_k == 0 and k % (splitk // 2) == 0
    return launch.SplitK(block_size_k, splitk, num_ksplit, even_k)


class TestSplitK:
    splits = given(
        k=st.one_of(st.integers(1, 400).map(lambda x: 32 * x), st.integers(1, 64).map(lambda x: 128 * x)),
        block_size_k=st.sampled_from([128, 256, 512, 1024]),
        num_ksplit=st.integers(1, 16),
    )

    @splits
    @example(k=256, block_size_k=256, num_ksplit=4)
    @example(k=768, block_size_k=256, num_ksplit=4)
    def test_is_the_published_rule(self, k, block_size_k, num_ksplit):
        assert launch.split_k(k, block_size_k, num_ksplit) == published_split_k(k, block_size_k, num_ksplit)

    @splits
    def test_splits_cover_k_exactly_and_none_is_empty(self, k, block_size_k, num_ksplit):
        split = launch.split_k(k, block_size_k, num_ksplit)
        assert 1 <= split.num_ksplit <= num_ksplit
        assert (split.num_ksplit - 1) * split.splitk_block_size < k
        assert k <= split.num_ksplit * split.splitk_block_size

    @splits
    def test_each_split_but_the_last_is_whole_blocks(self, k, block_size_k, num_ksplit):
        split = launch.split_k(k, block_size_k, num_ksplit)
        if split.num_ksplit > 1:
            assert split.splitk_block_size % split.block_size_k == 0
            assert split.even_k, "a ragged tail is not worth splitting"

    @splits
    def test_even_k_means_that_no_block_crosses_an_end(self, k, block_size_k, num_ksplit):
        split = launch.split_k(k, block_size_k, num_ksplit)
        starts = range(0, k, split.splitk_block_size)
        ends = (min(start + split.splitk_block_size, k) for start in starts)
        whole = all((end - start) % split.block_size_k == 0 for start, end in zip(starts, ends, strict=True))
        assert split.even_k == whole

    @splits
    def test_the_block_shrinks_to_k_but_not_below_the_least(self, k, block_size_k, num_ksplit):
        split = launch.split_k(k, block_size_k, num_ksplit, min_block_size_k=256)
        expected = block_size_k if block_size_k < k else max(triton.next_power_of_2(k), 256)
        assert split.block_size_k == expected

    @pytest.mark.parametrize(
        ("k", "config", "expected"),
        [
            (768, (256, 4), (256, 256, 3, True)),
            (256, (256, 4), (256, 256, 1, True)),
            (2304, (512, 1), (512, 2304, 1, False)),
            (1536, (1024, 1), (1024, 1536, 1, False)),
            (96, (512, 4), (128, 96, 1, False)),
        ],
    )
    def test_by_example(self, k, config, expected):
        assert launch.split_k(k, *config) == launch.SplitK(*expected)


class TestConfigs:
    def test_the_table_spans_what_ships(self):
        table = configs.CONFIGS.values()
        assert {c.block_m for c in table} == {4, 8, 16, 32, 64, 128, 256}
        assert {c.block_n for c in table} == {16, 32, 64, 128, 256}
        assert {c.block_k for c in table} == {128, 256, 512, 1024}
        assert {c.num_ksplit for c in table} >= {1, 16}
        assert {c.group_m for c in table} >= {1, 16}

    def test_names(self):
        assert all(name == config.name for name, config in configs.CONFIGS.items())
        assert configs.Config(32, 64, 256, num_ksplit=4, group_m=8).name == "BM32_BN64_BK256_KS4_GM8"
        source = inspect.getsource(configs)
        listed = source[source.index("CONFIGS: ") : source.index("_ANY")].count(" Config(")
        assert len(configs.CONFIGS) == listed, "two configurations have one name"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("block_m", 2),
            ("block_n", 24),
            ("block_k", 64),
            ("num_ksplit", 0),
            ("group_m", 17),
            ("num_warps", 3),
        ],
    )
    def test_a_field_out_of_range_is_named(self, field, value):
        fields = {"block_m": 32, "block_n": 32, "block_k": 128, field: value}
        with pytest.raises(ValueError, match=rf"config\.{field} is {value}; allowed: "):
            configs.Config(**fields)

    @pytest.mark.parametrize(
        ("shape", "block_k"), [((33, 7168, 2304), 512), ((64, 7168, 2304), 512), ((16, 24576, 1536), 1024)]
    )
    def test_tuned_shapes_leave_a_tail(self, shape, block_k):
        config = configs.default_config(*shape)
        assert config.block_k == block_k
        assert not launch.split_k(shape[2], config.block_k, config.num_ksplit).even_k

    @pytest.mark.parametrize("m", [0, 1, 8, 9, 16, 17, 31, 32, 33, 64, 65, 128, 129, 256, 257, 512, 513, 2**20])
    def test_defaults_suit_every_layout_of_the_scales(self, m):
        for n, k in ((1, 32), (7168, 2304), (24576, 1536)):
            config = configs.default_config(m, n, k)
            assert configs.CONFIGS[config.name] is config
            launch._check_config(config, m, "preshuffled")


def compile_to_ttir(function, signature, constexprs, target):
    backend = make_backend(target)
    signature = {name: "constexpr" if name in constexprs else signature.get(name, "i32") for name in function.arg_names}
    indexed = {(function.arg_names.index(name),): value for name, value in constexprs.items()}
    source = ASTSource(function, signature, indexed, {})
    options = backend.parse_options({})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    functions, modules = backend.get_codegen_implementation(options), backend.get_module_map()
    module = source.make_ir(target, options, functions, modules, context)
    capability = [target.arch] * (len(inspect.signature(backend.make_ttir).parameters) > 3)
    return str(backend.make_ttir(module, {}, options, *capability))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.arch))
class TestTTIR:
    pointers = dict.fromkeys(("a_ptr", "b_ptr", "a_scales_ptr", "b_scales_ptr"), "*u8")
    contiguous = dict.fromkeys(("stride_ak", "stride_bk", "stride_cn", "stride_ask", "stride_bsk"), 1)

    def gemm(self, config, target, *, dtype="bf16", even_k=False, shuffled=(False, False), **specialised):
        constexprs = {
            "BLOCK_SIZE_M": config.block_m,
            "BLOCK_SIZE_N": config.block_n,
            "BLOCK_SIZE_K": config.block_k,
            "GROUP_SIZE_M": config.group_m,
            "NUM_KSPLIT": config.num_ksplit,
            "EVEN_K": even_k,
            "A_SCALES_SHUFFLED": shuffled[0],
            "B_SCALES_SHUFFLED": shuffled[1],
        }
        signature = self.pointers | {"c_ptr": f"*{dtype}"}
        return compile_to_ttir(kernel.gemm_afp4wfp4_kernel, signature, constexprs | specialised, target)

    def test_every_config(self, target):
        for config in configs.CONFIGS.values():
            ttir = self.gemm(config, target, **self.contiguous)
            assert ttir.count("tt.dot_scaled") == 1, config.name

    @pytest.mark.parametrize("even_k", [False, True])
    @pytest.mark.parametrize("shuffled", [(False, False), (False, True), (True, True)])
    def test_every_layout_of_the_scales(self, target, even_k, shuffled):
        for name in ("BM32_BN32_BK256", "BM32_BN64_BK512_KS2", "BM64_BN128_BK512"):
            assert "tt.dot_scaled" in self.gemm(configs.CONFIGS[name], target, even_k=even_k, shuffled=shuffled)

    @pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
    def test_every_output_type(self, target, dtype):
        self.gemm(configs.CONFIGS["BM4_BN16_BK128"], target, dtype=dtype)

    @pytest.mark.parametrize("ones", [("M",), ("N",), ("M", "N"), ("stride_am", "stride_cm", "stride_bn")])
    def test_arguments_that_are_one_become_constants(self, target, ones):
        config = configs.CONFIGS["BM32_BN32_BK256"]
        self.gemm(config, target, shuffled=(False, True), **dict.fromkeys(ones, 1))

    @pytest.mark.parametrize("num_ksplit", [2, 3, 16])
    def test_the_reduction(self, target, num_ksplit):
        constexprs = {
            "BLOCK_SIZE_M": launch.REDUCE_BLOCK_SIZE_M,
            "BLOCK_SIZE_N": launch.reduce_block_size_n(num_ksplit),
            "NUM_KSPLIT": num_ksplit,
            "MAX_KSPLIT": triton.next_power_of_2(num_ksplit),
        }
        signature = {"partials_ptr": "*fp32", "c_ptr": "*bf16"}
        ttir = compile_to_ttir(kernel.gemm_afp4wfp4_reduce_kernel, signature, constexprs, target)
        assert '"tt.reduce"' in ttir
