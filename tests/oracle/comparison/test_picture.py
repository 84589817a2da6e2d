"""The map of wrong elements."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from fp4guard.oracle.comparison.picture import COLUMNS, ROWS, draw


def planted(shape, *where):
    wrong = np.zeros(shape, bool)
    wrong[where] = True
    return wrong


def test_elements():
    wrong = planted((6, 10), slice(2, 4), slice(8, 10))
    wrong[5, 0] = True
    assert draw(wrong).splitlines() == [
        "Map, a cell is 1 element; . right, # wrong:",
        "0..1 ..........",
        "2..3 ........##",
        "   4 ..........",
        "   5 #.........",
    ]


def test_cells_are_powers_of_two_and_say_how_much_of_them_is_wrong():
    wrong = planted((100, 200), slice(90, 100), slice(190, 200))
    assert draw(wrong).splitlines() == [
        "Map, a cell is 8 rows x 4 columns; . right, + some wrong, # all wrong:",
        " 0..87 ..................................................",
        "88..95 ...............................................+++",
        "96..99 ...............................................+##",
    ]


def test_a_batch_shows_its_worst_matrix():
    wrong = planted((2, 3, 4, 8), 1, 2, 3)
    wrong[0, 0, 0, 0] = True
    assert draw(wrong).splitlines() == [
        "Map of matrix [1, 2], the worst, a cell is 1 element; . right, # wrong:",
        "0..2 ........",
        "   3 ########",
    ]


def test_a_vector_is_one_line():
    assert draw(planted((300,), slice(290, 300))).splitlines() == [
        "Map, a cell is 1 row x 8 columns; . right, + some wrong, # all wrong:",
        "0 ....................................+#",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        planted((4, 5), slice(2, 4)),  # few elements
        planted((100, 200), 3, 4),  # one wrong one
        planted((100, 200), slice(None)),  # all of them
        np.ones((), bool),
    ],
)
def test_no_map_where_it_would_tell_nothing(wrong):
    assert draw(wrong) is None


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=3, max_side=150)))
def test_it_is_small_and_has_a_mark_where_something_is_wrong(wrong):
    text = draw(wrong)
    if text is None:
        return
    legend, *lines = text.splitlines()
    assert legend.startswith("Map")
    assert len(lines) <= ROWS
    signs = [line.split(" ")[-1] for line in lines]
    assert {len(line) for line in signs} <= set(range(1, COLUMNS + 1))
    assert len({len(line) for line in signs}) == 1
    assert set("".join(signs)) <= set(".+#")
    assert any(set(line) - {"."} for line in signs)
