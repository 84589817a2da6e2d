"""What a device saw, and what the simulator says of it."""

from pathlib import Path

import pytest
from fp4guard.included.mqa_logits.launch import gluon_is_there

from fp4guard.checks import Finding
from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.examine import Report, examine_case
from fp4guard.fuzzing.loading import load_target, with_defect
from fp4guard.fuzzing.setting import Setting
from fp4guard.isolation.attribution import attributed
from fp4guard.isolation.processes import HarnessError

GEMM = load_target("kernels.gemm_afp4wfp4::gemm_afp4wfp4")
CASE = Case({"m": 33, "n": 37, "k": 160, "config": "BM32_BN32_BK128", "dtype": "bf16"}, layout=5)
FAULT = Finding("crash", "CUDA error: an illegal memory access was encountered")
WRONG = Finding("wrong-value", "`out` is not what it has to be", "out")


def report(target, *findings, defect=None, arch="sm_90"):
    return Report(target, CASE, arch, findings, 2, defect, setting=Setting("cuda"))


def test_fault_gets_the_line_that_the_simulator_sees():
    planted = with_defect(GEMM, "scale-k-unmasked")
    (finding,) = attributed(report(planted, FAULT, defect="scale-k-unmasked"), examine_case).findings
    assert (finding.kind, finding.headline) == (FAULT.kind, FAULT.headline), "it stays the device's"
    assert Path(finding.file).name == "kernel.py"
    assert finding.line
    (row,) = [text for label, text in finding.rows if label == "sim"]
    assert row.startswith("OutOfBoundsRead: ")
    assert "a_scales = tl.load(a_scale_ptrs)" in row


def test_disagreement_is_said():
    (finding,) = attributed(report(GEMM, FAULT), examine_case).findings
    assert finding.rows == (("sim", "disagrees: it finds nothing in this case"),)
    assert finding.file is None


@pytest.mark.skipif(not gluon_is_there(), reason="this Triton has no Gluon for gfx950")
def test_simulator_that_cannot_run_the_case_says_why():
    logits = load_target("kernels.mqa_logits::mqa_logits_gluon")
    (finding,) = attributed(report(logits, FAULT), examine_case).findings
    ((label, text),) = finding.rows
    assert label == "sim"
    assert text.startswith("cannot run the case: ")


def test_simulator_that_fails_costs_no_finding():
    def fails(*case):
        raise HarnessError("the worker's traceback")

    (finding,) = attributed(report(GEMM, FAULT), fails).findings
    assert finding.rows == (("sim", "cannot run the case: the worker's traceback"),)


@pytest.mark.parametrize("findings", [(), (WRONG,)])
def test_what_needs_no_explanation_is_left_alone(findings):
    one = report(GEMM, *findings)
    assert attributed(one, examine_case) is one
