"""`pytest --fp4guard` on a suite that knows nothing of fp4guard."""

from __future__ import annotations

import pytest
import torch

SUITE = """
import pytest, torch, triton, triton.language as tl

@triton.jit
def double(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) * 2, mask=i < n)

@triton.jit
def double_beyond(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i) * 2, mask=i < n)

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = [f"cuda:{i}" for i in range(torch.cuda.device_count())]

def run(kernel, n, x=None):
    x = torch.randn(n, device="cuda") if x is None else x
    out = torch.empty_like(x)
    kernel[(triton.cdiv(n, 64),)](x, out, n, BLOCK=64)
    return x, out

@pytest.fixture(scope="module")
def shared():
    return torch.ones(50, device="cuda")

@pytest.fixture
def broken():
    return run(double_beyond, 100)

@cuda
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [1, 64, 100])
def test_right(n, device):
    x, out = run(double, n, torch.ones(n, device=device))
    torch.testing.assert_close(out, x * 2)

@cuda
@pytest.mark.parametrize("n", [64, 100])
def test_beyond(n):
    x, out = run(double_beyond, n)
    torch.testing.assert_close(out, x * 2)

def test_shared(shared):
    run(double_beyond, 50, shared)

def test_fixture(broken):
    pass

def test_skipping():
    run(double_beyond, 100)
    pytest.skip("too late")

def test_its_own_failure():
    x, out = torch.ones(100, device="cuda"), torch.empty(100, device="cuda")
    double[(1,)](x, out, 100, BLOCK=64)
    assert out.tolist() == [2] * 100

@pytest.mark.skipif(torch.cuda.is_available() and torch.cuda.get_device_capability() < (10, 0), reason="Blackwell")
def test_blackwell():
    pass
"""


@pytest.fixture
def suite(pytester):
    pytester.makeconftest("import torch\nHAS_GPU = torch.cuda.is_available()\n")
    pytester.makepyfile(
        test_kernels=SUITE + "\ndef test_conftest():\n    from conftest import HAS_GPU\n    assert HAS_GPU\n"
    )
    return pytester


def test_each_test_is_reported(suite):
    result = suite.runpytest_subprocess("--fp4guard", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=5, failed=4, errors=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "fp4guard: tests are guarded, and their Triton kernels simulated for sm_90",
            "OutOfBoundsRead: 28 lanes read `made at test_kernels.py:*` beyond its end",
            "  kernel  test_kernels.py:11:*   tl.store(out + i, tl.load(x + i) * 2, mask=i < n)",
            "  launch  test_kernels.py:19:5 *",
            "*reads 36 of 100 elements of `made at test_kernels.py:*` to which nothing was written*",
        ],
        consecutive=False,
    )
    failed = [line for line in result.outlines if line.startswith(("FAILED", "ERROR"))]
    names = ("test_beyond[100]", "test_shared", "test_fixture", "test_skipping", "test_its_own_failure")
    assert len(failed) == len(names) and all(any(name in line for line in failed) for name in names)


def test_another_architecture(suite):
    result = suite.runpytest_subprocess("--fp4guard", "--fp4guard-arch", "sm_100", "-k", "blackwell or right")
    result.assert_outcomes(passed=4)


def test_with_workers(suite):
    result = suite.runpytest_subprocess("--fp4guard", "-n", "2", "-k", "right or beyond or conftest")
    result.assert_outcomes(passed=5, failed=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is emulated is there")
def test_without_the_option_nothing_is_emulated(suite):
    result = suite.runpytest_subprocess("-k", "blackwell")
    result.assert_outcomes(passed=1)


def test_an_unknown_architecture(suite):
    result = suite.runpytest_subprocess("--fp4guard", "--fp4guard-arch", "h100")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*arch='h100': allowed are sm_<n> and gfx<n>*"])


def test_targets_are_examined_as_ever(suite):
    suite.makepyfile(
        test_target="""
import torch, fp4guard as fg
from fp4guard import dims
from test_kernels import double, double_beyond

@fg.fuzz(n=dims(tile=64))
def test_double(mem, n):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    assert x.is_cuda
    double[(-(-n // 64),)](x, out, n, BLOCK=64)
    mem.expect(out, x * 2)

@fg.fuzz(n=dims(tile=64))
def test_double_beyond(mem, n):
    x, out = mem.tensor("x", (n,), torch.float32), mem.output("out", (n,), torch.float32)
    double_beyond[(-(-n // 64),)](x, out, n, BLOCK=64)
"""
    )
    result = suite.runpytest_subprocess("--fp4guard", "test_target.py", "--fp4guard-repro-dir", str(suite.path / "r"))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*OutOfBoundsRead: * lanes read `x` beyond its end"])


def test_what_pytest_says_of_a_failure_is_no_read(suite):
    """The assertion fails, as it is to, and pytest looks at what is undefined to say why."""
    suite.makepyfile(
        test_repr="""
import pytest, torch, triton, triton.language as tl

@triton.jit
def copy_some(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n))

def test_repr():
    out = torch.empty(64, device="cuda")
    copy_some[(1,)](torch.ones(50, device="cuda"), out, 50, BLOCK=64)
    with pytest.raises(AssertionError):
        assert out is None

def test_print():
    out = torch.empty(64, device="cuda")
    copy_some[(1,)](torch.ones(50, device="cuda"), out, 50, BLOCK=64)
    print(out)
"""
    )
    result = suite.runpytest_subprocess("--fp4guard", "-l", "test_repr.py")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["  read    test_repr.py:17:* print(out)"])
