"""The checks of a GPU: each fires on a kernel with its fault, and none on a right one."""

from pathlib import Path

import pytest
import torch

from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.loading import load_target, with_defect
from fp4guard.gpu import examine as examine_module
from fp4guard.gpu.allocators import TorchAllocator
from fp4guard.gpu.examine import Examination
from fp4guard.memory import ROWS

CPU = torch.device("cpu")
GEMM = "kernels.gemm_afp4wfp4::gemm_afp4wfp4"
SMALL = {"m": 33, "n": 37, "k": 160, "config": "BM32_BN32_BK128", "dtype": "bf16"}


def target(name):
    return load_target(f"{Path(__file__).with_name('targets.py')}::{name}")


@pytest.mark.parametrize("layout", range(0, 24, 3))
def test_right_kernel_is_silent_in_every_layout(examine_here, layout):
    for m, n in ((1, 1), (5, 63), (17, 16)):
        assert examine_here(target("scales_rows"), m=m, n=n, kind="right", layout=layout) == []


@pytest.mark.parametrize("regime", ["exact", "wild", "nans", "ties"])
def test_right_gemm_is_silent(examine_here, regime):
    for layout in (0, 5, 9):
        assert examine_here(load_target(GEMM), **SMALL, regime=regime, layout=layout) == []


@pytest.mark.parametrize(
    ("kind", "found", "tensor"),
    [
        ("adds what lies beyond", "poison-dependent", "out"),
        ("scales by what lies beyond", "poison-dependent", "out"),
        ("writes beyond", "oob-write", "out"),
        ("skips the last", "unwritten-output", "out"),
        ("writes its input", "input-modified", "s"),
        ("is wrong", "wrong-value", "out"),
    ],
)
def test_fault_is_found(examine_here, kind, found, tensor):
    gaps = next(layout for layout in range(64) if _has_gaps(layout))
    findings = examine_here(target("scales_rows"), m=5, n=37, kind=kind, layout=gaps)
    assert (found, tensor) in [(finding.kind, finding.tensor) for finding in findings]
    if found == "oob-write":
        assert findings[0].offset == 37 * 4, "the first byte behind the first row"


def test_large_tensor_is_checked_as_any_other(examine_here, monkeypatch):
    """Of one that is huge, the simulator poisons the elements and the ends alone."""
    monkeypatch.setattr("fp4guard.memory.region.HUGE", 1000)
    for kind, found in (
        ("writes beyond", "oob-write"),
        ("skips the last", "unwritten-output"),
        ("is wrong", "wrong-value"),
    ):
        (finding,) = examine_here(target("scales_rows"), m=5, n=37, kind=kind)
        assert (finding.kind, finding.tensor) == (found, "out")


def _has_gaps(layout):
    """Whether `x` and `out` both have gaps between their rows in a layout."""
    import zlib

    return all(ROWS[zlib.crc32(f"{name}/{layout}".encode()) % len(ROWS)].row_gap for name in ("x", "out")) and layout


def test_result_that_the_code_allocates_is_checked(examine_here):
    (finding,) = examine_here(target("copies_what_it_allocates"), n=37)
    assert finding.kind == "unwritten-output"
    assert "1 / 37 elements" in finding.message


def test_padding_of_an_input_is_poison(examine_here):
    # What is copied from it cannot be told from memory that was never written: the simulator can.
    (finding,) = examine_here(target("copies_an_input_with_padding"), n=70, used=40)
    assert finding.kind == "unwritten-output"
    assert "30 / 70 elements (42.9%), first at [40]" in finding.message
    assert examine_here(target("copies_an_input_with_padding"), n=70, used=70) == []


def test_bytes_that_make_no_element_are_no_guards(examine_here):
    assert examine_here(target("answers_with_bytes_that_make_no_element"), n=3) == []


def test_another_shape_is_a_wrong_value(examine_here):
    (finding,) = examine_here(target("answers_with_too_few"), n=3)
    assert finding.kind == "wrong-value"
    assert "their shape is (2,); it has to be (3,)" in finding.message


def test_values_that_the_target_changes_and_gives_again_are_another_input(examine_here):
    assert examine_here(target("gives_what_it_has_changed"), n=70) == []


def test_results_that_differ_with_equal_poison_are_nondeterministic(examine_here):
    (finding,) = examine_here(target("counts_its_calls"), n=3)
    assert finding.kind == "nondeterministic"


def test_exception_of_the_target_is_a_crash(examine_here):
    (finding,) = examine_here(target("raises"), n=3)
    assert finding.kind == "crash"
    assert "ValueError: n is 3; allowed: none at all" in finding.message
    assert Path(finding.file).name == "targets.py"


FAULT = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later"
ASSERT = "CUDA error: device-side assert triggered"


@pytest.mark.parametrize(("message", "kind"), [(FAULT, "crash"), (ASSERT, "assert-failed")])
@pytest.mark.parametrize("name", ["raises", "counts_its_calls", "assumes", "is_misused", "is_skipped"])
def test_fault_of_the_device_is_a_finding_wherever_it_shows(simulated_device, monkeypatch, name, message, kind):
    """In the target, however that ends, or when the two runs are compared; the process is then of no more use."""

    def fails(*args, **kwargs):
        raise RuntimeError(message)

    class FailedDevice:
        type, index = "cuda", 0

    one = target(name)
    examination = Examination(one, Case({"n": 3}), CPU, TorchAllocator(CPU))
    monkeypatch.setattr(examine_module, "compare", fails)
    monkeypatch.setattr(torch.cuda, "synchronize", fails)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: None)
    monkeypatch.setattr(examination, "_device", FailedDevice())
    (finding,) = examination.findings()
    assert (finding.kind, finding.headline) == (kind, message.splitlines()[0])
    assert not examination.usable


def test_memory_that_runs_out_is_a_crash_of_the_case(simulated_device, monkeypatch):
    def take(self, inside, zone):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    monkeypatch.setattr(TorchAllocator, "take", take)
    examination = Examination(target("counts_its_calls"), Case({"n": 3}), CPU, TorchAllocator(CPU))
    (finding,) = examination.findings()
    assert finding.kind == "crash"
    assert finding.headline.startswith("the device is out of memory: CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert not examination.usable


MM = {
    "m": 3, "n_units": 1, "k_units": 1, "backend": "cutlass", "config": "BM16_BN16_BK64", "a_layout": "linear",
    "b_layout": "128x4", "dtype": "bf16", "alpha": 1.0, "bias": None, "outputs": "given",
}  # fmt: skip
QUANT = {
    "m": 1, "k": 16, "pad_k": 0, "scale_layout": "128x4", "config": "BM1_BG4", "dtype": "bf16", "arithmetic": "fast",
    "global_scale": "this", "scale_dtype": "fp32", "outputs": "given",
}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "defect", "arguments", "kind"),
    [
        (GEMM, "scale-k-unmasked", SMALL, "poison-dependent"),
        (GEMM, "a-mask-units", SMALL, "wrong-value"),
        ("kernels.nvfp4_linear::scaled_fp4_mm", "m-unmasked-store", MM, "oob-write"),
        ("kernels.nvfp4_linear::scaled_fp4_quant", "pad-fill-dead", QUANT, "unwritten-output"),
    ],
)
def test_planted_defect_is_found(examine_here, spec, defect, arguments, kind):
    right = load_target(spec)
    found = set()
    for layout in (0, 5, 9):
        assert examine_here(right, **arguments, layout=layout) == []
        found |= {f.kind for f in examine_here(with_defect(right, defect), **arguments, layout=layout)}
    assert kind in found
