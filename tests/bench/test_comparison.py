"""How comparisons are told; what each measures is tested beside it."""

from dataclasses import dataclass
from importlib import import_module

import pytest
from click.testing import CliRunner

from fp4guard.bench import gluon
from fp4guard.bench.comparison import Comparison
from fp4guard.cli import main
from fp4guard.cli_bench import COMPARISONS


@dataclass(frozen=True)
class Timed:
    kernel: str
    ratio: float

    def cells(self):
        return self.kernel, f"{self.ratio:.1f}"


ROWS = [Timed("a", 2.0), Timed("b", 8.0)]
COLUMNS = (("kernel", "<8"), ("ratio", ">6"))


@pytest.mark.parametrize(("averaged", "summary", "keys"), [(False, None, {"rows"}), (True, "4.0", {"geomean", "rows"})])
def test_rows_are_told_as_text_and_json(averaged, summary, keys):
    comparison = Comparison("it", COLUMNS, lambda rounds: iter(ROWS), averaged)
    assert comparison.heading() == "kernel   ratio"
    assert comparison.line(ROWS[0].cells()) == "a          2.0"
    assert comparison.summary(ROWS) == (summary and f"geometric mean of the ratios: {summary}")
    assert comparison.summary([]) is None
    told = comparison.as_json(ROWS)["it"]
    assert (set(told), told["rows"][1]) == (keys, {"kernel": "b", "ratio": 8.0})


def test_names_are_those_that_the_command_takes():
    assert all(import_module(f"fp4guard.bench.{name}").COMPARISON.name == name for name in COMPARISONS)


@pytest.mark.parametrize("interrupted", ["in a measurement", "in a line"])
def test_interrupt_ends_what_is_timed(measuring, interrupted):
    ended = []

    class Interrupts(gluon.Measured):
        def cells(self):
            raise KeyboardInterrupt

    def measure(rounds):
        try:
            yield gluon.Measured("softmax", (2, 3), 1.0, 1.0, 1.0)
            if interrupted == "in a line":
                yield Interrupts("matmul", (2, 3), 1.0, 1.0, 1.0)
            raise KeyboardInterrupt
        finally:
            ended.append(rounds)

    measuring(gluon, measure)
    done = CliRunner().invoke(main, ["bench", "gluon", "--rounds", "3"])
    assert (done.exit_code, ended) == (130, [3])
    assert "softmax" in done.stdout and "fp4guard: interrupted" in done.stderr
