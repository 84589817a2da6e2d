import importlib
import itertools
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st

import fp4guard as fg
from fp4guard import dims
from fp4guard.fuzzing.campaign import Budget, Options, Search, Searcher, run_campaign
from fp4guard.fuzzing.profiles import PROFILES
from fp4guard.ttir import parse_arch

ALL = replace(PROFILES["dev"], keep=False, stop_at_first=False)
FIRST = replace(ALL, stop_at_first=True)


def options(profile=FIRST, seed=0, **more):
    return Options(profile, parse_arch("sm_90"), seed, **more)


def search(target, budget, **more):
    return Searcher(target, options(**more), budget).run()


@fg.fuzz(m=dims(), n=dims())
def clean(mem, m, n):
    mem.output("out", (m,), torch.float32).zero_()


@fg.fuzz(m=dims(), n=dims(), kind=["a", "b"])
def three_bugs(mem, m, n, kind):
    if m >= 10:
        raise ValueError("large m")
    if n % 7 == 0:
        raise KeyError("multiple of 7")
    if kind == "b" and m > 4:
        mem.tensor("x", (m,), torch.int32).bitwise_not_()


def test_budget_of_cases_is_kept():
    found = search(clean, Budget(cases=30))
    assert (found.cases, found.complete, found.found) == (30, True, [])
    assert found.seconds > 0
    assert search(clean, Budget(cases=0)).cases == 0


def test_budget_of_cases_may_exceed_a_round(monkeypatch):
    monkeypatch.setattr("fp4guard.fuzzing.campaign._ROUND", 20)
    assert search(clean, Budget(cases=70)).cases == 70


def test_budget_of_time_ends_the_search():
    found = search(clean, Budget(seconds=0.05))
    assert found.complete
    assert found.cases > 0
    assert not Budget(seconds=1000).late
    assert Budget(seconds=0.0).late


def test_first_case_is_tried_however_short_the_time():
    assert search(clean, Budget(seconds=0.0)).cases == 1


def test_cases_differ_in_more_than_seed_and_layout():
    tried = set()

    @fg.fuzz(m=dims(max=2000), n=dims(max=2000))
    def target(mem, m, n):
        tried.add((m, n, mem.case.regime))
        mem.output("out", (1,), torch.uint8).zero_()

    found = search(target, Budget(cases=120))
    assert len(tried) > 0.9 * found.cases, "hypothesis climbs along what makes no difference"


def test_first_finding_ends_the_search_and_is_shrunk():
    found = search(three_bugs, Budget(cases=200))
    assert len(found.found) == 1
    assert found.cases < 200
    case = found.found[0].case
    assert case.arguments["m"] <= 11
    assert case.arguments["n"] <= 21
    assert (case.seed, case.regime, case.layout) == (0, "exact", 0)


def test_every_distinct_finding_is_collected_once():
    found = search(three_bugs, Budget(cases=400), profile=ALL)
    by_headline = {report.findings[0].headline.split(":")[0]: report for report in found.found}
    large, multiple, modified = (by_headline[name] for name in ("ValueError", "KeyError", "the input `x` was changed"))
    assert large.findings[0].headline == "ValueError: large m"
    assert large.case.arguments["m"] in (10, 11)
    assert multiple.findings[0].headline == "KeyError: 'multiple of 7'"
    assert multiple.case.arguments["n"] in (7, 14, 21)
    assert modified.findings[0].tensor == "x"
    assert modified.case.arguments["m"] == 5
    assert len(found.found) == len(found.findings) == 3
    assert found.cases == 400


def test_finding_of_the_last_case_is_shrunk_too():
    @fg.fuzz(m=dims(min=5, max=50), n=dims())
    def target(mem, m, n):
        raise ValueError

    found = search(target, Budget(cases=1), seed=3)
    assert found.cases == 1
    assert dict(found.found[0].case.arguments) == {"m": 5, "n": 1}


def test_unshrunk_search_keeps_the_case_it_found():
    sizes = {search(three_bugs, Budget(cases=200), shrink=False, seed=s).found[0].case for s in range(4)}
    assert len(sizes) > 1


def test_same_seed_gives_the_same_search():
    def tried(seed, profile=FIRST):
        cases = []

        @fg.fuzz(m=dims(), n=dims())
        def target(mem, m, n):
            cases.append(mem.case)

        search(target, Budget(cases=20), seed=seed, profile=profile)
        return cases

    assert tried(1) == tried(1)
    assert tried(1) != tried(2)
    assert tried(None, replace(FIRST, derandomize=True)) == tried(None, replace(FIRST, derandomize=True))


def test_target_that_fails_at_random_is_reported_all_the_same():
    calls = itertools.count()

    @fg.fuzz(m=dims())
    def target(mem, m):
        if next(calls) % 3 == 2:
            raise ValueError

    assert [f.kind for f in search(target, Budget(cases=30)).findings] == ["crash"]


def test_interrupt_keeps_what_was_found():
    calls = itertools.count()

    @fg.fuzz(m=dims(min=1, max=20))
    def target(mem, m):
        if next(calls) > 60:
            raise KeyboardInterrupt
        if m > 3:
            raise ValueError

    searcher = Searcher(target, options(profile=ALL), Budget())
    with pytest.raises(KeyboardInterrupt):
        searcher.run()
    assert [finding.headline for finding in searcher.search.findings] == ["ValueError"]
    assert not searcher.search.complete
    assert searcher.search.cases > 0


def test_interrupt_while_shrinking_keeps_the_finding():
    calls = itertools.count()

    @fg.fuzz(m=dims())
    def target(mem, m):
        if m > 20:
            if next(calls) == 2:
                raise KeyboardInterrupt
            raise ValueError

    searcher = Searcher(target, options(), Budget())
    with pytest.raises(KeyboardInterrupt):
        searcher.run()
    assert len(searcher.search.found) == 1


def test_target_that_assumes_everything_away_is_refused():
    @fg.fuzz()
    def target(mem):
        assume(False)

    with pytest.raises(fg.UsageError, match=r"::target: (FailedHealthCheck|Unsatisfiable): "):
        search(target, Budget(cases=30))


def test_assumed_cases_are_not_counted():
    @fg.fuzz(m=dims(max=10))
    def target(mem, m):
        assume(m > 2)

    assert search(target, Budget(cases=20)).cases == 20


def campaign(targets, seconds=None, cases=None, profile=FIRST):
    searches = []
    for _ in run_campaign(targets, options(profile), seconds, cases, lambda search: None, searches):
        pass
    return searches


def test_a_target_of_another_architecture_is_refused_and_the_others_are_searched():
    pinned = replace(clean, arch=parse_arch("gfx950"))
    refused, searched = campaign([pinned, clean], cases=5)
    assert (refused.cases, searched.cases) == (0, 5)
    assert str(refused.error) == "arch='sm_90': clean is written for gfx950, and allows no other"
    only = Options(FIRST, None, 0)
    assert Searcher(pinned, only, Budget(cases=5)).run().cases == 5


def test_each_target_gets_its_cases():
    assert [s.cases for s in campaign([clean, three_bugs, clean], cases=20)][::2] == [20, 20]
    assert [s.cases for s in campaign([clean], profile=replace(FIRST, cases=7))] == [7]


def test_time_is_shared_and_what_is_left_goes_on(monkeypatch):
    shares = []

    def run(self):
        shares.append(self._budget.seconds)
        return self.search

    monkeypatch.setattr(Searcher, "run", run)
    clock = itertools.count(0, 2)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    campaign([clean, clean], seconds=100)
    assert shares[0] == pytest.approx(49)
    assert shares[1] > 90


def test_error_of_one_target_leaves_the_others():
    @fg.fuzz()
    def broken(mem):
        raise fg.UsageError("no")

    first, second, third = campaign([three_bugs, broken, clean], cases=20)
    assert first.found
    assert isinstance(second.error, fg.UsageError)
    assert (third.cases, third.error) == (20, None)


def test_a_target_that_skips_is_told_and_the_others_are_searched():
    @fg.fuzz(m=dims())
    def skips(mem, m):
        pytest.skip("not today")

    one, other = campaign([skips, clean], None, 2)
    assert (one.cases, other.cases) == (0, 2)
    assert isinstance(one.error, fg.UsageError)
    assert "skips: skipped: not today" in str(one.error)


def test_failing_cases_are_kept_and_tried_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    profile = replace(FIRST, keep=True)

    @fg.fuzz(m=dims())
    def target(mem, m):
        if m == 97:
            raise ValueError

    assert search(target, Budget(cases=2000), seed=None, profile=profile).found
    again = search(target, Budget(cases=3), seed=None, profile=profile)
    assert isinstance(again, Search)
    assert again.found[0].case.arguments["m"] == 97


def test_a_seed_draws_the_same_cases_whatever_modules_are_loaded(tmp_path, monkeypatch):
    """Hypothesis would draw numbers that it finds in the source of loaded modules too."""
    drawn = []

    @fg.fuzz(m=st.integers(0, 10**9), n=st.integers(0, 10**9))
    def target(mem, m, n):
        drawn.append((m, n))

    def cases():
        drawn.clear()
        search(target, Budget(cases=60))
        return list(drawn)

    before = cases()
    (tmp_path / "many_numbers.py").write_text(f"NUMBERS = {list(range(10**6, 10**6 + 400))}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("many_numbers")
    assert cases() == before
    assert len(set(before)) > 30
