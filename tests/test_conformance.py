"""The comparison with a GPU: the simulator's part of a few rows, and all of it where there is a GPU."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent / "conformance"


def _load():
    spec = importlib.util.spec_from_file_location(
        "conformance", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    sys.modules["conformance"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["conformance"])
    return importlib.import_module("conformance.table"), importlib.import_module("conformance.compare")


table, compare = _load()


def rows(*names):
    found = [i for i, row in enumerate(table.all_rows()) if row.name.startswith(names)]
    assert len(found) >= len(names)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "arith.muli: `a * b` (i8", "arith.divsi: `a // b` (i16", "math.exp: `tl.exp(a)` (f32", "__nv_tanhf",
        "tt.fp_to_fp: `a.to(tl.float8e4nv)` (f32", "PTX: `prmt", "tt.dot: exact sums (e4m3",
        "tt.dot_scaled: e2m1 x e2m1, scales near 1", "tt.reduce: argmax", "tt.scan: affine pairs (",
        "tt.atomic_rmw: add, many", "tt.descriptor_load, store: copy", "scf.while",
        "gemm_afp4wfp4: BM16_BN32_BK128_KS2",
    ],
)  # fmt: skip
def test_simulator_part(name):
    for index in rows(name):
        outcome = table.simulate(index)
        assert outcome.right, outcome.error
        assert outcome.values > outcome.undefined


def test_rows_are_named_once():
    names = [row.name for row in table.all_rows()]
    assert len(set(names)) == len(names)


def test_every_bound_is_of_a_row():
    """A bound that matches nothing would be believed to hold."""
    used = {id(row.allowed) for row in table.all_rows()}
    bounds = importlib.import_module("conformance.bounds")
    unused = [
        k for t in (bounds.ARITHMETIC, bounds.PTX, bounds.WHOLE) for k, allowed in t.items() if id(allowed) not in used
    ]
    assert unused == []


def test_differences_are_counted():
    row = table.all_rows()[rows("math.exp2: `tl.exp2(a)` (f32")[0]]
    sim = np.array([0x3F800000, 0x3F800000, 0x7FC00000, 0x3F800000, 0x00000001, 0x3F800000], np.uint32)
    gpu = np.array([0x3F800000, 0x3F800002, 0x7FFFFFFF, 0x3F800009, 0x00000000, 0xFFFFFFFF], np.uint32)
    found = compare.compared(row, gpu, sim, np.zeros(6, bool))
    assert (found.equal, found.nans, found.differing, found.beyond, found.worst) == (1, 1, 4, 2, 9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_says_that_there_is_no_gpu():
    ran = subprocess.run([sys.executable, str(HERE)], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "No CUDA GPU here" in ran.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU to compare the simulator with")
def test_gpu_agrees():
    ran = subprocess.run([sys.executable, str(HERE)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[ran.stdout.find("WRONG") :]


@pytest.fixture(scope="module")
def gluon():
    return importlib.import_module("conformance.gluon")


def test_gluon_in_the_simulator(gluon):
    """All rows, whose kernels are right: nothing is found, and what is certain is as it has to be."""
    side = gluon.Simulated()
    outs = {name: side.run(job) for name, job in gluon.jobs(side)}
    assert not outs["cp.async: what a mask leaves out"][1000:].any()
    assert outs["TMA: blocks beyond the tensor, padding nan"][0].isnan().all()
    assert torch.equal(outs["TMA, mbarrier, wgmma: pipeline of 2"].isfinite(), torch.ones(100, 80, dtype=torch.bool))


def test_gluon_rows_are_compared_bit_by_bit_but_nan(gluon):
    sim = torch.tensor([1.0, torch.nan, 0.0, 2.0])
    gpu = torch.tensor([0x3F800000, 0x7FC00001, -(1 << 31), 0x40000001], dtype=torch.int32).view(torch.float32)
    strict, loose = (gluon.Job(print, sim, allowed) for allowed in (None, np.full(4, 2.0**-22)))
    found = gluon.compared("row", gpu, sim, strict)
    assert (found.elements, found.nans, found.differing, found.right) == (4, 1, 2, False)
    assert gluon.compared("row", gpu, sim, loose).share == 1.0
    assert gluon.compared("row", gpu, sim, loose).right
    assert gluon.compared("row", sim, sim, strict).right
    text = gluon.rendered([found], {"GPU": "none"})
    assert (
        "1 rows, 4 elements; 0 rows of the same bits, 0 with differences that they allow and explain, 1 wrong" in text
    )
