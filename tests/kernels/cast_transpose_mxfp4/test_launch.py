"""The cast-transpose's launcher: what it refuses, what it allocates, what it launches. No kernel runs here."""

import inspect
from types import SimpleNamespace

import pytest
import torch


def _family():
    from kernels.cast_transpose_mxfp4 import configs, kernel, launch

    return configs, kernel, launch


configs, kernel, launch = _family()
cast = launch.cast_transpose_mxfp4


@pytest.fixture
def launches(monkeypatch):
    """What would have been launched, in order."""
    seen = []

    class Recorder:
        def __init__(self, function):
            self.function = function

        def __getitem__(self, grid):
            def run(*args, num_warps, **kwargs):
                bound = inspect.signature(self.function.fn).bind(*args, **kwargs).arguments
                seen.append(SimpleNamespace(grid=grid, num_warps=num_warps, **bound))

            return run

    monkeypatch.setattr(kernel, "cast_transpose_mxfp4_kernel", Recorder(kernel.cast_transpose_mxfp4_kernel))
    return seen


def bytes_(*shape):
    return torch.zeros(shape, dtype=torch.uint8)


def outputs(m=64, n=96, *, rowwise=True, columnwise=True, **replaced):
    """Linear outputs of (m, n), one of them replaced."""
    tensors = {
        "row_codes": bytes_(m, n // 2),
        "row_scales": bytes_(m, n // 32),
        "col_codes": bytes_(n, m // 2),
        "col_scales": bytes_(n, m // 32),
    } | replaced
    row = launch.Quantized(tensors["row_codes"], tensors["row_scales"])
    col = launch.Quantized(tensors["col_codes"], tensors["col_scales"])
    return launch.CastTransposed(row if rowwise else None, col if columnwise else None)


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (torch.zeros(64, 96, dtype=torch.float64), {}, TypeError, r"x is torch\.float64; allowed: torch\.float32"),
        (bytes_(64, 96), {}, TypeError, r"x is torch\.uint8; allowed: torch\.float32"),
        (torch.zeros(64), {}, ValueError, r"x has shape \(64,\); allowed: two dimensions or more"),
        (torch.zeros(32, 3221), {}, ValueError, r"N is 3221 .*allowed: multiples of 32"),
        (torch.zeros(2333, 32), {}, ValueError, r"M is 2333 .*allowed: multiples of 32"),
        (torch.zeros(1481, 677), {}, ValueError, r"M is 1481 .*allowed: multiples of 32"),
        (torch.zeros(31, 64), {}, ValueError, r"M is 31 "),
        (torch.zeros(64, 31), {}, ValueError, r"N is 31 "),
        (torch.zeros(5, 7, 64), {}, ValueError, r"M is 35 \(x has shape \(5, 7, 64\)\)"),
        (torch.zeros(1).expand(2**31 - 256, 32), {}, ValueError, r"M is 2147483392 .*at most"),
        (torch.zeros(4, 96, 64).transpose(1, 2), {}, ValueError, r"strides \(6144, 1, 64\); allowed: .*fold into one"),
        (torch.zeros(64, 96), {"direction": "rows"}, ValueError, r"direction is 'rows'; allowed: 'both', 'rowwise'"),
        (torch.zeros(64, 96), {"codes": "swizzled"}, ValueError, r"codes is 'swizzled'; allowed: 'linear', 'shuffled'"),
        (torch.zeros(64, 96), {"scales": "256x8"}, ValueError, r"scales is '256x8'; allowed: 'linear', 'shuffled'"),
        (torch.zeros(64, 96), {"codes": "shuffled"}, ValueError, r"N is 96; .*shuffled codes .*multiples of 64"),
        (torch.zeros(96, 64), {"codes": "shuffled"}, ValueError, r"M is 96; .*shuffled codes .*multiples of 64"),
    ],
)
def test_a_wrong_input_or_option_is_named_with_what_is_allowed(launches, x, options, error, message):
    with pytest.raises(error, match=message):
        cast(x, **options)
    assert not launches


@pytest.mark.parametrize(("shape", "direction"), [((96, 64), "rowwise"), ((64, 96), "columnwise")])
def test_shuffled_codes_ask_nothing_of_the_rows(launches, shape, direction):
    cast(torch.zeros(shape), direction=direction, codes="shuffled")
    assert launches[0].CODES_SHUFFLED


OVERLAPPING = bytes_(4096)


@pytest.mark.parametrize(
    ("replaced", "options", "error", "message"),
    [
        (
            {"row_codes": bytes_(64, 47)},
            {},
            ValueError,
            r"out\.rowwise\.codes has shape \(64, 47\); allowed: \(64, 48\)",
        ),
        ({"row_codes": torch.zeros(64, 48)}, {}, TypeError, r"out\.rowwise\.codes is torch\.float32; allowed"),
        (
            {"col_scales": bytes_(96, 3)},
            {},
            ValueError,
            r"out\.columnwise\.scales has shape \(96, 3\); allowed: \(96, 2\)",
        ),
        ({"col_codes": bytes_(96, 32).to("meta")}, {}, ValueError, r"out\.columnwise\.codes is on meta; allowed: cpu"),
        (
            {"row_scales": bytes_(3).expand(64, 3)},
            {},
            ValueError,
            r"out\.rowwise\.scales has strides \(0, 1\); allowed: elements that do not overlap",
        ),
        ({"row_scales": bytes_(512).as_strided((64, 3), (2, 1))}, {}, ValueError, r"\(2, 1\); .*do not overlap"),
        ({}, {"scales": "shuffled"}, ValueError, r"out\.rowwise\.scales has shape \(64, 3\); allowed: \(256, 8\)"),
        (
            {"row_scales": bytes_(256, 9)[:, :8]},
            {"scales": "shuffled"},
            ValueError,
            r"out\.rowwise\.scales has strides \(9, 1\); allowed when shuffled: contiguous",
        ),
        ({"rowwise": False}, {}, ValueError, r"out\.rowwise is None; allowed with this direction: tensors"),
        ({}, {"direction": "rowwise"}, ValueError, r"out\.columnwise is tensors; allowed .*: None"),
        (
            {"row_codes": OVERLAPPING[:3072].view(64, 48), "col_codes": OVERLAPPING[1024:].view(96, 32)},
            {},
            ValueError,
            r"out\.columnwise\.codes shares memory with out\.rowwise\.codes",
        ),
    ],
)
def test_a_wrong_output_is_named_with_what_is_allowed(launches, replaced, options, error, message):
    with pytest.raises(error, match=message):
        cast(torch.zeros(64, 96), out=outputs(**replaced), **({"scales": "linear"} | options))
    assert not launches


def test_an_output_must_not_share_memory_with_the_input(launches):
    x = torch.zeros(64, 96)
    with pytest.raises(ValueError, match=r"out\.rowwise\.codes shares memory with x"):
        cast(x, out=outputs(row_codes=x.view(torch.uint8)[:, :48]), scales="linear")
    assert not launches


@pytest.mark.parametrize(
    ("shape", "scales", "row", "col"),
    [
        ((64, 96), "linear", (64, 3), (96, 2)),
        ((64, 96), "shuffled", (256, 8), (256, 8)),
        ((288, 320), "shuffled", (512, 16), (512, 16)),
        ((8, 32, 1024), "shuffled", (256, 32), (1024, 8)),
        ((256, 256), "shuffled", (256, 8), (256, 8)),
        ((0, 64), "shuffled", (0, 8), (256, 0)),
        ((0, 64), "linear", (0, 2), (64, 0)),
    ],
)
def test_outputs_of_ones_own(launches, shape, scales, row, col):
    result = cast(torch.zeros(shape), scales=scales)
    m, n = torch.Size(shape[:-1]).numel(), shape[-1]
    assert (result.rowwise.codes.shape, result.columnwise.codes.shape) == ((m, n // 2), (n, m // 2))
    assert (result.rowwise.scales.shape, result.columnwise.scales.shape) == (row, col)
    assert len(launches) == (m > 0)


@pytest.mark.parametrize("direction", launch.DIRECTIONS)
def test_only_what_is_asked_for_is_made(launches, direction):
    result = cast(torch.zeros(64, 96), direction=direction)
    assert (result.rowwise is not None) == launches[0].ROWWISE == (direction != "columnwise")
    assert (result.columnwise is not None) == launches[0].COLUMNWISE == (direction != "rowwise")
    assert (launches[0].col_codes_ptr is None) == (direction == "rowwise")


@pytest.mark.parametrize(
    ("shape", "config", "scales", "programs"),
    [
        ((64, 96), "BM32_BN32", "linear", 2 * 3),
        ((64, 96), "BM64_BN64", "linear", 1 * 2),
        ((64, 96), "BM32_BN32", "shuffled", 8 * 8),
        ((288, 96), "BM128_BN128", "shuffled", 4 * 2),
    ],
)
def test_the_grid_covers_the_matrix_or_all_of_its_padding(launches, shape, config, scales, programs):
    cast(torch.zeros(shape), config=configs.CONFIGS[config], scales=scales)
    assert launches[0].grid == (programs,)


def test_strides_are_passed_on(launches):
    out = outputs(col_codes=bytes_(32, 96).t())
    assert cast(torch.zeros(96, 64).t(), out=out, scales="linear") is out
    (seen,) = launches
    assert (seen.stride_xm, seen.stride_xn) == (1, 64)
    assert (seen.stride_rcm, seen.stride_rcn) == (48, 1)
    assert (seen.stride_ccn, seen.stride_ccm) == (1, 96)


def test_an_expanded_input_is_read_as_it_is(launches):
    cast(torch.zeros(96).expand(64, 96))
    assert launches[0].stride_xm == 0


class TestConfigs:
    def test_names(self):
        assert all(name == config.name for name, config in configs.CONFIGS.items())
        listed = inspect.getsource(configs).split("CONFIGS: ")[1].split("_LARGE")[0].count(" Config(")
        assert len(configs.CONFIGS) == listed, "two configurations have one name"

    @pytest.mark.parametrize(("field", "value"), [("block_m", 16), ("block_n", 96), ("num_warps", 3)])
    def test_a_field_out_of_range_is_named(self, field, value):
        with pytest.raises(ValueError, match=rf"config\.{field} is {value}; allowed: "):
            configs.Config(**{"block_m": 32, "block_n": 32, field: value})

    def test_tiles_divide_the_padding(self):
        assert all(256 % config.block_m == 0 == 256 % config.block_n for config in configs.CONFIGS.values())

    @pytest.mark.parametrize(
        ("shape", "name"), [((32, 32), "BM32_BN32"), ((512, 512), "BM64_BN64"), ((2048, 6144), "BM128_BN128")]
    )
    def test_defaults(self, shape, name):
        assert configs.default_config(*shape) is configs.CONFIGS[name]
