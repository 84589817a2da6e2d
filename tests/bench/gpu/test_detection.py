"""Defects and who sees them: the simulator in the GPU's place, and a tool of our own in compute-sanitizer's."""

import os
import signal
import textwrap
import time
from pathlib import Path

import pytest
import torch
from fp4guard.included.mqa_logits.launch import gluon_is_there

from fp4guard.bench.gpu import detection, once
from fp4guard.bench.gpu.sanitizer import MEMCHECK, PLAIN, TOOLS, EndedError, NothingRanError, Tool, Watched, run_below
from fp4guard.errors import UsageError
from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.loading import load_target
from fp4guard.fuzzing.setting import SIMULATED
from fp4guard.gpu.device import Gpu
from fp4guard.isolation.request import Request

FAMILY, DEFECT = "gemm_afp4wfp4", "scale-k-unmasked"

MODULE = """
import os, sys, time
from multiprocessing.connection import Client

with Client(sys.argv[1]) as cases:
    while True:
        try:
            case = cases.recv()
        except EOFError:
            break
        print("the case is", case, flush=True)
        if "late" in case and not os.fork():
            while not os.path.exists(os.path.join(os.path.dirname(sys.argv[1]), "now")):
                time.sleep(0.01)
            print("========= Invalid __global__ read of size 1 bytes", flush=True)
            os._exit(0)
        if "reads beyond" in case:
            print("========= Invalid __global__ read of size 1 bytes", flush=True)
            print("=========     at kernel+0x10", flush=True)
        if "dies" in case:
            os._exit(3)
        if "hangs" in case:
            time.sleep(600)
        cases.send("did not run" if "nothing" in case else None)
"""


@pytest.fixture
def sanitizer(tmp_path, monkeypatch):
    """A compute-sanitizer that says its usual words, and leaves the errors to the module below it."""
    script = tmp_path / "bin" / "compute-sanitizer"
    script.parent.mkdir()
    script.write_text(
        textwrap.dedent("""\
        #!/bin/sh
        [ "$1 $2 $7 $8" = "--tool memcheck --destroy-on-device-error kernel" ] || exit 9
        [ "$3 $4 $5 $6" = "--show-backtrace no --print-limit $LIMIT" ] || exit 9
        touch "$TMPDIR/of-the-tool"
        echo "========= COMPUTE-SANITIZER"
        shift 8
        "$@"
        echo "========= ERROR SUMMARY: 0 errors"
        """)
    )
    script.chmod(0o755)
    monkeypatch.setenv("LIMIT", "10000")
    (tmp_path / "module_to_watch.py").write_text(MODULE)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


def test_lines_about_a_case_are_counted(sanitizer):
    watched = Watched(MEMCHECK, "module_to_watch")
    assert [watched.errors(case) for case in ("right", "reads beyond", "right")] == [0, 1, 0]
    first = watched._running.pid
    assert watched.errors("reads beyond, dies") == 1, "what was said before the end counts"
    assert watched.errors("right") == 0
    assert watched._running.pid != first
    with pytest.raises(EndedError, match="memcheck: module_to_watch has ended: the case is dies"):
        watched.errors("dies")
    assert watched.errors("reads beyond") == 1
    with pytest.raises(NothingRanError, match="memcheck: did not run"):
        watched.errors("nothing is launched")
    last, folder = watched._running, Path(watched._folder.name)
    assert (folder / "of-the-tool").exists()
    watched.close()
    assert last.wait(10) == -signal.SIGKILL and not folder.exists()


def test_tool_is_started_anew_before_it_falls_silent(sanitizer, monkeypatch):
    monkeypatch.setattr("fp4guard.bench.gpu.sanitizer._LIMIT", 4)
    watched = Watched(MEMCHECK, "module_to_watch")
    processes = []
    for _ in range(5):
        assert watched.errors("reads beyond") == 1
        processes.append(watched._running.pid)
    assert len(set(processes)) == 2 and processes[2] != processes[3]
    folder = Path(watched._folder.name)
    for _ in range(2):
        assert watched.errors("late") == 0
        told = (folder / "output").stat().st_size
        (folder / "now").touch()
        for _ in range(3000):
            if (folder / "output").stat().st_size > told:
                break
            time.sleep(0.01)
        (folder / "now").unlink()
    assert watched.errors("right") == 0 and watched._running.pid != processes[-1], "what comes late is counted too"
    watched.stop()


def test_case_that_does_not_end_is_refused(sanitizer, monkeypatch):
    monkeypatch.setattr("fp4guard.bench.gpu.sanitizer._PATIENCE_OF_A_CASE", 5)
    watched = Watched(MEMCHECK, "module_to_watch")
    with pytest.raises(UsageError, match="memcheck: a case did not end within 5 s"):
        watched.errors("hangs")
    assert watched.errors("right") == 0
    watched.stop()
    with pytest.raises(UsageError, match=r"(?s)no_such_module does not start: .*No module named no_such_module"):
        Watched(MEMCHECK, "no_such_module").errors("right")


def test_tool_that_is_missing_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="compute-sanitizer is not on the PATH"):
        run_below(MEMCHECK, "this")
    assert run_below(PLAIN, "platform").returncode == 0, "no tool needs none"


def test_tools_differ_in_torch_s_caching():
    assert [tool.name for tool in TOOLS] == ["memcheck", "memcheck, no caching", "initcheck, no caching"]
    assert Tool("memcheck", caching=False).environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
    assert "PYTORCH_NO_CUDA_MEMORY_CACHING" not in MEMCHECK.environment


class Says:
    """A watched tool that reports some of the cases."""

    def __init__(self, about):
        self.about, self.shown = about, []

    def errors(self, shown):
        self.shown.append(shown)
        return int(self.about(shown))


@pytest.fixture
def tools(monkeypatch, simulated_worker):
    """Memcheck sees the defect, without caching it sees one in the right kernel as well, initcheck is blind."""
    about = (lambda shown: shown.defect is not None, lambda shown: True, lambda shown: False)
    says = {tool: Says(of) for tool, of in zip(TOOLS, about, strict=True)}
    monkeypatch.setattr(detection, "_watched", says.__getitem__)
    monkeypatch.setattr(detection, "is_there", lambda: True)
    monkeypatch.setattr(detection, "_GPUS", dict.fromkeys(("cuda", "guard pages"), simulated_worker))
    return says


def test_defect_is_shown_to_every_detector(tools):
    row = detection._show((FAMILY, DEFECT, "sm_90"))
    assert row.seen["sim"].what == "oob-read"
    assert [row.seen[name].what for name in ("cuda", "guard pages")] == ["oob-read"] * 2
    assert [row.seen[tool.name].what for tool in TOOLS] == ["seen", "without it too", None]
    assert {row.seen[name].case for name in ("sim", "cuda", TOOLS[0].name)} == {row.seen["sim"].case}, "the same case"
    assert row.cells()[2:] == ("oob-read", "oob-read", "oob-read", "seen", "without it too", "-")
    summary = detection.TABLE.summary([row]).splitlines()
    assert summary[-1] == "| all | 1 | 1 | 1 | 1 | 0 | 0 |"


def raising(error):
    raise error


def test_right_kernel_may_refuse_the_case(tools):
    tools[TOOLS[1]].about = lambda shown: shown.defect is not None or raising(NothingRanError("did not run"))
    tools[TOOLS[2]].about = lambda shown: raising(NothingRanError(f"{TOOLS[2].name}: did not run"))
    row = detection._show((FAMILY, DEFECT, "sm_90"))
    assert [row.seen[tool.name].what for tool in TOOLS] == ["seen", "seen", "did not run"]
    assert row.seen[TOOLS[2].name].case is None


def test_right_kernel_that_ends_the_process_makes_what_was_said_of_the_wrong_one_worthless(tools):
    tools[TOOLS[0]].about = lambda shown: shown.defect is not None or raising(EndedError("it has ended"))
    row = detection._show((FAMILY, DEFECT, "sm_90"))
    assert row.seen[TOOLS[0].name] == detection.Seen("without it too")


def test_end_of_the_process_is_no_word_of_the_tool(tools):
    tools[TOOLS[1]].about = lambda shown: raising(EndedError("it has ended: no more"))
    row = detection._show((FAMILY, DEFECT, "sm_90"))
    assert row.seen[TOOLS[1].name] == detection.Seen("crash")


def test_defect_that_the_case_does_not_show_is_searched_for(tools, monkeypatch):
    simulate = detection.IsolatedExaminer.examine
    asked = []

    def blind_at_first(examiner, target, case, arch, defect):
        asked.append(case)
        report = simulate(examiner, target, case, arch, defect)
        return report if case != asked[0] else detection.replace(report, findings=())

    monkeypatch.setattr(detection.IsolatedExaminer, "examine", blind_at_first)
    row = detection._show((FAMILY, "nibble-swap", "sm_90"))
    assert row.seen["cuda"].what == "wrong-value (search)"
    assert row.seen["cuda"].case != row.seen["sim"].case
    assert len(tools[TOOLS[2]].shown) == 2, "the blind tool was shown both cases"


@pytest.mark.skipif(not gluon_is_there(), reason="this Triton has no Gluon for gfx950")
def test_defect_for_another_gpu_is_named(tools):
    row = detection._show(("mqa_logits", "scale-column-gluon", "sm_90"))
    assert row.arch == "gfx950"
    assert set(row.cells()[3:]) == {"(gfx950)"}
    assert "0 defects that run on this GPU" in detection.TABLE.summary([row])


def test_case_is_run_once_and_the_oracle_is_not_asked(simulated_device, monkeypatch, capsys):
    monkeypatch.setattr(once, "current_gpu", lambda: Gpu(torch.device("cpu"), "sm_90"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    arguments = {"m": 3, "n": 5, "k": 64, "config": "BM32_BN32_BK128", "dtype": "bf16"}
    target = load_target(f"kernels.{FAMILY}::{FAMILY}")
    for defect in (None, DEFECT):
        before = simulated_device.launches
        why = once.run(Request.of(target, Case(arguments), None, defect, SIMULATED))
        assert simulated_device.launches > before
        assert why is None
    why = once.run(Request.of(target, Case(arguments | {"config": "none"}), None, None, SIMULATED))
    assert why == "did not run, KeyError"
    assert "KeyError: 'none'" in capsys.readouterr().err


def test_rows_are_told_in_order():
    names = [("b", "x"), ("a", "z"), ("a", "y")]
    told = detection.TABLE.together([detection.Measured(*name, None, {}) for name in names])
    assert [(row.target, row.defect) for row in told] == sorted(names)
