import pickle

import pytest

from fp4guard.checks import KINDS, Finding, FindingError, error_class


def test_every_kind_has_an_exception_class_of_its_own():
    classes = {error_class(kind) for kind in KINDS}
    assert len(classes) == len(KINDS)
    assert all(issubclass(c, FindingError) and issubclass(c, AssertionError) for c in classes)
    assert error_class("oob-read").__name__ == "OutOfBoundsRead"


def test_message_aligns_its_rows():
    finding = Finding("race", "it races", rows=(("kernel", "k.py:1:1"), ("values", "one\ntwo")))
    assert finding.message == "Race: it races\n  kernel  k.py:1:1\n  values  one\n          two"


def test_same_place_is_the_same_bug():
    def at(**fields):
        return Finding("oob-read", "...", **{"tensor": "x", "file": "k.py", "line": 3, **fields})

    assert at().key == at(tensor="y", offset=5, programs=((1, 0, 0),)).key
    assert at().key != at(line=4).key
    assert at(file=None).key == at(file=None, offset=5).key
    assert at(file=None).key != at(file=None, tensor="y").key


def test_unknown_kind_is_refused():
    with pytest.raises(KeyError):
        error_class("no-such-kind")


def test_exception_class_can_be_found_where_it_says_it_is():
    assert pickle.loads(pickle.dumps(FindingError)) is FindingError
    assert error_class("race").__module__ == "fp4guard.checks.finding"
