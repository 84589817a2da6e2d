"""Workers that die, and their client, which does not."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis.errors import UnsatisfiedAssumption

from fp4guard.errors import UsageError
from fp4guard.fuzzing.campaign import Budget, Options, Searcher
from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.loading import load_target
from fp4guard.fuzzing.profiles import PROFILES
from fp4guard.fuzzing.setting import Setting
from fp4guard.interrupts import interruptible
from fp4guard.isolation import IsolatedExaminer
from fp4guard.isolation.processes import HarnessError
from fp4guard.isolation.server import REAP, START

ENDS = {
    "faults": ("crash", "was ended by SIGSEGV"),
    "aborts": ("crash", "was ended by SIGABRT"),
    "exits": ("crash", "ended itself, exit status 3"),
    "is_killed": ("crash", "was ended by SIGKILL"),
    "hangs": ("hang", "did not end within 3 s"),
}

#: Seconds for a case: a right one has to come in time on a busy machine too, and one that hangs is waited for as long.
PATIENCE = 3


def target(name):
    return load_target(f"{Path(__file__).with_name('targets.py')}::{name}")


@pytest.fixture(scope="module")
def examiner():
    with IsolatedExaminer(Setting(isolated=True, timeout=PATIENCE)) as examiner:
        yield examiner


def run(examiner, name, n):
    return examiner.examine(target(name), Case({"n": n}), None, None)


def test_right_target_has_the_report_that_it_has_without_a_process(examiner, capfd):
    report = run(examiner, "adds", 70)
    assert (report.findings, report.arch, report.runs) == ((), "sm_90", 2)
    assert len(report.coverage.masks()) == 2, "coverage comes along"
    assert capfd.readouterr().out.count("[adding to 70]") == 2, "so does what the target prints"


@pytest.mark.parametrize(("name", "kind", "how"), [(name, *end) for name, end in ENDS.items()])
def test_death_is_a_finding_and_the_next_case_has_a_worker(examiner, line_in_targets, name, kind, how):
    before = examiner._processes.started
    report = run(examiner, name, 17)
    (finding,) = report.findings
    assert (finding.kind, how in finding.headline, report.lost) == (kind, True, True), finding.headline
    if name not in ("exits", "is_killed"):  # which leave no trace of where they were
        assert Path(finding.file).name == "targets.py"
        assert finding.line == line_in_targets(name)
    right = run(examiner, name, 18)
    assert (right.findings, right.lost) == ((), False)
    assert examiner._processes.started <= before + 2


@pytest.fixture
def line_in_targets():
    lines = Path(__file__).with_name("targets.py").read_text().splitlines()
    blamed = {"faults": "ctypes.string_at(0)", "aborts": "os.abort()", "hangs": "time.sleep(0.01)"}
    return lambda name: 1 + next(i for i, line in enumerate(lines) if line.strip() == blamed[name])


def test_assumption_misuse_and_harness_failure_reach_the_caller(examiner):
    with pytest.raises(UnsatisfiedAssumption):
        run(examiner, "adds", 3)
    with pytest.raises(UsageError, match=r"mem.tensor\('x', dtype=torch.complex64\): allowed are"):
        run(examiner, "is_misused", 5)
    with pytest.raises(HarnessError, match="Traceback"):
        run(examiner, "breaks_the_harness", 5)
    with pytest.raises(pytest.skip.Exception, match="not today"):
        run(examiner, "is_skipped", 5)
    assert run(examiner, "adds", 5).findings == ()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_worker_is_left_of_a_gpu_that_does_not_start():
    with IsolatedExaminer(Setting("cuda")) as examiner:
        for _ in range(2):
            with pytest.raises(UsageError, match="no GPU is here"):
                _ = examiner.arch
            assert examiner._worker is None


def test_worker_that_dies_between_two_cases_costs_none(examiner):
    run(examiner, "adds", 5)
    before = examiner._worker.number
    os.kill(before, signal.SIGKILL)
    assert run(examiner, "adds", 6).findings == ()
    assert examiner._worker.number != before


def test_death_is_seen_and_no_process_left_where_the_target_has_forked(examiner):
    """The fork has the worker's connection too, and keeps it open."""
    (finding,) = run(examiner, "leaves_a_process", 17).findings
    assert "ended itself, exit status 4" in finding.headline
    (number,) = re.findall(r"\[left (\d+)\]", dict(finding.rows)["output"])
    for _ in range(100):
        if not _runs(number):
            break
        time.sleep(0.05)
    assert not _runs(number)


def test_what_is_raised_and_is_no_finding_is_told(examiner):
    (finding,) = run(examiner, "interrupts_itself", 5).findings
    assert "ended itself, exit status 70" in finding.headline
    assert "KeyboardInterrupt: by itself" in dict(finding.rows)["output"]


def test_next_case_has_the_folder_that_the_client_is_in(examiner, tmp_path, monkeypatch):
    shutil.copy(Path(__file__).with_name("targets.py"), tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)
    one = load_target("mine.py::changes_what_is_the_process_s")
    assert examiner.examine(one, Case({"n": 5}), None, None).findings == ()
    assert examiner.examine(one, Case({"n": 5}), None, None).findings == ()


def test_modules_of_the_folder_at_hand_are_not_mistaken_for_python_s(tmp_path, monkeypatch):
    (tmp_path / "socket.py").write_text("raise ImportError('this is not what Python has')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    with IsolatedExaminer(Setting(isolated=True)) as examiner:
        assert run(examiner, "adds", 5).findings == ()


SLEEPS = """
import os, time
import torch
import fp4guard as fg

if os.getpid() != {client}:
    print("loading", flush=True)
    {wait}

@fg.fuzz(n=fg.dims())
def sleeps(mem, n):
    mem.output("out", (1,), torch.float32).fill_(n)
"""


@pytest.fixture
def slow_to_load(tmp_path):
    def written(wait):
        """A target that a worker waits for: for seconds, or as a statement says."""
        file = tmp_path / "sleeps.py"
        wait = wait if isinstance(wait, str) else f"time.sleep({wait})"
        file.write_text(SLEEPS.format(client=os.getpid(), wait=wait))
        return load_target(f"{file}::sleeps")

    return written


def test_time_to_load_the_target_is_not_the_case_s(slow_to_load):
    with IsolatedExaminer(Setting(isolated=True, timeout=PATIENCE)) as examiner:
        assert examiner.examine(slow_to_load(PATIENCE + 0.5), Case({"n": 1}), None, None).findings == ()


def test_target_that_does_not_load_is_no_finding(slow_to_load, monkeypatch):
    with IsolatedExaminer(Setting(isolated=True, timeout=PATIENCE)) as examiner:
        monkeypatch.setattr("fp4guard.isolation.request.PATIENCE", PATIENCE)
        slow = slow_to_load(600)
        told = r"sleeps.py::sleeps: the process that loads it has not done it within 3 s, at .*/sleeps.py:8\n  loading"
        with pytest.raises(UsageError, match=told):
            examiner.examine(slow, Case({"n": 1}), None, None)
        started = examiner._processes.started
        with pytest.raises(UsageError, match=told):
            examiner.examine(slow, Case({"n": 2}), None, None)
        assert examiner._processes.started == started, "it is not tried again"
        monkeypatch.undo()
        assert run(examiner, "adds", 5).findings == ()


def test_death_in_loading_is_no_finding(slow_to_load):
    with IsolatedExaminer(Setting(isolated=True)) as examiner:
        run(examiner, "adds", 5)
        with pytest.raises(UsageError, match=r"the process that loads it ended itself, exit status 9\n  loading"):
            examiner.examine(slow_to_load("os._exit(9)"), Case({"n": 1}), None, None)
        assert run(examiner, "adds", 5).findings == ()


def test_answer_that_is_owed_is_no_other_case_s():
    with IsolatedExaminer(Setting(isolated=True)) as examiner:
        run(examiner, "adds", 5)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt), interruptible():
            run(examiner, "takes_its_time_and_is_wrong", 5)
        assert run(examiner, "adds", 5).findings == ()


@pytest.mark.parametrize("command", [START, REAP])
def test_answer_to_an_interrupted_command_is_not_the_next_one_s(monkeypatch, command):
    with IsolatedExaminer(Setting(isolated=True)) as examiner:
        run(examiner, "adds", 5)
        send = socket.send_fds

        def interrupted(control, messages, descriptors):
            send(control, messages, descriptors)
            if messages[0].startswith(command):
                monkeypatch.undo()
                raise KeyboardInterrupt

        monkeypatch.setattr("fp4guard.isolation.processes.socket.send_fds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(examiner, "aborts", 7)
            run(examiner, "adds", 5)
        for name in ("adds", "aborts", "adds"):
            assert len(run(examiner, name, 17).findings) == (name == "aborts")


def test_time_out_may_be_longer_than_the_system_waits():
    with IsolatedExaminer(Setting(isolated=True, timeout=1e9)) as examiner:
        assert run(examiner, "adds", 5).findings == ()


def test_interrupted_case_is_not_waited_for(monkeypatch):
    with IsolatedExaminer(Setting(isolated=True)) as examiner:
        run(examiner, "hangs", 5)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt), interruptible():
            run(examiner, "hangs", 7)
        worker = examiner._worker.number
        monkeypatch.setattr(
            "fp4guard.isolation.processes._gone", lambda number, seconds: pytest.fail("it is waited for")
        )
        examiner.close()
        assert not _runs(worker)


def test_server_that_is_killed_is_replaced():
    with IsolatedExaminer(Setting(isolated=True)) as examiner:
        run(examiner, "adds", 5)
        worker = examiner._worker.number
        os.kill(examiner._processes._server.pid, signal.SIGKILL)
        examiner._processes._server.wait()
        while _runs(worker):
            time.sleep(0.01)
        # Its workers have gone with it: the case that is asked for next is lost, and says why.
        with pytest.raises(HarnessError, match="the server of worker processes has ended"):
            run(examiner, "adds", 5)
        assert run(examiner, "adds", 5).findings == ()


@pytest.mark.parametrize("name", ENDS)
def test_search_survives_and_shrinks_the_death(name):
    """200 cases, of which one in ten ends its worker: all are tried, and the smallest that does is told."""
    tried = []
    with IsolatedExaminer(Setting(isolated=True, timeout=PATIENCE if name == "hangs" else 60)) as examiner:

        def examine(one, case, arch, defect):
            report = examiner.examine(one, case, arch, defect)
            tried.append((case.arguments["n"], bool(report.findings)))
            return report

        # Each n once, so that hypothesis cannot repeat itself: what survives is the run, not the luck of the draw.
        for n in range(1, 31 if name == "hangs" else 201):
            examine(target(name), Case({"n": n}), None, None)
        assert [n for n, found in tried if found] == [n for n, _ in tried if n % 10 == 7]
        if name != "hangs":
            options = Options(PROFILES["dev"], None, seed=1, examine=examine)
            (report,) = Searcher(target(name), options, Budget(cases=100)).run().found
            assert report.case.arguments["n"] in (7, 17)
            assert report.findings[0].kind == "crash"


def test_nothing_is_left_behind():
    with IsolatedExaminer(Setting(isolated=True)) as examiner:
        run(examiner, "adds", 5)
        run(examiner, "faults", 7)
        run(examiner, "leaves_a_file", 7)
        run(examiner, "leaves_a_file", 5)
        processes = [examiner._processes._server.pid, examiner._worker.number]
        folder = Path(examiner._processes._folder.name)
        assert len(list(folder.glob("left-by-a-worker-*"))) == 1
    assert not folder.exists()
    assert not any(Path(f"/proc/{number}").exists() for number in processes)


def test_nothing_outlives_a_client_that_is_killed(tmp_path):
    script = textwrap.dedent(f"""
        import os, signal
        from fp4guard.fuzzing.case import Case
        from fp4guard.fuzzing.loading import load_target
        from fp4guard.fuzzing.setting import Setting
        from fp4guard.isolation import IsolatedExaminer

        examiner = IsolatedExaminer(Setting(isolated=True))
        adds = load_target({str(Path(__file__).with_name("targets.py"))!r} + "::adds")
        examiner.examine(adds, Case({{"n": 5}}), None, None)
        processes = examiner._processes
        print("left", processes._server.pid, examiner._worker.number, processes._folder.name, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    # To a file: a pipe would stay open as long as the processes that this is about.
    output = tmp_path / "output"
    with output.open("w") as file:
        status = subprocess.run([sys.executable, "-c", script], stdout=file, stderr=file, timeout=120, check=False)
    assert status.returncode == -signal.SIGKILL, output.read_text()
    *numbers, folder = output.read_text().split("left ")[1].split()[:3]
    for _ in range(400):
        if not any(map(_runs, numbers)):
            break
        time.sleep(0.05)
    assert not any(map(_runs, numbers))
    assert not Path(folder).exists()


def _runs(number):
    try:
        return ") Z" not in Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False
