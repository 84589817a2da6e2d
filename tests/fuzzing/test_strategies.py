"""The strategies are themselves tested: what 300 generated cases of the included GEMM try."""

from collections import Counter

import pytest
from hypothesis import find, given, seed, settings
from hypothesis import strategies as st

import fp4guard as fg
from fp4guard import dims
from fp4guard.fuzzing.loading import load_targets
from fp4guard.fuzzing.profiles import PROFILES, hypothesis_settings
from fp4guard.oracle import REGIMES

TARGETS = load_targets("kernels.gemm_afp4wfp4")


def generate(target, count=300, number=0):
    cases = []

    @seed(number)
    @settings(hypothesis_settings(PROFILES["dev"], None), max_examples=count)
    @given(target.cases())
    def draw(case):
        cases.append(case)

    draw()
    return cases


@pytest.fixture(scope="module", params=TARGETS, ids=lambda target: target.name)
def tried(request):
    """A target, and 300 of its cases."""
    return request.param, generate(request.param)


def test_cases_are_as_many_as_asked_for_and_mostly_different(tried):
    _, cases = tried
    assert len(cases) == 300
    assert len(set(cases)) > 200


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_all_values_of_every_list_are_tried(target):
    # So many that one of 42 values is missed once in 10^10 seeds: which cases a seed gives depends on the modules that
    # are loaded, whose constants hypothesis draws from.
    cases = generate(target, 1100)
    for name, values in target.choices.items():
        assert {case.arguments[name] for case in cases} == set(values)


def test_all_regimes_are_tried_about_as_often(tried):
    counts = Counter(case.regime for case in tried[1])
    assert set(counts) == set(REGIMES)
    assert min(counts.values()) >= 20


def test_plain_and_other_layouts_are_tried(tried):
    layouts = [case.layout for case in tried[1]]
    assert 0 in layouts
    assert len(set(layouts)) > 30


def remainders(tried, size, block):
    """Of each case, a size modulo its configuration's block."""
    target, cases = tried
    configs = target.function.__globals__["CONFIGS"]
    return [case.arguments[size] % getattr(configs[case.arguments["config"]], block) for case in cases]


@pytest.mark.parametrize(("size", "block"), [("m", "block_m"), ("n", "block_n"), ("k", "block_k")])
def test_whole_tiles_and_others_are_tried(tried, size, block):
    rest = remainders(tried, size, block)
    assert sum(r == 0 for r in rest) >= 20
    assert sum(r != 0 for r in rest) >= 100


def test_every_k_is_whole_groups_and_few_are_whole_blocks(tried):
    assert all(case.arguments["k"] % 32 == 0 for case in tried[1])
    assert len({r for r in remainders(tried, "k", "block_k") if r}) >= 5


def test_one_row_and_more_than_one_tile_are_tried(tried):
    target, cases = tried
    configs = target.function.__globals__["CONFIGS"]
    assert any(case.arguments["m"] == 1 for case in cases)
    assert any(case.arguments["m"] > configs[case.arguments["config"]].block_m for case in cases)


def test_same_seed_gives_the_same_cases():
    target = TARGETS[0]
    assert generate(target, 30, 5) == generate(target, 30, 5)
    assert generate(target, 30, 5) != generate(target, 30, 6)


def test_smallest_case_is_the_first_of_everything():
    @fg.fuzz(m=dims(tile=64), n=st.integers(3, 9), kind=["a", "b"])
    def target(mem, m, n, kind):
        pass

    assert find(target.cases(), lambda case: True) == fg.Case({"m": 1, "n": 3, "kind": "a"})
