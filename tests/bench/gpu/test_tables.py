"""The tables of `fp4guard bench gpu`, with no GPU: their work in the simulator, and how they are told."""

import json
from dataclasses import dataclass, replace

import pytest
from click.testing import CliRunner

from fp4guard.bench.gpu import clean, survival
from fp4guard.bench.gpu.table import Scale, Table, as_json, as_markdown, by_target
from fp4guard.bench.gpu.tables import TABLES
from fp4guard.checks.answered import Answered
from fp4guard.cli_bench import GPU_TABLES, bench
from fp4guard.errors import UsageError
from fp4guard.fuzzing.setting import Setting

SCALE = Scale(jobs=2, cases=10)


@dataclass(frozen=True)
class Counted:
    target: str
    cases: int

    def cells(self):
        return (self.target, str(self.cases))


def merge(rows):
    return Counted(rows[0].target, sum(row.cases for row in rows))


TABLE = Table(
    "counts",
    "Counts",
    "`cases` of each.",
    ("target", "cases"),
    lambda scale: iter([Counted("a|b", 1), Counted("c", 2), Counted("a|b", 3)]),
    lambda rows: by_target(rows, merge),
    lambda rows: f"{sum(row.cases for row in rows)} in all.",
)


def test_rows_about_the_same_are_told_as_one():
    rows = TABLE.together(list(TABLE.measure(SCALE)))
    assert rows == [Counted("a|b", 4), Counted("c", 2)]
    assert TABLE.markdown(rows) == (
        "## Counts\n\n`cases` of each.\n\n| target | cases |\n|---|--:|\n| a\\|b | 4 |\n| c | 2 |\n\n6 in all.\n"
    )
    where = {"device": "an H100", "torch": "2.11.0"}
    begin = "Device an H100, torch 2.11.0.\n\n"
    assert as_markdown([TABLE], {"counts": rows}, where, []).startswith(f"{begin}## Counts\n")
    partial = as_markdown([TABLE], {"counts": rows}, where, ["counts"])
    assert partial.startswith(f"{begin}Not measured to the end: counts.\n\n## Counts\n")
    assert as_json({"counts": rows}, where, []) == {
        "gpu": where | {"unfinished": [], "counts": [{"target": "a|b", "cases": 4}, {"target": "c", "cases": 2}]}
    }


@pytest.fixture
def on_a_gpu(monkeypatch):
    """The command believes that there is a GPU, and knows the table `cost` alone."""
    monkeypatch.setattr("fp4guard.gpu.device.current_gpu", lambda: None)
    monkeypatch.setattr("fp4guard.bench.gpu.table.environment", lambda: {"device": "none"})

    def install(measure):
        monkeypatch.setitem(TABLES, "cost", replace(TABLE, name="cost", measure=measure))

    return install


def test_interrupted_table_tells_what_it_has(on_a_gpu):
    def measure(scale):
        yield Counted("a", 1)
        raise KeyboardInterrupt

    on_a_gpu(measure)
    ended = CliRunner().invoke(bench, ["gpu", "cost", "--json"])
    assert ended.exit_code == 130
    assert json.loads(ended.stdout) == {
        "gpu": {"device": "none", "unfinished": ["cost"], "cost": [{"target": "a", "cases": 1}]}
    }


def test_table_that_fails_costs_no_other_and_no_row(on_a_gpu, monkeypatch):
    def measure(scale):
        yield Counted("a", 1)
        raise UsageError("the profiler saw no kernel")

    on_a_gpu(measure)
    monkeypatch.setitem(TABLES, "clean", replace(TABLE, name="clean"))
    ended = CliRunner().invoke(bench, ["gpu", "cost", "clean", "cost", "--json"])
    assert ended.exit_code == 2
    told = json.loads(ended.stdout)["gpu"]
    assert told["unfinished"] == ["cost"]
    assert [len(told[name]) for name in ("cost", "clean")] == [1, 2]
    assert "fp4guard: the profiler saw no kernel" in ended.stderr


def test_rows_are_told_as_they_come_and_together_in_the_end(on_a_gpu):
    on_a_gpu(TABLE.measure)
    ended = CliRunner().invoke(bench, ["gpu", "cost", "--jobs", "1"])
    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        "Counts: target | cases", "a|b | 1", "c | 2", "a|b | 3", "in all", "a|b | 4", "c | 2", "6 in all.",
    ]  # fmt: skip


def test_names_of_tables_are_those_that_the_command_takes():
    assert tuple(TABLES) == GPU_TABLES
    assert all(name == table.name for name, table in TABLES.items())


def test_cases_are_counted_and_held_against_the_simulator_s(monkeypatch, simulated_worker):
    monkeypatch.setattr(clean, "_GPU", simulated_worker)
    part = clean._try_some(("kernels.gemm_afp4wfp4::gemm_afp4wfp4", 1, 6))
    assert (part.target, part.cases, part.findings, part.unlike) == ("gemm_afp4wfp4::gemm_afp4wfp4", 6, (), ())
    assert part.certified > 0 and part.within == 0
    other = clean._try_some(("kernels.gemm_afp4wfp4::gemm_afp4wfp4", 2, 6))
    assert other.certified != part.certified, "another turn has other cases"
    (both,) = clean.TABLE.together([part, other])
    assert (both.cases, both.certified) == (12, part.certified + other.certified)
    assert clean.TABLE.summary([both]).startswith("12 cases, 0 with findings; ")


@pytest.mark.parametrize(
    ("there", "verdict", "within", "certified"),
    [
        ({"x": Answered(3, 1, "a", "b"), "y": Answered(1, 0, "c", "-")}, None, 0, 4),
        ({"x": Answered(3, 1, "a", "other"), "y": Answered(1, 0, "other", "-")}, None, 1, 3),  # y is computed from x
        ({"x": Answered(3, 1, "a", "b"), "y": Answered(1, 0, "other", "-")}, "y", 0, 3),
        ({"x": Answered(2, 2, "a", "b"), "y": Answered(1, 0, "c", "-")}, "x", 0, 0),
        ({"x": Answered(3, 1, "a", "b")}, "outputs x, y here, x in the simulator", 0, 0),
    ],
)
def test_difference_to_the_simulator_is_told_where_it_begins(there, verdict, within, certified):
    counts = clean.Counter()
    here = {"x": Answered(3, 1, "a", "b"), "y": Answered(1, 0, "c", "-")}
    assert clean._compare(counts, here, there) == verdict
    assert (counts["within"], counts["certified"]) == (within, certified)


def test_every_death_is_survived_and_told():
    """As on a GPU, but for what only a GPU shows: an illegal address, a kernel that spins, its memory."""
    rows = survival.TABLE.together(list(survival.measure(SCALE, Setting(isolated=True, timeout=20), cases=10)))
    assert [(row.target, row.cases, row.deadly, row.reported, row.others, row.left) for row in rows] == [
        (name, 10, 1, 1, 0, ()) for name in sorted(target.name for target in survival.DEATHS)
    ]
    ended = {row.target: row.headline for row in rows}
    assert "SIGABRT" in ended["aborts"] and "exit status 0" in ended["exits"] and "SIGKILL" in ended["is_killed"]
    assert all((row.tried, row.reproduced) == (1, 1) for row in rows)


def test_no_gpu_is_told_at_once(monkeypatch):
    def none():
        raise UsageError("no GPU is here")

    monkeypatch.setattr("fp4guard.gpu.device.current_gpu", none)
    ended = CliRunner().invoke(bench, ["gpu"])
    assert (ended.exit_code, "no GPU is here" in ended.output) == (2, True)
