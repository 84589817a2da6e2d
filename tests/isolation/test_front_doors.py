"""Isolation as users ask for it: on the command line, of pytest, and in reproducers."""

import shutil
from pathlib import Path

import pytest

import fp4guard.plugin as plugin

TARGETS = Path(__file__).with_name("targets.py")


@pytest.fixture
def folder(tmp_path):
    shutil.copy(TARGETS, tmp_path / "mine.py")
    return tmp_path


def test_death_is_found_shrunk_and_reproduced(run_fp4guard, run_python, folder):
    ended = run_fp4guard("fuzz", "mine.py::aborts", "--isolate", "--max-cases", "60", "--seed", "1", cwd=folder)
    assert ended.returncode == 1, ended.stderr
    assert "fuzzing 1 target on the simulator, isolated, no time limit" in ended.stdout
    assert "Crash: the process running the case was ended by SIGABRT" in ended.stdout
    (script,) = (folder / "repro").glob("aborts-crash-*.py")
    assert "isolated=True" in script.read_text()
    again = run_python(script, cwd=folder)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (1, "reproduces"), again.stderr
    (folder / "mine.py").write_text((folder / "mine.py").read_text().replace("os.abort()", "pass"))
    fixed = run_python(script, cwd=folder)
    assert (fixed.returncode, fixed.stdout.startswith("fixed: ")) == (0, True), fixed.stderr


def test_hang_is_reproduced_with_its_timeout(run_fp4guard, run_python, folder):
    options = ("--isolate", "--max-cases", "30", "--max-time", "30s", "--seed", "1", "--case-timeout", "3s")
    ended = run_fp4guard("fuzz", "mine.py::hangs", *options, cwd=folder)
    assert ended.returncode == 1, ended.stderr
    (script,) = (folder / "repro").glob("hangs-hang-*.py")
    assert "isolated=True,\n        timeout=3.0,\n" in script.read_text()
    again = run_python(script, cwd=folder)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (1, "reproduces"), again.stderr


def test_pytest_survives_a_death(pytester):
    text = TARGETS.read_text().replace("def aborts(", "def test_aborts(").replace("def adds(", "def test_adds(")
    pytester.makepyfile(test_it=text.replace("n % 10 == 7:\n        os.abort()", "n == 1:\n        os.abort()"))
    result = pytester.runpytest_subprocess("--fp4guard-isolate", "--hypothesis-profile=dev")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Crash: the process running the case was ended by SIGABRT*"])
    result.stdout.fnmatch_lines(["python repro/test_aborts-crash-*.py"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--fp4guard-device", "tpu"], "--fp4guard-device: device='tpu': allowed are sim, cuda, hip, auto"),
        (["--fp4guard-case-timeout", "soon"], "--fp4guard-case-timeout: 'soon': allowed are numbers above 0"),
        (["-o", "fp4guard_case_timeout=soon"], "the ini value fp4guard_case_timeout: 'soon': allowed are numbers"),
        (["--fp4guard-case-timeout", "5s"], "--fp4guard-case-timeout: allowed on a GPU and with --fp4guard-isolate"),
        (["--fp4guard", "--fp4guard-device", "cuda"], "--fp4guard-device: 'cuda': --fp4guard emulates a GPU; allowed"),
    ],
)
def test_pytest_refuses_what_is_no_setting(pytester, options, text):
    pytester.makepyfile(test_it=TARGETS.read_text().replace("def adds(", "def test_adds("))
    result = pytester.runpytest_subprocess(*options)
    assert text in result.stderr.str()
    assert "collecting" not in result.stdout.str(), "it is refused before anything is collected"
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(("device", "gpus", "workers"), [("sim", 8, None), ("cuda", 1, 1), ("cuda", 8, 8)])
def test_xdist_gets_a_worker_for_each_gpu(monkeypatch, device, gpus, workers):
    monkeypatch.setattr("fp4guard.gpu.device.count", lambda: gpus)
    monkeypatch.setattr(plugin, "_gpu", lambda config: None if device == "sim" else device)
    assert plugin.pytest_xdist_auto_num_workers(None) == workers
