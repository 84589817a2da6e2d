"""`fp4guard run`: scripts as Python runs them, and exit statuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

KERNEL = """
import sys, torch, triton, triton.language as tl

DEVICE = triton.runtime.driver.active.get_active_torch_device()

@triton.jit
def double(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) * 2, mask=i < n)

@triton.jit
def double_over(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0.0) * 2)

def run(kernel):
    x = torch.randn(100, device="cuda")
    out = torch.empty_like(x)
    assert x.is_cuda and torch.cuda.is_available()
    kernel[(triton.cdiv(100, 64),)](x, out, 100, BLOCK=64)
    torch.testing.assert_close(out, x * 2)
    return out

"""

ENDINGS = {
    "right": ("run(double)\nprint('done', sys.argv[1:], __name__)", 0, "nothing found in 1 launch"),
    "wrong": ("try:\n    run(double_over)\nexcept Exception:\n    pass\nprint('went on')", 1, "1 finding in 1 launch"),
    "raises": ("run(double)\nraise ValueError('mine')", 3, "the script failed: it raised ValueError"),
    "exits": ("run(double)\nsys.exit(7)", 3, "the script failed: its exit status is 7"),
    "exits with a text": ("sys.exit('no more')", 3, "the script failed: its exit status is 1"),
    "exits well": ("run(double)\nsys.exit(0)", 0, "nothing found in 1 launch"),
    "unsupported": ("torch.cuda.CUDAGraph()", 2, "not supported by fp4guard: torch.cuda.CUDAGraph"),
}


@pytest.fixture
def script(tmp_path):
    def write(text, name="script.py"):
        (tmp_path / name).write_text(KERNEL + text)
        return name

    return write


@pytest.mark.parametrize("ending", ENDINGS)
def test_exit_statuses(script, run_fp4guard, tmp_path, ending):
    text, status, said = ENDINGS[ending]
    done = run_fp4guard("run", script(text), "--mine", "-m", "7", cwd=tmp_path)
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done
    assert "went on" not in done.stdout
    if ending == "right":
        assert "done ['--mine', '-m', '7'] __main__" in done.stdout
    if ending == "raises":
        assert "Traceback" in done.stderr and "ValueError: mine" in done.stderr and "runpy" not in done.stderr
    if ending == "wrong":
        line = r"script\.py:14:\d+   tl\.store\(out \+ i, tl\.load\(x \+ i, mask=i < n, other=0\.0\) \* 2\)"
        assert re.search(line, done.stdout)
        assert "launch  script.py:20:5" in done.stdout


def test_going_on(script, run_fp4guard, tmp_path):
    name = script("run(double_over)\nprint('went on')")
    done = run_fp4guard("run", "--keep-going", "--json", "o.json", "--arch", "gfx950", name, cwd=tmp_path)
    assert done.returncode == 1 and "went on" in done.stdout
    summary = json.loads((tmp_path / "o.json").read_text())
    assert [f["kind"] for f in summary["findings"]] == ["oob-write"]
    assert (summary["launches"], summary["failure"], summary["interrupted"]) == (1, None, False)


def test_a_module(script, run_fp4guard, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    script("run(double)\nprint(__package__, sys.argv[1:])", "package/part.py")
    done = run_fp4guard("run", "-m", "package.part", "x", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "package ['x']"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.py",), "SCRIPT='nowhere.py': there is no such file"),
        (("-m", "nowhere.at.all"), "MODULE='nowhere.at.all'"),
        (("--arch", "h100", "nowhere.py"), "arch='h100': allowed are sm_<n> and gfx<n>"),
    ],
)
def test_errors_of_use(run_fp4guard, tmp_path, arguments, said):
    done = run_fp4guard("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_an_interrupt(script, tmp_path):
    name = script(
        "import time\ntry:\n    print('begun', flush=True)\n    time.sleep(60)\nfinally:\n    print('cleaned')"
    )
    command = [sys.executable, "-m", "fp4guard.cli", "run", name]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "cleaned" in rest and "interrupted: nothing found" in rest


def test_an_interrupt_that_the_script_handles(script, run_fp4guard, tmp_path):
    handled = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    time.sleep(1.5)
print('saved')
"""
    done = run_fp4guard("run", script(handled), cwd=tmp_path)
    assert done.returncode == 0 and "saved" in done.stdout and "nothing found" in done.stdout
