"""The benchmark of Gluon: its output has its form. That both sides compute the same is tested with the simulator."""

import json

from click.testing import CliRunner

from fp4guard.bench import gluon
from fp4guard.cli import main


def test_the_command_prints_json_for_a_subset(measuring):
    rows = [row for row in gluon.TWINS if row.kernel == "paged gather"]
    measuring(gluon, lambda rounds: gluon.compare(rounds, rows))
    done = CliRunner().invoke(main, ["bench", "gluon", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["gluon"]["rows"]
    assert (row["kernel"], row["shape"]) == ("paged gather", [16, 8, 16, 64])
    assert set(row) == {"kernel", "shape", "triton_ms", "gluon_ms", "ratio"}
    assert all(row[key] > 0 for key in ("triton_ms", "gluon_ms", "ratio"))


def test_the_table(measuring):
    rows = [gluon.Measured("softmax", (257, 781), 4.0, 5.0, 1.25)]
    measuring(gluon, lambda rounds: iter(rows))
    printed = CliRunner().invoke(main, ["bench", "gluon"]).stdout
    assert printed.splitlines()[1].split() == ["softmax", "257x781", "4.00", "5.00", "1.25"]


def test_every_twin_is_there():
    assert {row.kernel for row in gluon.TWINS} == {"vector add", "softmax", "matmul fp16", "paged gather"}
