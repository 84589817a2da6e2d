"""Autotuned kernels and heuristics: which configuration a launch takes, and that nothing is measured."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from hypothesis.errors import UnsatisfiedAssumption
from triton.runtime import Autotuner

import fp4guard as fg
from fp4guard import UnsupportedError, UsageError, dims
from fp4guard.memory import Role


@triton.jit
def plain_kernel(x, out, n, BLOCK: tl.constexpr, EVEN: tl.constexpr = False):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0) * BLOCK, mask=(i < n) | EVEN)


def config(size, **options):
    return triton.Config({"BLOCK": size}, **options)


def tuner(*configs, kernel=plain_kernel, **options):
    return triton.autotune(configs=list(configs), key=["n"], **options)(kernel)


def grid(meta):
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


@pytest.fixture
def run(new_run):
    return new_run()


@pytest.fixture
def tensors(run):
    return run.place(torch.ones(7)), run.empty((7,))


def block_of(run, kernel, tensors, name=None):
    """The block size that a launch has taken."""
    if name is None:
        run.launch(kernel, grid, *tensors, 7)
    else:
        with fg.tuned(kernel, name):
            run.launch(kernel, grid, *tensors, 7)
    assert len(tensors[1].unique()) == 1
    return tensors[1][0].item()


def test_without_a_pin_the_first_configuration_is_taken(run, tensors):
    kernel = tuner(config(8), config(16), config(4))
    assert block_of(run, kernel, tensors) == 8
    assert run.simulator.launches == 1
    assert kernel.best_config is kernel.configs[0]
    assert not kernel.cache


def test_a_single_configuration(run, tensors):
    assert block_of(run, tuner(config(16)), tensors) == 16


def test_each_configuration_has_a_name_that_says_what_it_is():
    kernel = tuner(config(8), config(16), config(16, num_warps=8), config(8, pre_hook=print))
    assert list(fg.configs(kernel)) == [
        "BLOCK=8,num_warps=4", "BLOCK=16,num_warps=4", "BLOCK=16,num_warps=8", "BLOCK=8,num_warps=4#2",
    ]  # fmt: skip
    assert list(fg.configs(kernel).values()) == kernel.configs
    assert list(fg.configs(tuner(config(8), config(16)))) == ["BLOCK=8", "BLOCK=16"]
    assert list(fg.configs(tuner())) == ["default"]
    assert list(fg.configs(tuner(triton.Config({"BLOCK": 8, "TYPE": tl.float16, "F": plain_kernel})))) == [
        "BLOCK=8,TYPE=fp16,F=plain_kernel"
    ]


def test_a_pinned_configuration_is_taken(run, tensors):
    kernel = tuner(config(8), config(16), config(4))
    for name, found in fg.configs(kernel).items():
        assert block_of(run, kernel, tensors, name) == found.kwargs["BLOCK"]
    assert block_of(run, kernel, tensors) == 8


def test_pins_of_two_kernels_and_of_one_within_another(run, tensors):
    one, two = tuner(config(8), config(16)), tuner(config(8), config(16))
    with fg.tuned(one, "BLOCK=16"):
        assert (block_of(run, one, tensors), block_of(run, two, tensors)) == (16, 8)
        with fg.tuned(two, "BLOCK=16"), fg.tuned(one, "BLOCK=8"):
            assert (block_of(run, one, tensors), block_of(run, two, tensors)) == (8, 16)
        assert block_of(run, one, tensors) == 16


def test_what_cannot_be_pinned():
    with pytest.raises(UsageError, match=r"plain_kernel.* is not autotuned"):
        fg.configs(plain_kernel)
    with (
        pytest.raises(UsageError, match=r"tuned\(plain_kernel, 'BLOCK=5'\): allowed are 'BLOCK=8', 'BLOCK=16'"),
        fg.tuned(tuner(config(8), config(16)), "BLOCK=5"),
    ):
        pass


def test_tritons_own_methods_are_put_back():
    before = Autotuner.run, Autotuner._bench
    kernel = tuner(config(8), config(16))
    with pytest.raises(ZeroDivisionError), fg.tuned(kernel, "BLOCK=8"):
        assert Autotuner.run is not before[0]
        raise ZeroDivisionError
    assert (Autotuner.run, Autotuner._bench) == before


# Pruning


def no_larger_than_n(configs, named_args, **kwargs):
    assert named_args["x"] is not None
    return [c for c in configs if c.kwargs["BLOCK"] <= 2 * named_args["n"]]


def test_the_first_that_pruning_leaves(run, tensors):
    kernel = tuner(config(64), config(8), config(4), prune_configs_by={"early_config_prune": no_larger_than_n})
    assert block_of(run, kernel, tensors) == 8
    kernel = tuner(
        config(64), config(8), config(4), prune_configs_by={"perf_model": lambda BLOCK, **_: BLOCK, "top_k": 2}
    )
    assert block_of(run, kernel, tensors) == 4


def test_a_pin_that_pruning_rules_out_is_no_case(run, tensors):
    kernel = tuner(config(64), config(8), prune_configs_by={"early_config_prune": no_larger_than_n})
    with pytest.raises(UnsatisfiedAssumption):
        block_of(run, kernel, tensors, "BLOCK=64")
    assert block_of(run, kernel, tensors, "BLOCK=8") == 8


def test_a_model_of_speed_rules_nothing_out(run, tensors):
    kernel = tuner(config(64), config(8), prune_configs_by={"perf_model": lambda BLOCK, **_: BLOCK, "top_k": 1})
    assert block_of(run, kernel, tensors, "BLOCK=64") == 64


# Hooks


def test_the_hook_of_the_configuration_runs_and_sees_all_arguments(run, tensors):
    seen = []
    kernel = tuner(config(8, pre_hook=lambda args: seen.append((args["n"], args["BLOCK"]))), config(16))
    block_of(run, kernel, tensors)
    block_of(run, kernel, tensors, "BLOCK=16")
    assert seen == [(7, 8)]


@triton.jit
def add_kernel(out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.atomic_add(out + i, 1.0, mask=i < n)


@pytest.mark.parametrize("option", ["reset_to_zero", "restore_value"])
def test_what_prepares_a_measurement_does_not_run(run, option):
    """As on a GPU, where it runs for the first launch of a key alone."""
    out = run.place(torch.full((4,), 5.0), role=Role.OUTPUT)
    kernel = triton.autotune(configs=[config(8), config(16)], key=["n"], **{option: ["out"]})(add_kernel)
    run.launch(kernel, (1,), out, 4)
    assert out.tolist() == [6.0] * 4


# With heuristics


EVEN = {"EVEN": lambda args: args["n"] % args["BLOCK"] == 0}


def test_heuristics_below_a_tuner(run):
    kernel = tuner(config(8), config(16), kernel=triton.heuristics(EVEN)(plain_kernel))
    x, out = run.place(torch.ones(16)), run.empty((16,))
    with fg.tuned(kernel, "BLOCK=16"):
        run.launch(kernel, grid, x, out, 16)
    assert out.tolist() == [16.0] * 16


def test_heuristics_above_a_tuner(run, tensors):
    kernel = triton.heuristics({"EVEN": lambda args: False})(tuner(config(8), config(16)))
    assert list(fg.configs(kernel)) == ["BLOCK=8", "BLOCK=16"]
    assert block_of(run, kernel, tensors, "BLOCK=16") == 16


def test_warming_a_tuner_up(run, tensors):
    with run.simulator.intercepting():
        assert len(tuner(config(8), config(16)).warmup(*tensors, 7, grid=(1,))) == 2
    assert run.simulator.launches == 0


class OwnTuner(Autotuner):
    def run(self, *args, **kwargs):
        self.nargs = dict(zip(self.arg_names, args))
        return min(self._bench(*args, config=config, **kwargs) for config in self.configs)  # measures


def test_a_tuner_that_measures_in_its_own_way_is_refused(run, tensors, line_of):
    kernel = OwnTuner(plain_kernel, plain_kernel.arg_names, [config(8), config(16)], ["n"], None, None)
    with run.simulator.intercepting(), pytest.raises(UnsupportedError, match=r"OwnTuner, which measures") as caught:
        kernel[grid](*tensors, 7)
    assert caught.value.location.line == line_of("# measures")


# In a target


TUNED = tuner(config(8), config(16), config(32))
CONFIGS = fg.configs(TUNED)


@fg.fuzz(config=list(CONFIGS), n=dims(tile=lambda config: CONFIGS[config].kwargs["BLOCK"]))
def scaled(mem, config, n):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    with fg.tuned(TUNED, config):
        TUNED[grid](x, out, n)
    mem.expect(out, x * CONFIGS[config].kwargs["BLOCK"])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configuration_is_a_part_of_the_case(name):
    assert not fg.examine(scaled, config=name, n=13).findings
