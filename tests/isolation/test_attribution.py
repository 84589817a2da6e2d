"""What a device saw, and what the simulator says of it."""

from dataclasses import replace
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


def test_outcome_of_pytest_costs_no_finding():
    def skips(*case):
        pytest.skip("not on this device")

    (finding,) = attributed(report(GEMM, FAULT), skips).findings
    assert finding.rows == (("sim", "cannot run the case: Skipped: not on this device"),)


def test_simulator_that_does_not_come_to_an_end_has_no_say():
    late = Finding("hang", "the case did not end within 9 s", file="launch.py", line=12)
    (finding,) = attributed(report(GEMM, FAULT), lambda *case: replace(report(GEMM, late), lost=True)).findings
    assert finding.rows == (("sim", "cannot run the case: the case did not end within 9 s"),)
    assert finding.file is None


def test_wrong_value_gets_its_cause_or_that_there_is_no_other():
    planted = with_defect(GEMM, "scale-k-unmasked")
    (finding, other) = attributed(report(planted, WRONG, FAULT, defect="scale-k-unmasked"), examine_case).findings
    assert (finding.kind, Path(finding.file).name) == ("wrong-value", "kernel.py")
    assert other is FAULT, "one explanation is enough"
    (finding,) = attributed(report(GEMM, WRONG), lambda *case: report(GEMM, WRONG)).findings
    assert finding.rows == (("sim", "agrees, and knows no more"),)


@pytest.mark.parametrize("raised", ["here", "there"])
def test_exception_of_the_target_keeps_its_line(raised):
    own = Finding("crash", "ValueError: no", file="launch.py", line=3, rows=(("raised", "launch.py:3"),))
    access = Finding("oob-read", "3 lanes read", "x", "kernel.py", 7, 5, ((0, 0, 0),))
    device, simulator = (own, access) if raised == "here" else (FAULT, own)
    (finding,) = attributed(report(GEMM, device), lambda *case: report(GEMM, simulator)).findings
    assert (finding.file, finding.line) == (device.file, device.line)
    assert finding.rows[-1] == ("sim", simulator.message)


def test_what_has_no_findings_is_left_alone():
    one = report(GEMM)
    assert attributed(one, examine_case) is one
