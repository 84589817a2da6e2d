import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fp4guard as fg
from fp4guard import dims
from fp4guard.fuzzing.strategies import draw_arguments, drawing_order


def drawn(recipe, count=400, **arguments):
    """Sizes that hypothesis draws, the same each time."""
    sizes = []

    @settings(max_examples=count, database=None, derandomize=True)
    @given(recipe.resolve(arguments))
    def draw(size):
        sizes.append(size)

    draw()
    return set(sizes)


def test_small_sizes_and_primes_are_drawn_without_a_tile():
    sizes = drawn(dims())
    assert {1, 2, 3, 5, 7, 11, 13, 17, 31, 37, 61, 97, 101, 127, 131} <= sizes
    assert min(sizes) == 1
    assert max(sizes) <= 160


def test_edges_of_the_tile_are_drawn():
    sizes = drawn(dims(tile=64))
    assert {1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 192, 256} <= sizes
    assert max(sizes) <= 4 * 64


def test_edges_of_the_tile_are_one_unit_apart():
    sizes = drawn(dims(multiple_of=32, tile=128))
    assert {32, 64, 96, 128, 160, 224, 256, 288, 384, 512} <= sizes
    assert all(size % 32 == 0 for size in sizes)


@given(
    st.integers(1, 40), st.integers(0, 100), st.integers(0, 300), st.one_of(st.none(), st.integers(1, 64)), st.data()
)
def test_sizes_are_multiples_between_minimum_and_maximum(unit, least, span, tile, data):
    most = max(least + span, 1)
    if most // unit * unit < least:
        with pytest.raises(fg.UsageError, match="no size is left"):
            dims(min=least, max=most, multiple_of=unit, tile=tile)
        return
    size = data.draw(dims(min=least, max=most, multiple_of=unit, tile=tile).resolve({}))
    assert size % unit == 0
    assert least <= size <= most


def test_minimum_may_be_zero():
    assert 0 in drawn(dims(min=0, max=3))
    assert 0 in drawn(dims(min=0, tile=64)), "an edge, not one size of many"


def test_minimum_above_the_default_maximum_is_drawn():
    assert drawn(dims(min=1000, tile=16)) == {1000}


def test_tile_and_maximum_may_depend_on_other_arguments():
    recipe = dims(tile=lambda block: block, max=lambda block, limit: block * limit)
    assert recipe.needs == ("block", "limit")
    assert {15, 16, 17, 31, 32} <= drawn(recipe, block=16, limit=2)
    assert max(drawn(recipe, block=16, limit=2)) == 32


def test_unit_may_depend_on_other_arguments():
    recipe = dims(multiple_of=lambda unit: unit, tile=64, max=100)
    assert recipe.needs == ("unit",)
    assert {size % 24 for size in drawn(recipe, unit=24)} == {0}
    assert min(drawn(recipe, unit=24)) == 24
    assert max(drawn(recipe, unit=24)) == 96
    with pytest.raises(fg.UsageError, match="no size is left between 128 and"):
        recipe.resolve({"unit": 128})
    with pytest.raises(fg.UsageError, match="the multiple_of that is computed from unit=0 is 0"):
        recipe.resolve({"unit": 0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": 0}, r"dims\(tile=0\): allowed are integers of 1 or more"),
        ({"max": 0}, r"dims\(max=0\): allowed are integers of 1 or more"),
        ({"multiple_of": -1}, r"dims\(multiple_of=-1\): allowed are integers of 1 or more"),
        ({"min": -1}, r"dims\(min=-1\): allowed are integers of 0 or more"),
        ({"min": 5, "max": 4}, r"dims\(min=5, max=4, multiple_of=1\): no size is left"),
        ({"max": 31, "multiple_of": 32}, r"dims\(min=32, max=31, multiple_of=32\): no size is left"),
        ({"tile": 16.0}, r"dims\(tile=16.0\): allowed are integers of 1 or more"),
        ({"max": "9"}, r"dims\(max='9'\): allowed are integers of 1 or more"),
        ({"multiple_of": None}, r"dims\(multiple_of=None\): allowed are integers of 1 or more"),
        ({"min": 1.5}, r"dims\(min=1.5\): allowed are integers of 0 or more"),
    ],
)
def test_wrong_sizes_are_refused(arguments, message):
    with pytest.raises(fg.UsageError, match=message):
        dims(**arguments)


def test_size_that_is_computed_wrongly_is_refused():
    for value in (0, -3, "x", 2.5):
        with pytest.raises(fg.UsageError, match="the tile that is computed from block=16"):
            dims(tile=lambda block, value: value).resolve({"block": 16, "value": value})


def test_computed_maximum_below_the_minimum_is_refused():
    with pytest.raises(fg.UsageError, match="no size is left between 16 and the max that is computed, 8"):
        dims(min=16, max=lambda block: block).resolve({"block": 8})


def test_arguments_are_drawn_after_those_they_need():
    recipes = {"a": dims(tile=lambda b: b), "b": dims(max=lambda c: c), "c": st.sampled_from([4])}
    assert drawing_order(recipes) == ["c", "b", "a"]


def test_drawn_arguments_keep_the_order_of_the_function():
    @given(st.composite(lambda draw: draw_arguments(draw, {"a": dims(tile=lambda b: b), "b": st.just(4)}))())
    def draw(arguments):
        assert list(arguments) == ["a", "b"]
        assert arguments["b"] == 4
        assert arguments["a"] <= 16

    draw()


@pytest.mark.parametrize(
    "recipes",
    [
        {"a": dims(tile=lambda b: b), "b": dims(tile=lambda a: a)},
        {"a": dims(tile=lambda a: a)},
        {"a": dims(tile=lambda nobody: nobody)},
    ],
)
def test_circles_and_unknown_names_are_refused(recipes):
    with pytest.raises(fg.UsageError, match=r"dims\(a\): its sizes need (a|b|nobody); allowed are the names of other"):
        drawing_order(recipes)
