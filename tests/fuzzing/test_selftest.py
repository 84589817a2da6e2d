import pytest

import fp4guard as fg
from fp4guard.fuzzing import Control, Defect
from fp4guard.fuzzing import selftest as selftest_module
from fp4guard.fuzzing.selftest import ControlRow, DefectRow, Selftest

NONE = Defect("none", (), ("oob-read",), "nowhere", "Changes nothing.")
GONE = Control("gone", (("kernel.py", "no such text"),), lambda arguments: True, "")
UNTRIED = Control("untried", (), lambda arguments: False, "")
TRIED = Control("tried", (), lambda arguments: arguments["m"] > 1, "")


def rows(*ids, cases=300):
    selftest = Selftest("gemm_afp4wfp4", ids, cases, 0, "sm_90")
    return list(selftest.run()), selftest


@pytest.fixture
def planted(monkeypatch):
    """Other controls than the included ones."""
    monkeypatch.setattr(selftest_module, "controls_of", lambda family: (GONE, UNTRIED, TRIED))


def test_defect_that_is_found():
    (row,), selftest = rows("a-mask-units")
    assert isinstance(row, DefectRow)
    assert (row.id, row.target, row.found, row.kind) == ("a-mask-units", "gemm_afp4wfp4", True, "wrong-value")
    assert 0 < row.cases <= 300
    assert row.passed
    assert selftest.passed
    json = selftest.as_json()
    assert json == {"defects": [json["defects"][0]], "controls": []}
    assert list(json["defects"][0]) == ["id", "target", "found", "kind", "cases", "seconds"]


def test_same_seed_finds_a_defect_with_the_same_case():
    assert rows("even-k-units")[0][0].cases == rows("even-k-units")[0][0].cases


def test_defect_that_is_found_as_another_kind_is_not_found(monkeypatch):
    fitting = next(d for d in selftest_module.defects_of("gemm_afp4wfp4") if d.id == "a-mask-units")
    wrong = Defect(fitting.id, fitting.edits, ("hang",), "", "")
    monkeypatch.setattr(selftest_module, "defects_of", lambda family: (wrong,))
    (row,), selftest = rows("a-mask-units", cases=10)
    assert (row.found, row.kind, row.passed) == (False, None, False)
    assert not selftest.passed


@pytest.mark.parametrize(("cases", "turns"), [(1, [1]), (20, [20]), (21, [20, 1]), (300, [20, 40, 80, 160])])
def test_targets_take_turns(cases, turns):
    assert selftest_module._turns(cases) == turns


def test_defect_that_only_a_later_target_has_is_found_soon(monkeypatch):
    @fg.fuzz(m=fg.dims())
    def sound(mem, m):
        mem.input("x", [1])

    @fg.fuzz(m=fg.dims())
    def broken(mem, m):
        raise ValueError

    crash = Defect("late", (), ("crash",), "nowhere", "")
    monkeypatch.setattr(selftest_module, "defects_of", lambda family: (crash,))
    monkeypatch.setattr(selftest_module, "load_targets", lambda spec: [sound, broken])
    monkeypatch.setattr(selftest_module, "with_defect", lambda target, defect: target)
    (row,), _ = rows("late", cases=300)
    assert (row.found, row.kind) == (True, "crash")
    assert row.cases <= 21


def test_control_that_was_tried_and_is_clean(planted):
    (row,), selftest = rows("tried", cases=20)
    assert isinstance(row, ControlRow)
    assert row.clean
    assert row.cases > 0
    assert selftest.passed
    assert list(selftest.as_json()["controls"][0]) == ["id", "target", "clean", "cases"]


def test_control_that_was_never_tried_does_not_pass(planted):
    (row,), selftest = rows("untried", cases=5)
    assert (row.clean, row.cases, row.passed) == (True, 0, False)
    assert not selftest.passed


def test_control_that_is_gone_is_an_error(planted):
    with pytest.raises(fg.DefectError, match="the control gone is about text"):
        rows("gone")


def test_control_with_a_finding_does_not_pass(planted, monkeypatch):
    @fg.fuzz(m=fg.dims())
    def broken(mem, m):
        raise ValueError

    monkeypatch.setattr(selftest_module, "load_targets", lambda spec: [broken])
    (row,), _ = rows("tried", cases=5)
    assert (row.clean, row.passed) == (False, False)


def test_selftest_that_was_not_finished_has_not_passed():
    selftest = Selftest(None, (), 1, 0, "sm_90")
    assert not selftest.passed


@pytest.mark.parametrize(
    ("family", "ids", "arch", "match"),
    [
        ("no", (), "sm_90", "--target 'no': allowed are .*gemm_afp4wfp4"),
        (None, ("no",), "sm_90", "--id 'no': allowed are .*scale-k-unmasked, "),
        (None, (), "h100", "arch='h100'"),
    ],
)
def test_unknown_names_are_refused(family, ids, arch, match):
    with pytest.raises(fg.UsageError, match=match):
        Selftest(family, ids, 1, 0, arch)


def test_target_may_be_named_as_the_module_is():
    assert Selftest("kernels.gemm_afp4wfp4", (), 1, 0, "sm_90")._chosen
