"""The benchmark of formats and oracle: both sides of a row give the same bits. No times are judged here."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from fp4guard.bench import oracle, peers
from fp4guard.cli import main
from fp4guard.formats import E2M1, codec

LIBRARIES = ("ml_dtypes", "gfloat")
rows = pytest.mark.parametrize("row", oracle.ROWS, ids=lambda row: f"{row.op}, {row.peer}")


def arrays(result):
    """Theirs are arrays or tensors, or two of them; so are ours, but for the GEMM's Expected."""
    parts = result if isinstance(result, tuple) else (getattr(result, "value", result),)
    return [np.asarray(part) for part in parts]


def need(row):
    if row.peer in LIBRARIES:
        pytest.importorskip(row.peer, reason=f"needs {row.peer}")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The same work on fewer numbers."""
    monkeypatch.setattr(oracle, "SHAPE", (13, 320))
    monkeypatch.setattr(oracle, "GEMM", (5, 7, 96))
    monkeypatch.setattr(oracle, "_SECONDS", 0.0)


@rows
def test_both_sides_compute_the_same_bits(row):
    need(row)
    theirs, ours = (side()() for side in row.prepare())
    for a, b in zip(arrays(theirs), arrays(ours), strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def test_torchs_way_of_e2m1_is_right_at_every_upper_half():
    """Or it would be compared with something that does less."""
    with np.errstate(invalid="ignore"):
        values = (np.arange(1 << 16, dtype=np.uint32) << 16 | 1).view(np.float32)
    values = values[~np.isnan(values)]
    import torch

    np.testing.assert_array_equal(peers.torch_e2m1(torch.from_numpy(values)).numpy(), codec.encode(E2M1, values))


def test_a_gemm_is_computed_anew_every_time():
    row = oracle.ROWS[-1]
    ours = row.prepare()[1]
    assert ours()() is not ours()()


def test_rows_are_those_that_were_asked_for():
    assert [(row.op, row.peer) for row in oracle.ROWS] == [
        ("E2M1 encode", "ml_dtypes"),
        ("E2M1 encode", "gfloat"),
        ("E2M1 decode", "ml_dtypes"),
        ("MXFP4 quantize", "torch"),
        ("MXFP4 quantize", "gfloat"),
        ("NVFP4 quantize", "torch"),
        ("NVFP4 quantize", "gfloat"),
        ("exact GEMM 512x512x4096", "numpy float64"),
    ]


def test_the_command_prints_json():
    for library in LIBRARIES:
        pytest.importorskip(library, reason=f"needs {library}")
    done = CliRunner().invoke(main, ["bench", "oracle", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["oracle"]["rows"]
    assert len(found) == len(oracle.ROWS)
    for row in found:
        assert set(row) == {"op", "peer", "peer_ms", "ours_ms", "ratio"}
        assert all(row[key] > 0 for key in ("peer_ms", "ours_ms", "ratio"))


def test_the_table(measuring):
    measured = [oracle.Measured("E2M1 encode", "ml_dtypes", 9.0, 0.75, 12.0)]
    measuring(oracle, lambda rounds: iter(measured))
    lines = CliRunner().invoke(main, ["bench", "oracle"]).stdout.splitlines()
    assert lines[0].split() == ["work", "peer", "peer", "ms", "ours", "ms", "ratio"]
    assert lines[1].split() == ["E2M1", "encode", "ml_dtypes", "9.00", "0.75", "12.00"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_not_installed_is_told_before_anything_is_measured(library, monkeypatch):
    imported = peers.importlib.import_module

    def without(name):
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return imported(name)

    monkeypatch.setattr(peers.importlib, "import_module", without)
    monkeypatch.setattr(oracle, "_measure", lambda row, rounds: pytest.fail(row.op))
    done = CliRunner().invoke(main, ["bench", "oracle"])
    assert done.exit_code == 2
    assert f"{library}, which is measured against, is not installed: pip install {library}" in done.stderr
