import enum
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fp4guard as fg
from fp4guard import Case
from fp4guard.oracle import REGIMES

scalars = st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none())
literals = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
cases = st.builds(
    Case,
    st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), literals, max_size=3),
    st.integers(0, 2**16 - 1),
    st.sampled_from(list(REGIMES)),
    st.integers(0, 63),
)


@given(cases)
def test_printed_case_evaluates_to_itself(case):
    again = eval(repr(case), {"Case": Case})
    assert again == case
    assert hash(again) == hash(case)
    assert repr(again) == repr(case)
    assert again.digest() == case.digest()
    assert list(again.arguments) == list(case.arguments)


@given(cases, cases)
def test_cases_that_print_alike_are_equal_and_no_others(one, other):
    assert (one == other) == (repr(one) == repr(other)) or set(one.arguments) == set(other.arguments)


def test_order_of_arguments_does_not_matter():
    one, other = Case({"m": 1, "n": 2}), Case({"n": 2, "m": 1})
    assert one == other
    assert hash(one) == hash(other)


def test_every_part_matters():
    case = Case({"m": 1}, 2, "ties", 3)
    others = [Case({"m": 2}, 2, "ties", 3), Case({"m": 1}, 1, "ties", 3), Case({"m": 1}, 2, "wild", 3)]
    others += [Case({"m": 1}, 2, "ties", 4), Case({"n": 1}, 2, "ties", 3), Case({"m": True}, 2, "ties", 3)]
    others += [Case({"m": 1.0}, 2, "ties", 3)]
    assert len({case, *others}) == 8
    assert len({one.digest() for one in (case, *others)}) == 8


def test_digest_is_the_same_in_every_process(run_python, tmp_path):
    text = "Case({'m': 33, 'config': 'BM32', 'x': float('nan')}, seed=7, regime='wild', layout=5)"
    assert eval(text, {"Case": Case}).digest("sm_90", "") == "88e37ecf"
    done = run_python("-c", f"from fp4guard import Case; print({text}.digest('sm_90', ''))", cwd=tmp_path)
    assert done.stdout == "88e37ecf\n"


def test_printed_case_names_everything():
    case = Case({"m": 33, "config": "BM32", "text": "a b", "shape": (2, 3), "x": math.inf}, 7, "wild", 5)
    assert str(case) == "m=33 config=BM32 text='a b' shape=(2, 3) x=float('inf') regime=wild layout=5 seed=7"


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


@pytest.mark.parametrize(
    "value", [[1], {}, torch.float32, np.float64(1), np.int32(1), Colour.RED, Text("a"), (1, [2]), b"a", 1j, len]
)
def test_what_cannot_be_printed_is_refused(value):
    with pytest.raises(fg.UsageError, match=r"argument a=.*draw a name and look it up in the target"):
        Case({"a": value})


def test_wrong_parts_are_refused():
    with pytest.raises(fg.UsageError, match="regime='no': allowed are 'exact', 'wild'"):
        Case({}, regime="no")
    for name, value in (("seed", -1), ("layout", -1), ("seed", 1.0), ("layout", None)):
        with pytest.raises(fg.UsageError, match=f"{name}={value}: allowed are integers of 0 or more"):
            Case({}, **{name: value})


def test_case_cannot_be_changed():
    arguments = {"m": 1}
    case = Case(arguments)
    arguments["m"] = 2
    assert case.arguments["m"] == 1
    with pytest.raises(TypeError):
        case.arguments["m"] = 3
    with pytest.raises(AttributeError):
        case.seed = 3
