"""Every script in repro/ is a regression test; and the mechanics of such scripts."""

import ast
import runpy
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

import fp4guard as fg
from fp4guard.report import replay
from fp4guard.report.reproducer import write_reproducer

SCRIPTS = sorted((Path(__file__).parent.parent / "repro").glob("*.py"))
GEMM = "kernels.gemm_afp4wfp4::gemm_afp4wfp4"
CASE = {"m": 5, "n": 7, "k": 160, "config": "BM4_BN16_BK128", "dtype": "fp32"}

SCRATCH = """
import fp4guard as fg

@fg.fuzz(m=fg.dims())
def target(mem, m):
    {body}
"""


def planted_defect(script):
    """The defect that a script plants, None where it plants none."""
    call = next(
        node
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "replay"
    )
    return next(ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == "defect")


def run_here(script, *arguments):
    """Run a script as `python SCRIPT` does, but in this process, where everything is imported; its exit status."""
    with patch.object(sys, "argv", [str(script), *arguments]), pytest.raises(SystemExit) as caught:
        runpy.run_path(str(script), run_name="__main__")
    return caught.value.code


def replay_script(script):
    """Fail if the bug of a script is back, or if one that it plants is no longer found."""
    planted = planted_defect(script) is not None
    if planted:
        assert run_here(script) == 1, "the planted defect is no longer found; see above"
    assert run_here(script, *["--defect", "none"] * planted) == 0, "the bug is back, or cannot be tried; see above"


if SCRIPTS:  # none is no reason to skip a test

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
    def test_no_bug_is_back(script, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)  # a script finds its target from anywhere
        replay_script(script)


def test_script_of_a_planted_defect(run_python, tmp_path):
    report = fg.examine(GEMM, defect="scale-k-unmasked", **CASE)
    script = write_reproducer(report, tmp_path)
    assert planted_defect(script) == "scale-k-unmasked"
    replay_script(script)
    for status, arguments in ((1, ()), (0, ("--defect", "none"))):
        done = run_python(script, *arguments, cwd=tmp_path)
        assert done.returncode == status, done.stdout + done.stderr


def test_another_defect_fails_differently(capsys):
    assert replay.run(GEMM, fg.Case(CASE), "oob-read", 1, "sm_90", "a-mask-units") == 2
    printed = capsys.readouterr().out
    assert "WrongValue" in printed
    assert printed.endswith("fails differently: recorded was oob-read\n")


@dataclass
class Scratch:
    """The script of a crash of a target in a file, which may change."""

    file: Path
    script: Path

    def becomes(self, body):
        self.file.write_text(SCRATCH.format(body=body))

    def replay(self, capsys, *arguments):
        """Run the script in this process; its exit status, and what it prints."""
        for name in [name for name in sys.modules if name.startswith("_fp4guard_target_scratch")]:
            del sys.modules[name]
        return run_here(self.script, *arguments), "".join(capsys.readouterr())


@pytest.fixture
def scratch(tmp_path):
    file = tmp_path / "src" / "scratch.py"
    file.parent.mkdir()
    made = Scratch(file, Path())
    made.becomes("raise ValueError('no')")
    made.script = write_reproducer(fg.examine(f"{file}::target", m=3), tmp_path / "repro")
    return made


UNWRITTEN = "import torch; mem.output('out', (m,), torch.int32)"
STATUSES = [
    ("pass", 0, "fixed: nothing found in m=3 regime=exact layout=0 seed=0"),
    ("raise ValueError('no')", 1, "Crash: ValueError: no"),
    (UNWRITTEN, 2, "fails differently: recorded was crash"),
    ("raise fg.UnsupportedError('tt.nothing')", 125, "not supported by fp4guard: tt.nothing"),
]
MORE_STATUSES = [
    ("from hypothesis import assume; assume(m > 3)", 125, "assumes that there is no such case: m=3"),
    ("fg.oracle.gemm(1, 2)", 125, "cannot run here: b: int; allowed are"),
    ("mem._layout('x', 3)", 125, "cannot run here: the harness failed"),
    ("raise KeyboardInterrupt", 130, ""),
    ("pass\n1 / 0", 125, "importing it fails: ZeroDivisionError"),
    ("pass\ndel target", 125, "no target called 'target'"),
    ("pass\n@fg.fuzz()\ndef target(mem): pass", 125, "arguments of target: given are m; needed are none"),
]


@pytest.mark.parametrize(("body", "status", "text"), STATUSES)
def test_exit_status_of_the_process(scratch, run_python, tmp_path, body, status, text):
    scratch.becomes(body)
    done = run_python(scratch.script, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("body", "status", "text"), [*STATUSES, *MORE_STATUSES])
def test_exit_status_says_what_became_of_the_bug(scratch, capsys, body, status, text):
    scratch.becomes(body)
    code, printed = scratch.replay(capsys)
    assert code == status
    assert text in printed


def test_script_that_cannot_run_says_so(scratch, run_python, tmp_path, capsys):
    assert scratch.replay(capsys, "--defect", "no")[0] == 125
    hidden = run_python("-S", "-I", scratch.script, cwd=tmp_path)
    assert hidden.returncode == 125
    assert "cannot run here: No module named" in hidden.stderr
    text = scratch.script.read_text()
    scratch.script.write_text(text.replace("regime='exact'", "regime='of old'"))
    code, printed = scratch.replay(capsys)
    assert code == 125
    assert "cannot run here: regime='of old'" in printed
    scratch.script.write_text(text)
    scratch.file.unlink()
    assert scratch.replay(capsys)[0] == 125


def test_script_moves_with_the_tree(scratch, run_python, tmp_path):
    shutil.copytree(tmp_path / "src", tmp_path / "elsewhere" / "src")
    shutil.copytree(tmp_path / "repro", tmp_path / "elsewhere" / "repro")
    scratch.file.unlink()
    done = run_python(tmp_path / "elsewhere" / "repro" / scratch.script.name, cwd="/")
    assert done.returncode == 1, done.stderr


def test_another_offset_still_reproduces(capsys):
    case = fg.Case(CASE)
    assert replay.run(GEMM, case, "oob-read", -7, "sm_90", "scale-k-unmasked") == 1
    assert capsys.readouterr().out.endswith("reproduces, at another place: recorded was byte -7\n")
