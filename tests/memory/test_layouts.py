"""Layouts: where elements lie, that none overlap, and that gaps are where they are said to be."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard.memory import CONTIGUOUS, PLAIN, ROWS, STRIDED, Layout
from fp4guard.memory.layouts import WIDE, span

SHAPES = st.lists(st.integers(0, 6), max_size=4).map(tuple)
QUICK = settings(max_examples=40, deadline=None)


def places(shape, strides):
    return [sum(i * s for i, s in zip(index, strides)) for index in itertools.product(*map(range, shape))]


@pytest.mark.parametrize("layout", WIDE, ids=lambda layout: layout.name)
@QUICK
@given(shape=SHAPES)
def test_no_two_elements_overlap(layout, shape):
    found = places(shape, layout.strides(shape))
    assert len(set(found)) == math.prod(shape)
    assert all(place >= 0 for place in found)


@QUICK
@given(shape=SHAPES, strides=st.data())
def test_span_reaches_one_past_the_last_element(shape, strides):
    steps = tuple(strides.draw(st.integers(0, 9)) for _ in shape)
    assert span(shape, steps) == max(places(shape, steps), default=-1) + 1


@QUICK
@given(shape=SHAPES)
def test_contiguous_is_row_major(shape):
    assert places(shape, CONTIGUOUS.strides(shape)) == list(range(math.prod(shape)))


@pytest.mark.parametrize(
    "layout", [x for x in STRIDED if x.row_gap and not x.plane_gap], ids=lambda layout: layout.name
)
@QUICK
@given(shape=st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple))
def test_there_is_a_gap_behind_every_row(layout, shape):
    """Between one row's last element and the next row's first lie exactly as many elements as the layout says."""
    order = [*shape[:-2], shape[-1], shape[-2]] if layout.transposed else list(shape)
    found = sorted(places(shape, layout.strides(shape)))
    rows = [found[i : i + order[-1]] for i in range(0, len(found), order[-1])]
    for row in rows:
        assert row == list(range(row[0], row[0] + order[-1]))
    for row, following in itertools.pairwise(rows):
        assert following[0] - row[-1] - 1 == layout.row_gap


@pytest.mark.parametrize(("shape", "expected"), [
    ((), ()), ((5,), (1,)), ((3, 4), (6, 1)), ((2, 3, 4), (25, 6, 1)), ((2, 1, 3, 4), (32, 25, 6, 1)),
])  # fmt: skip
def test_there_is_a_gap_behind_every_plane(shape, expected):
    assert Layout("planes", row_gap=2, plane_gap=7).strides(shape) == expected


@QUICK
@given(shape=st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple), reach=st.integers(0, 200))
def test_the_last_row_is_as_far_from_the_first_as_the_layout_says(shape, reach):
    strides = Layout("far", reach=reach).strides(shape)
    rows = math.prod(shape[:-1])
    last = places(shape, strides)[-shape[-1]]
    assert strides[-1] == 1
    assert last >= reach or rows == 1
    assert last == (rows - 1) * max(shape[-1], -(-reach // (16 * max(rows - 1, 1))) * 16)


@pytest.mark.parametrize(("shape", "expected"), [
    ((), ()), ((5,), (1,)), ((1, 5), (5, 1)), ((3, 5), (112, 1)), ((3, 2, 5), (112, 5, 1)), ((1, 3, 5), (336, 112, 1)),
    ((3, 40, 5), (200, 5, 1)),
])  # fmt: skip
def test_the_outermost_parts_are_as_far_apart_as_the_layout_says(shape, expected):
    assert Layout("far", reach=220, outermost=True).strides(shape) == expected


@pytest.mark.parametrize(("shape", "expected"), [
    ((), ()), ((5,), (1,)), ((0,), (1,)), ((1,), (1,)), ((3, 4), (1, 5)), ((2, 3, 4), (20, 1, 5)), ((0, 4), (1, 2)),
])  # fmt: skip
def test_transposed_storage_swaps_the_last_two_dimensions(shape, expected):
    gap = 2 if shape == (3, 4) or shape == (2, 3, 4) else 1
    assert Layout("t", row_gap=gap, transposed=True).strides(shape) == expected


def test_the_sets_of_layouts_contain_each_other():
    assert PLAIN[0] is CONTIGUOUS
    assert set(PLAIN) < set(ROWS) < set(STRIDED)
    assert not any(layout.row_gap or layout.transposed for layout in PLAIN)
    assert not any(layout.transposed for layout in ROWS)
    assert len({layout.name for layout in STRIDED}) == len(STRIDED)
