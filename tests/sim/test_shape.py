"""Operations that move values: right for values of every size, and for those held lazily with size 1."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=40, deadline=None)
SIZES = st.sampled_from([1, 2, 4, 8])


@st.composite
def values(draw, rank=None, programs=None):
    """An array [programs, *shape] as it is held (size 1 where it may be), and all of it."""
    shape = draw(st.lists(SIZES, min_size=rank or 1, max_size=rank or 3))
    programs = programs or draw(st.sampled_from([1, 3]))
    whole_shape = (programs, *shape)
    lazy = tuple(1 if draw(st.booleans()) else n for n in whole_shape)
    held = draw(st.integers(0, 99)) + np.arange(np.prod(lazy), dtype=np.int32).reshape(lazy)
    return held, np.broadcast_to(held, whole_shape)


def type_of(whole, element="i32"):
    return f"tensor<{'x'.join(map(str, whole.shape[1:]))}x{element}>"


def check(found, expected):
    """What is found may be held lazily, but broadcasts to what is expected."""
    assert found.ndim == expected.ndim
    np.testing.assert_array_equal(np.broadcast_to(found, expected.shape), expected)
    assert found.dtype == expected.dtype


def in_row_major_order(shape):
    return itertools.product(*(range(n) for n in shape))


@QUICK
@given(data=st.data())
def test_reshape_keeps_the_row_major_order(apply, data):
    held, whole = data.draw(values())
    flat = [whole[(slice(None), *index)] for index in in_row_major_order(whole.shape[1:])]
    target = data.draw(st.sampled_from([(len(flat),), (1, len(flat)), (len(flat), 1, 1)]))
    found = apply("tt.reshape", [type_of(whole)], f"tensor<{'x'.join(map(str, target))}xi32>", held)
    expected = np.stack(flat, axis=1).reshape(len(whole), *target)
    check(found, expected)


@QUICK
@given(data=st.data())
def test_trans_permutes(apply, data):
    held, whole = data.draw(values())
    order = data.draw(st.permutations(range(whole.ndim - 1)))
    target = tuple(whole.shape[1 + axis] for axis in order)
    expected = np.empty((len(whole), *target), whole.dtype)
    for index in in_row_major_order(whole.shape[1:]):
        expected[(slice(None), *(index[axis] for axis in order))] = whole[(slice(None), *index)]
    found = apply("tt.trans", [type_of(whole)], type_of(expected), held, attributes={"order": tuple(order)})
    check(found, expected)


@QUICK
@given(data=st.data())
def test_join_and_split_are_inverse(apply, data):
    a, whole_a = data.draw(values(programs=3))
    lazy = tuple(1 if data.draw(st.booleans()) else n for n in whole_a.shape)
    b = np.full(lazy, 7, np.int32)
    b += np.arange(b.size, dtype=np.int32).reshape(lazy)
    whole_b = np.broadcast_to(b, whole_a.shape)
    joined_type = f"tensor<{'x'.join(map(str, (*whole_a.shape[1:], 2)))}xi32>"
    joined = apply("tt.join", [type_of(whole_a)] * 2, joined_type, a, b)
    for place, whole in enumerate((whole_a, whole_b)):
        check(joined[..., place], whole)
        part = apply("tt.split", [joined_type], type_of(whole_a), joined)[place]
        check(part, whole)


@QUICK
@given(data=st.data())
def test_split_of_a_lazy_last_dimension_gives_it_twice(apply, data):
    held, whole = data.draw(values())
    whole = np.broadcast_to(held[..., :1], (*whole.shape[:-1], 2))
    first, second = apply("tt.split", [type_of(whole)], type_of(whole[..., 0]), held[..., :1])
    check(first, whole[..., 0])
    check(second, whole[..., 1])


@QUICK
@given(data=st.data())
def test_cat_puts_one_behind_the_other(apply, data):
    a, whole_a = data.draw(values(rank=1, programs=3))
    b = np.full((data.draw(st.sampled_from([1, 3])), 1), -1, np.int32)
    size = whole_a.shape[1]
    found = apply("tt.cat", [type_of(whole_a)] * 2, f"tensor<{2 * size}xi32>", a, b)
    expected = np.array([[*row, *[-1] * size] for row in whole_a], np.int32)
    check(found, expected)


@QUICK
@given(data=st.data())
def test_expand_dims_and_broadcast(apply, data):
    held, whole = data.draw(values())
    axis = data.draw(st.integers(0, whole.ndim - 1))
    expanded = np.expand_dims(whole, axis + 1)
    found = apply("tt.expand_dims", [type_of(whole)], type_of(expanded), held, attributes={"axis": axis})
    check(found, expanded)
    wide = np.repeat(expanded, 4, axis + 1)
    check(apply("tt.broadcast", [type_of(expanded)], type_of(wide), found), wide)


@pytest.mark.parametrize("programs", [1, 3])
def test_splat_and_unsplat(apply, programs):
    held = np.arange(programs, dtype=np.int32)
    found = apply("tt.splat", ["i32"], "tensor<4x2xi32>", held)
    check(found, np.stack([np.full((4, 2), n, np.int32) for n in held]))
    back = apply("tt.unsplat", ["tensor<1x1xi32>"], "i32", held.reshape(-1, 1, 1))
    assert back.tolist() == held.tolist()


def test_make_range(apply):
    found = apply("tt.make_range", [], "tensor<8xi32>", attributes={"start": 3, "end": 11})
    assert found.tolist() == [list(range(3, 11))]
    assert found.dtype == np.int32


@pytest.mark.parametrize(("pointee", "width"), [("i1", 1), ("i8", 1), ("bf16", 2), ("f32", 4), ("i64", 8)])
@pytest.mark.parametrize("offset", [np.int32, np.int64])
def test_addptr_counts_in_elements(apply, pointee, width, offset):
    kind = {np.int32: "i32", np.int64: "i64"}[offset]
    pointer = np.array([[1 << 48], [2 << 48]], np.int64)
    steps = np.array([[-3, 0, 2**31 - 1]], offset)
    found = apply("tt.addptr", [f"tensor<3x!tt.ptr<{pointee}>>", f"tensor<3x{kind}>"], f"tensor<3x!tt.ptr<{pointee}>>",
                  pointer, steps)  # fmt: skip
    assert found.dtype == np.int64
    assert found.tolist() == [[(p << 48) + n * width for n in (-3, 0, 2**31 - 1)] for p in (1, 2)]
