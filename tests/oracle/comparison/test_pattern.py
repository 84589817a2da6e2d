"""Patterns of wrong elements: told where they are planted, true of all wrong elements, silent on what is strewn."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.oracle.comparison.pattern import describe


def planted(shape, *where):
    wrong = np.zeros(shape, bool)
    wrong[where] = True
    return wrong


ALL = slice(None)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (planted((100, 200), ALL, slice(192, 200)), "the last 8 columns, from 192 on: all of them wrong"),
        (planted((100, 200), ALL, 199), "column 199, the last: all of them wrong"),
        (planted((100, 200), slice(96, 100)), "the last 4 rows, from 96 on: all of them wrong"),
        (planted((100, 200), ALL, slice(0, 64)), "the first 64 columns: all of them wrong"),
        (planted((100, 200), 17), "row 17: all of them wrong"),
        (planted((100, 200), ALL, 17), "column 17: all of them wrong"),
        (planted((100, 200), ALL, slice(5, 200, 32)), "columns with column % 32 == 5: all of them wrong"),
        (planted((100, 200), ALL, slice(1, 200, 2)), "columns with column % 2 == 1: all of them wrong"),
        (planted((100, 200), slice(3, 100, 16)), "rows with row % 16 == 3: all of them wrong"),
        (
            planted((100, 200), slice(32, 64), slice(64, 128)),
            "rows 32..63 x columns 64..127: all of them wrong",
        ),
        (planted((100, 200), ALL, slice(64, 128)), "columns 64..127: all of them wrong"),
        (
            planted((100, 200), slice(96, 100), slice(192, 200)),
            "rows 96..99 x columns 192..199: all of them wrong",
        ),
        (planted((100, 200), 99, slice(192, 200)), "row 99 x columns 192..199: all of them wrong"),
        (planted((100, 200), ALL, slice(192, 200, 2)), "columns 192..198 in steps of 2: all of them wrong"),
        (planted((5, 100, 200), 3), "matrix 3: all of them wrong"),
        (planted((5, 100, 200), slice(1, 3)), "matrices 1..2: all of them wrong"),
        (
            planted((3, 5, 100, 200), 1, slice(1, 3), ALL, slice(192, 200)),
            "axis-0 index 1 x axis-1 indices 1..2 x columns 192..199: all of them wrong",
        ),
        (planted((300,), slice(288, 300)), "the last 12 elements, from 288 on: all of them wrong"),
    ],
)
def test_planted_patterns_are_told(wrong, sentence):
    assert describe(wrong) == f"Every wrong element is in {sentence}."


def test_the_worst_of_a_tail_need_not_be_wrong():
    wrong = planted((64, 64), ALL, slice(60, 64))
    wrong[::3, 62] = False
    assert describe(wrong) == f"Every wrong element is in the last 4 columns, from 60 on: {wrong.sum()} of 256 wrong."


def test_everything():
    assert describe(np.ones((3, 4), bool)) == "Every element is wrong."
    assert describe(np.ones((), bool)) is None
    assert describe(np.ones((1, 1), bool)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        planted((100, 200), 3, 5),  # one element is in a row, a column and every lane
        planted((2, 2), ALL, 1),  # half of four elements are in one column easily
        planted((3, 5), ALL, 4),
        planted((4,), 3),
    ],
)
def test_what_may_be_an_accident_is_not_told(wrong):
    assert describe(wrong) is None


def test_strewn_elements_have_no_pattern():
    told = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        wrong = np.zeros((int(rng.integers(5, 70)), int(rng.integers(5, 300))), bool)
        wrong.ravel()[rng.choice(wrong.size, int(rng.integers(2, 20)), replace=False)] = True
        told += describe(wrong) is not None
    assert told <= 8  # of several kinds of patterns, each an accident in less than one case in a thousand


def meant(sentence, shape):
    """The elements of a matrix that a sentence speaks of, read from its words."""
    inside = np.ones(shape, bool)
    rows, columns = np.indices(shape)
    axes = {"row": rows, "column": columns}
    for part in sentence.removeprefix("Every wrong element is in ").split(":")[0].split(" x "):
        name = re.search("row|column", part)[0]
        place, length = axes[name], shape[name == "column"]
        numbers = [int(number) for number in re.findall(r"\d+", part)]
        if "%" in part:
            inside &= place % numbers[0] == numbers[1]
        elif "steps" in part:
            low, high, step = numbers
            inside &= (low <= place) & (place <= high) & ((place - low) % step == 0)
        elif "from" in part:
            assert numbers == [length - numbers[1], numbers[1]]
            inside &= place >= numbers[1]
        elif "first" in part:
            inside &= place < numbers[0]
        else:
            inside &= (numbers[0] <= place) & (place <= numbers[-1])
            assert ("last" not in part) or numbers[0] == length - 1
    return inside


@given(st.data())
def test_what_is_told_is_true_of_every_wrong_element(data):
    shape = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 40)))

    def some(length):
        start, stop = sorted(data.draw(st.tuples(st.integers(0, length), st.integers(0, length))))
        return slice(start, stop, data.draw(st.sampled_from([1, 1, 2, 3, 8])))

    wrong = planted(shape, some(shape[0]), some(shape[1]))
    wrong &= np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < data.draw(st.sampled_from([0.5, 1]))
    wrong[data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))] = True
    sentence = describe(wrong)
    if sentence is None or sentence == "Every element is wrong.":
        assert (sentence is None) or wrong.all()
        return
    inside = meant(sentence, shape)
    assert inside[wrong].all()
    assert not inside.all()
    ratio = re.search(r"(\d+) of (\d+) wrong", sentence)
    stated = tuple(map(int, ratio.groups())) if ratio else (int(inside.sum()),) * 2
    assert stated == (wrong.sum(), inside.sum())
