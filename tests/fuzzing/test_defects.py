import pytest

import fp4guard as fg
from fp4guard import included
from fp4guard.fuzzing import Control, Defect, Edit
from fp4guard.fuzzing import loading as loading_module
from fp4guard.fuzzing.defects import apply, check_present
from fp4guard.fuzzing.loading import controls_of, defects_of, family_of, folder_of, load_target, with_defect

GEMM = "kernels.gemm_afp4wfp4::gemm_afp4wfp4"
CASE = {"m": 33, "n": 37, "k": 160, "config": "BM32_BN32_BK128", "dtype": "bf16"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "kernel.py").write_text("one\ntwo\nthree three\n")
    return tmp_path


def test_edits_are_applied_one_after_the_other(folder):
    edits = [Edit("kernel.py", "one", "1"), Edit("kernel.py", "1\ntwo", "2")]
    assert apply(edits, folder) == {"kernel.py": "2\nthree three\n"}
    assert (folder / "kernel.py").read_text() == "one\ntwo\nthree three\n"


@pytest.mark.parametrize(("text", "count"), [("four", 0), ("three", 2)])
def test_edit_that_does_not_match_once_is_an_error(folder, text, count):
    with pytest.raises(fg.DefectError, match=f"kernel.py has {count} times, not once, the text of an edit:\n{text}"):
        apply([Edit("kernel.py", text, "x")], folder)


def test_control_whose_text_is_gone_is_an_error(folder):
    check_present(Control("c", (("kernel.py", "two\nthree"),), lambda arguments: True, ""), folder)
    with pytest.raises(fg.DefectError, match=r"the control c is about text that kernel.py no longer has:\nfour"):
        check_present(Control("c", (("kernel.py", "four"),), lambda arguments: True, ""), folder)


def test_every_included_defect_and_control_fits_its_source():
    for family in included.families():
        for defect in defects_of(family):
            assert apply(defect.edits, folder_of(family))
            assert set(defect.kinds) <= set(fg.KINDS)
        for control in controls_of(family):
            check_present(control, folder_of(family))


def test_planted_defect_is_found_and_the_original_stays_clean():
    before = {path: path.read_text() for path in folder_of("gemm_afp4wfp4").glob("*.py")}
    original = load_target(GEMM)
    report = fg.examine(GEMM, defect="scale-k-unmasked", **CASE)
    assert report.defect == "scale-k-unmasked"
    assert {finding.kind for finding in report.findings} == {"oob-read"}
    assert {finding.tensor for finding in report.findings} == {"a_scales", "b_scales"}
    assert "gemm_afp4wfp4@scale-k-unmasked" in report.findings[0].file
    assert "tl.load(a_scale_ptrs)" in report.findings[0].message
    assert load_target(GEMM) is original
    assert not fg.examine(GEMM, **CASE).findings
    assert before == {path: path.read_text() for path in before}


def test_each_defect_has_a_kernel_of_its_own():
    one, other = (with_defect(load_target(GEMM), i) for i in ("scale-k-unmasked", "a-mask-units"))
    assert one is with_defect(load_target(GEMM), "scale-k-unmasked")
    assert one is not other
    assert family_of(one) == family_of(other) == "gemm_afp4wfp4"
    report = fg.examine(GEMM, defect="a-mask-units", **CASE)
    assert {finding.kind for finding in report.findings} == {"wrong-value"}


def test_unknown_defects_are_refused():
    with pytest.raises(fg.UsageError, match="defect='no': gemm_afp4wfp4 has scale-k-unmasked, "):
        with_defect(load_target(GEMM), "no")

    @fg.fuzz()
    def mine(mem):
        pass

    with pytest.raises(fg.UsageError, match="defect='no': mine has none, it is no included kernel"):
        with_defect(mine, "no")


def test_defect_that_no_longer_fits_is_an_error_every_time(monkeypatch):
    moved = Defect("moved", (Edit("kernel.py", "no such text", ""),), ("oob-read",), "", "")
    monkeypatch.setattr(loading_module, "defects_of", lambda family: (moved,))
    for _ in range(2):
        with pytest.raises(fg.DefectError, match=r"kernel\.py has 0 times"):
            fg.examine(GEMM, defect="moved", **CASE)
