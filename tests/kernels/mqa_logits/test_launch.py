"""The launcher of the MQA logits: what it refuses, what it allocates, what it launches. No kernel runs here."""

import inspect
import textwrap
from types import SimpleNamespace

import pytest
import torch
import triton


def _family():
    from kernels.mqa_logits import configs, kernel, launch

    return configs, kernel, launch


configs, kernel, launch = _family()
logits = launch.fp8_paged_mqa_logits
SMALL = configs.CONFIGS["CK32_SK3_P2"]


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """What would have been launched, in order."""
    seen = []

    class Recorder:
        def __init__(self, function):
            self.function = function

        def __getitem__(self, grid):
            def run(*args, num_warps, num_stages, **kwargs):
                bound = inspect.signature(self.function.fn).bind(*args, **kwargs).arguments
                seen.append(SimpleNamespace(name=self.function.fn.__name__, grid=grid, num_warps=num_warps, **bound))

            return run

    for name in ("mqa_logits_fixed_kernel", "mqa_logits_variable_kernel"):
        monkeypatch.setattr(kernel, name, Recorder(getattr(kernel, name)))
    return seen


def problem(batch=3, next_n=2, heads=5, d=64, kv_block=16, blocks=7, columns=4, **replaced):
    """The launcher's tensors, by name."""
    tensors = {
        "q": torch.zeros(batch, next_n, heads, d).to(torch.float8_e4m3fn),
        "kv_cache": torch.zeros(blocks, kv_block, 1, d + 4, dtype=torch.uint8),
        "weights": torch.zeros(batch * next_n, heads),
        "context_lens": torch.zeros(batch, dtype=torch.int32),
        "block_tables": torch.zeros(batch, columns, dtype=torch.int32),
        "max_model_len": 50,
        "config": SMALL,
    }
    return tensors | replaced


def cache(*shape, dtype=torch.uint8):
    return torch.zeros(shape, dtype=dtype)


Q = problem()["q"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"q": torch.zeros(3, 2, 5, 64)}, TypeError, r"q is torch\.float32; allowed: torch\.float8_e4m3fn"),
        ({"q": Q[0]}, ValueError, r"q has shape \(2, 5, 64\); allowed: 4 axes"),
        ({"q": Q[..., :48]}, ValueError, r"q has a head size D of 48; allowed: \(32, 64, 128, 256\)"),
        ({"q": Q[:, :0]}, ValueError, r"q has shape \(3, 0, 5, 64\); allowed: next_n from 1"),
        ({"q": Q[:, :, :0]}, ValueError, r"q has shape .* H from 1 to 256"),
        ({"q": problem(d=128)["q"][..., ::2]}, ValueError, r"q has strides .*; allowed: 1 along the last axis"),
        ({"kv_cache": cache(7, 16, 1, 68, dtype=torch.int8)}, TypeError, r"kv_cache is torch\.int8; allowed"),
        ({"kv_cache": cache(7, 16, 1, 64)}, ValueError, r"kv_cache has shape .*; allowed: \(blocks, KB, 1, 68\)"),
        ({"kv_cache": cache(7, 16, 2, 68)}, ValueError, r"kv_cache has shape \(7, 16, 2, 68\)"),
        ({"kv_cache": cache(7, 24, 1, 68)}, ValueError, "blocks of 24 tokens; .* multiples of chunk_k, 32"),
        ({"kv_cache": cache(7, 8, 1, 68), "preshuffled": True}, ValueError, "with preshuffled: multiples of 16"),
        ({"kv_cache": cache(7, 16, 1, 72)[..., :68]}, ValueError, r"kv_cache has strides .*; allowed: \(any, 68"),
        ({"kv_cache": cache(7, 1090)[:, :1088].unflatten(1, (16, 1, 68))}, ValueError, "block stride of 1090 bytes"),
        ({"kv_cache": cache(7 * 1088 + 1)[1:].view(7, 16, 1, 68)}, ValueError, "kv_cache begins at 0x.*multiples of 4"),
        ({"weights": torch.zeros(3, 5)}, ValueError, r"weights has shape \(3, 5\); allowed: \(6, 5\)"),
        ({"weights": torch.zeros(6, 5).bfloat16()}, TypeError, r"weights is torch\.bfloat16"),
        ({"weights": torch.zeros(5, 6).T}, ValueError, r"weights has strides \(1, 6\); allowed: 1 along the last axis"),
        ({"context_lens": torch.zeros(3, dtype=torch.int64)}, TypeError, r"context_lens is torch\.int64"),
        ({"context_lens": torch.zeros(2, dtype=torch.int32)}, ValueError, r"context_lens has shape \(2,\)"),
        ({"block_tables": torch.zeros(4, dtype=torch.int32)}, ValueError, r"block_tables has shape \(4,\); .* 2 axes"),
        ({"block_tables": torch.zeros(4, 4, dtype=torch.int32)}, ValueError, r"block_tables has shape \(4, 4\)"),
        ({"max_model_len": -1}, ValueError, r"max_model_len is -1; allowed: 0 to"),
        ({"max_model_len": 2**31 - 1}, ValueError, "max_model_len is 2147483647"),
        ({"out": torch.zeros(6, 49)}, ValueError, r"out has shape \(6, 49\); allowed: \(6, 50 or more\)"),
        ({"out": torch.zeros(3, 50)}, ValueError, r"out has shape \(3, 50\)"),
        ({"out": torch.zeros(6, 50).half()}, TypeError, r"out is torch\.float16; allowed: torch\.float32"),
        ({"out": torch.zeros(50, 6).T}, ValueError, r"out has strides \(1, 6\)"),
        ({"out": torch.zeros(50).expand(6, 50)}, ValueError, r"out has strides \(0, 1\); .* do not overlap"),
        ({"schedule": "dynamic"}, ValueError, "schedule is 'dynamic'; allowed: fixed, variable"),
        ({"backend": "cuda"}, ValueError, "backend is 'cuda'; allowed: triton, gluon"),
    ],
)  # fmt: skip
def test_what_is_refused(changes, error, message, launches):
    with pytest.raises(error, match=message):
        logits(**problem(**changes))
    assert not launches


def test_an_output_of_shared_memory_is_refused():
    memory = torch.zeros(6 * 64)
    with pytest.raises(ValueError, match="out shares memory with weights"):
        logits(**problem(weights=memory[:30].view(6, 5), out=memory.view(6, 64)))


@pytest.mark.parametrize("version", ["3.6.0", "3.7.0+git1"])
def test_gluon_of_an_older_triton_is_refused_by_name(monkeypatch, version):
    monkeypatch.setattr(triton, "__version__", version)
    with pytest.raises(RuntimeError, match=rf"Triton {version.replace('+', '.')}; allowed: Triton 3\.7\.1 or later"):
        logits(**problem(), backend="gluon")


def test_nothing_of_gluon_is_imported_before_it_is_asked_for(run_python, project_root):
    code = """
        import sys
        sys.modules["triton.experimental"] = None
        from kernels.mqa_logits import defects, launch, target
        assert launch.kernel.mqa_logits_fixed_kernel
    """
    assert run_python("-c", textwrap.dedent(code), cwd=project_root).stderr == ""


def test_a_cache_beyond_32_bit_offsets_is_refused_by_gluon(launches, monkeypatch):
    monkeypatch.setattr(launch, "gluon_is_there", lambda: True)
    tensors = problem(kv_cache=cache(1, 1088).as_strided((1, 16, 1, 68), (1 << 31, 68, 68, 1)))
    with pytest.raises(ValueError, match=r"kv_cache spans 2147483648 bytes; allowed with backend='gluon': < 2\*\*31"):
        logits(**tensors, backend="gluon")
    logits(**tensors)
    assert len(launches) == 1


def test_a_new_output_is_filled_with_minus_infinity():
    out = logits(**problem())
    assert out.shape == (6, 50)
    assert out.dtype == torch.float32
    assert (out == -torch.inf).all()


def test_the_output_given_is_returned_as_it_was():
    given = torch.ones(6, 64)[:, :57]
    assert logits(**problem(out=given)) is given
    assert (given == 1).all()


@pytest.mark.parametrize(
    "changes",
    [{"batch": 0}, {"max_model_len": 0}, {"blocks": 0}, {"columns": 0}],
    ids=["no row", "no position", "no block", "no column"],
)
def test_nothing_is_launched_where_nothing_is_to_do(changes, launches):
    logits(**problem(**changes))
    assert not launches


def test_fixed_is_a_program_for_each_split_of_each_row(launches):
    logits(**problem())
    (seen,) = launches
    assert (seen.name, seen.grid, seen.split_kv) == ("mqa_logits_fixed_kernel", (18,), 3)
    assert (seen.next_n, seen.heads, seen.HEADS, seen.D, seen.KV_BLOCK, seen.CHUNK_K) == (2, 5, 16, 64, 16, 32)


def test_variable_is_as_many_programs_as_the_configuration_says(launches):
    logits(**problem(), schedule="variable")
    (seen,) = launches
    assert (seen.name, seen.grid, seen.batch_size) == ("mqa_logits_variable_kernel", (2,), 3)


def test_strides_are_the_tensors_own(launches):
    padded = cache(7, 1104)[:, :1088].unflatten(1, (16, 1, 68))
    table = torch.zeros(3, 9, dtype=torch.int32)[:, :4]
    logits(**problem(kv_cache=padded, block_tables=table, out=torch.zeros(6, 81)[:, :60]))
    (seen,) = launches
    assert (seen.stride_block, seen.stride_scale_block, seen.stride_tb, seen.stride_out) == (1104, 276, 9, 81)
    assert seen.scales_ptr.data_ptr() - seen.keys_ptr.data_ptr() == 16 * 64


def test_the_default_splits_a_few_long_contexts_and_not_many_short_ones():
    assert configs.default_config(2, 4096, 80).split_kv == 16
    assert configs.default_config(1024, 4096, 80).split_kv == 1
    assert configs.default_config(1, 100, 80).split_kv == 1
    assert configs.default_config(1, 100, 80).num_programs == 160


@pytest.mark.parametrize("field", ["chunk_k", "split_kv", "num_programs", "num_warps", "num_stages"])
def test_configurations_are_checked(field):
    with pytest.raises(ValueError, match=rf"config\.{field} is 0; allowed: "):
        configs.Config(**{field: 0})


def test_configurations_are_known_by_what_they_are():
    assert all(config.name == name for name, config in configs.CONFIGS.items())
