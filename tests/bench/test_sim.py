"""The benchmark of the simulator: its kernels are right, its output has its form. No times are judged here."""

import json
import sys

import pytest
import torch
from click.testing import CliRunner

from fp4guard.bench import sides, sim
from fp4guard.bench.duel import Side
from fp4guard.bench.rows import ROWS, Row, _add, _histogram, _layer_norm, _matmul, _paged_gather, _segment_sum, _softmax
from fp4guard.cli import main
from fp4guard.errors import UsageError
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch

SMALL = ("gemm_afp4wfp4 7x5x96", "paged gather 16x8x16x64")


def named(name):
    return next(row for row in ROWS if row.name == name)


def run(row):
    """The tensors of one launch in the simulator, by name."""
    memory = sides.memory_of(row)
    simulator = Simulator(memory, parse_arch(sides.ARCH))
    with simulator.intercepting():
        row.prepare(memory, *row.shape)()
    assert not simulator.trace.incidents
    return {region.name: region.tensor for region in memory}


def gathered(cache, table, lengths):
    """[sequences, pages * page, width]; zeros from a sequence's length on."""
    rows = cache[table.long()].reshape(len(table), -1, cache.shape[-1])
    return torch.where(torch.arange(rows.shape[1])[None, :, None] < lengths[:, None, None], rows, 0)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (Row("vector add", (3072,), _add), lambda t: (t["out"], t["x"] + t["y"])),
        (Row("softmax", (5, 37), _softmax), lambda t: (t["out"], t["x"].softmax(1))),
        (Row("matmul fp16", (33, 40, 65), _matmul), lambda t: (t["c"], (t["a"].float() @ t["b"].float()).half())),
        (
            Row("layer norm", (4, 45), _layer_norm),
            lambda t: (t["out"], torch.nn.functional.layer_norm(t["x"], (45,), t["weight"], t["bias"])),
        ),
        (
            Row("paged gather", (3, 2, 16, 32), _paged_gather),
            lambda t: (t["out"], gathered(t["cache"], t["table"], t["lengths"])),
        ),
        (
            Row("segment sum", (7, 200), _segment_sum),
            lambda t: (t["out"], torch.stack([s.sum() for s in t["x"].tensor_split(t["starts"][1:-1].long())])),
        ),
        (Row("atomic histogram", (3000, 16), _histogram), lambda t: (t["counts"], t["x"].bincount(minlength=16).int())),
    ],
    ids=lambda value: value.kernel if isinstance(value, Row) else "",
)
def test_kernels_compute_what_they_say(row, expected):
    torch.testing.assert_close(*expected(run(row)))


def test_every_row_that_the_issue_asks_for():
    gemms = [row.shape for row in ROWS if row.kernel == "gemm_afp4wfp4"]
    assert gemms == [(7, 5, 96), (33, 37, 160), (101, 97, 224), (256, 256, 256), (512, 512, 512)]
    assert {row.kernel for row in ROWS} >= {"vector add", "softmax", "matmul fp16", "layer norm", "paged gather"}
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.skipif(sim.VERSION < (3, 8), reason="Triton's interpreter has no tl.dot_scaled before 3.8")
def test_the_command_prints_json_for_a_subset(measuring):
    measuring(sim, lambda rounds: sim.compare(rounds, [named(name) for name in SMALL]))
    done = CliRunner().invoke(main, ["bench", "sim", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["sim"]
    assert [row["kernel"] for row in found["rows"]] == ["gemm_afp4wfp4", "paged gather"]
    assert found["rows"][0]["shape"] == [7, 5, 96]
    for row in found["rows"]:
        assert set(row) == {"kernel", "shape", "interpreter_ms", "sim_ms", "ratio"}
        assert all(row[key] > 0 for key in ("interpreter_ms", "sim_ms", "ratio"))
    low, high = sorted(row["ratio"] for row in found["rows"])
    assert low <= found["geomean"] <= high


def test_the_table(measuring):
    rows = [sim.Measured("softmax", (257, 781), 400.0, 4.0, 100.0), sim.Measured("add", (8,), 1.0, 0.25, 4.0)]
    measuring(sim, lambda rounds: iter(rows))
    printed = CliRunner().invoke(main, ["bench", "sim"]).stdout
    assert "257x781" in printed
    assert printed.strip().endswith("geometric mean of the ratios: 20.0")


def test_an_interpreter_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(sim, "VERSION", (3, 7))
    done = CliRunner().invoke(main, ["bench", "sim"])
    assert done.exit_code == 2
    assert "the interpreter of Triton 3.7 has no tl.dot_scaled; allowed are 3.8 and later" in done.stderr


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit(3)", "the process ended with status 3"),
        ("from fp4guard.bench.duel import serve; serve(lambda request: 1 / 0)", "ZeroDivisionError: division by zero"),
        ("from fp4guard.bench.duel import serve; serve(lambda request: print(request) or 1.5)", None),
    ],
    ids=["ends", "fails", "prints"],
)
def test_a_side_that_fails_says_why_and_one_that_prints_is_heard(program, message):
    with Side("one side", (sys.executable, "-c", program), interpret=False) as side:
        if message is None:
            assert side.ask("a row") == 1.5
            return
        with pytest.raises(UsageError, match=f"one side: a row: {message}"):
            side.ask("a row")


def test_control_c_is_not_for_a_side():
    with Side("one side", (sys.executable, "-c", "import os; print(os.getsid(0))"), interpret=False) as side:
        assert int(side._process.stdout.readline()) == side._process.pid
