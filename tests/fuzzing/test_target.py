import functools

import pytest
import torch
from hypothesis import strategies as st

import fp4guard as fg
from fp4guard import dims
from fp4guard.ttir import parse_arch


@fg.fuzz(m=dims(max=8), kind=["a", "b"])
def sample(mem, m, kind):
    """What it is about."""


def test_target_looks_like_its_function():
    assert isinstance(sample, fg.Target)
    assert sample.name == sample.__name__ == "sample"
    assert sample.__doc__ == "What it is about."
    assert str(sample.file) == __file__
    assert list(sample.recipes) == ["m", "kind"]
    assert sample.choices == {"kind": ("a", "b")}


def test_calling_a_target_calls_the_function():
    calls = []

    @fg.fuzz(m=dims())
    def target(mem, m):
        calls.append((mem, m))

    target("memory", m=3)
    assert calls == [("memory", 3)]


def test_recipes_may_be_dims_strategies_or_values():
    @fg.fuzz(a=dims(), b=st.integers(), c=[1, 2], d=range(3), e=("x",))
    def target(mem, d, c, b, a, *, e):
        pass

    assert list(target.recipes) == ["d", "c", "b", "a", "e"]
    assert set(target.choices) == {"c", "d", "e"}


def test_target_without_arguments_is_a_target():
    @fg.fuzz()
    def target(mem):
        mem.output("out", (1,), torch.float32).zero_()

    assert not fg.examine(target).findings


def wrapping(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def test_decorated_and_static_functions_are_functions():
    class Holder:
        @fg.fuzz(m=dims())
        @staticmethod
        def static(mem, m):
            mem.output("out", (m,), torch.float32).zero_()

    @fg.fuzz(m=dims())
    @wrapping
    def wrapped(mem, m):
        mem.output("out", (m,), torch.float32).zero_()

    for target in (Holder.static, wrapped):
        assert str(target.file) == __file__
        assert not fg.examine(target, m=3).findings


def refused(match, recipes, function):
    with pytest.raises(fg.UsageError, match=match):
        fg.fuzz(**recipes)(function)


def test_signature_must_fit_the_strategies():
    def none():
        pass

    def other(m, mem):
        pass

    def method(self, mem, m):
        pass

    def two(mem, m, n=4):
        pass

    refused(r"@fuzz def none\(\): the first parameter must be mem", {}, none)
    refused(r"@fuzz def other\(m, mem\): the first parameter must be mem", {"m": dims()}, other)
    refused(r"@fuzz def method\(self, mem, m\): the first parameter must be mem", {"m": dims()}, method)
    needed = "a strategy is needed for every parameter but mem, and for no other"
    refused(rf"@fuzz\(m\) def two\(mem, m, n\): {needed}", {"m": dims()}, two)
    refused(rf"@fuzz\(m, n, k\) def two\(mem, m, n\): {needed}", {"m": dims(), "n": dims(), "k": dims()}, two)


def test_parameters_must_be_given_by_name():
    def stars(mem, *sizes):
        pass

    def keywords(mem, **sizes):
        pass

    def positional(mem, m, /):
        pass

    refused(r"@fuzz def stars\(mem, \*sizes\): \*sizes cannot be given by name", {}, stars)
    refused(r"@fuzz def keywords\(mem, \*\*sizes\): \*\*sizes cannot be given by name", {}, keywords)
    refused(r"@fuzz def positional\(mem, m\): m cannot be given by name", {"m": dims()}, positional)


def test_only_plain_functions_can_be_targets():
    async def asynchronous(mem):
        pass

    def generator(mem):
        yield

    async def both(mem):
        yield

    def plain(mem, m):
        pass

    for function in (asynchronous, generator, both):
        refused("allowed are plain functions; calling any other runs nothing", {}, function)
    for thing in (functools.partial(plain, m=3), lambda mem: None, int, 3, type("C", (), {})):
        refused("allowed are functions made with def", {}, thing)
    refused("it is a target already", {"m": dims()}, sample)


def test_decorator_must_be_called():
    with pytest.raises(fg.UsageError, match=r"write @fuzz\(\), or @fuzz\(m=dims\(\), ...\)"):

        @fg.fuzz
        def target(mem):
            pass


@pytest.mark.parametrize("value", [3, "text", [], None, {1, 2}])
def test_recipe_must_be_one(value):
    def target(mem, m):
        pass

    refused(r"@fuzz\(m=.*allowed are dims\(...\), a strategy of hypothesis, or a list of values", {"m": value}, target)


def test_values_must_be_printable():
    def target(mem, dtype):
        pass

    refused("argument dtype=torch.float32: allowed are", {"dtype": [torch.float32]}, target)


@pytest.mark.parametrize("name", ["arch", "defect", "seed", "regime", "layout", "target"])
def test_names_of_the_case_are_taken(name):
    scope = {}
    exec(f"def function(mem, {name}): pass", scope)
    refused(rf"@fuzz\({name}=...\): the names", {name: dims()}, scope["function"])


def test_a_target_may_be_written_for_one_architecture():
    def function(mem):
        pass

    pinned, free = fg.fuzz(arch="gfx950")(function), fg.fuzz()(function)
    sm_90, gfx950 = parse_arch("sm_90"), parse_arch("gfx950")
    assert (free.arch, pinned.arch) == (None, gfx950)
    assert [free.arch_for(wanted) for wanted in (None, sm_90, gfx950)] == [sm_90, sm_90, gfx950]
    assert [pinned.arch_for(wanted) for wanted in (None, gfx950)] == [gfx950, gfx950]
    with pytest.raises(fg.UsageError, match="arch='sm_90': function is written for gfx950, and allows no other"):
        pinned.arch_for(sm_90)
    with pytest.raises(fg.UsageError, match="arch='h100': allowed are"):
        fg.fuzz(arch="h100")


def test_circles_are_refused_where_they_are_written():
    def target(mem, a, b):
        pass

    refused(r"dims\(a\): its sizes need b", {"a": dims(tile=lambda b: b), "b": dims(tile=lambda a: a)}, target)
