"""The command line."""

import json
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from click.testing import CliRunner

from fp4guard.cli import main
from fp4guard.fuzzing import selftest as selftest_module
from fp4guard.fuzzing.selftest import ControlRow, DefectRow, Selftest

GEMM = "kernels.gemm_afp4wfp4::gemm_afp4wfp4"

#: What a user writes by the recipe in the package's docstring.
SCRATCH = """
    import torch
    import triton
    import triton.language as tl

    import fp4guard as fg
    from fp4guard import dims, oracle

    @triton.jit
    def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(out + i, tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n))

    @triton.jit
    def matmul_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
        m = tl.program_id(0) * BM + tl.arange(0, BM)
        n = tl.program_id(1) * BN + tl.arange(0, BN)
        acc = tl.zeros((BM, BN), tl.float32)
        for start in range(0, K, BK):
            k = start + tl.arange(0, BK)
            left = tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
            right = tl.load(b + n[None, :] * K + k[:, None], mask=(n[None, :] < N) & (k[:, None] < K), other=0.0)
            acc = tl.dot(left, right, acc)
        tl.store(c + m[:, None] * N + n[None, :], acc.to(tl.float16), mask=(m[:, None] < M) & (n[None, :] < N))

    @fg.fuzz(n=dims(tile=64))
    def test_add(mem, n):
        x, y = mem.tensor("x", (n,), torch.float32), mem.tensor("y", (n,), torch.float32)
        out = mem.output("out", (n,), torch.float32)
        add_kernel[(triton.cdiv(n, 64),)](x, y, out, n, BLOCK=64)
        mem.expect(out, x.double() + y.double())

    @fg.fuzz(m=dims(tile=16), n=dims(tile=16), k=dims(tile=32))
    def test_matmul(mem, m, n, k):
        a, b = mem.tensor("a", (m, k), torch.float16), mem.tensor("b", (n, k), torch.float16)
        out = mem.output("out", (m, n), torch.float16)
        matmul_kernel[(triton.cdiv(m, 16), triton.cdiv(n, 16))](a, b, out, m, n, k, BM=16, BN=16, BK=32)
        mem.expect(out, oracle.gemm(a, b))
"""

PLAIN = """
    import fp4guard as fg

    @fg.fuzz(n=fg.dims())
    def clean(mem, n):
        pass

    @fg.fuzz(n=fg.dims())
    def broken(mem, n):
        assert n < 10

    @fg.fuzz(n=fg.dims())
    def unsupported(mem, n):
        raise fg.UnsupportedError("tt.nothing")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder outside of the project, with the files of a user."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch.py").write_text(textwrap.dedent(SCRATCH))
    (tmp_path / "plain.py").write_text(textwrap.dedent(PLAIN))
    return tmp_path


@pytest.fixture
def fp4guard(folder):
    """Run a command in this process and check its exit status; its result has `stdout` and `stderr`."""

    def run(*arguments, status):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == status, result.output
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        return result

    return run


def test_kernel_without_its_mask_is_found_in_a_scratch_file(fp4guard, folder, run_python):
    result = fp4guard("fuzz", "scratch.py::test_add", "--seed", 1, "--json", "out/summary.json", status=1)
    assert "OutOfBoundsWrite: 63 lanes write `out` beyond its end" in result.stdout
    assert re.search(r"scratch\.py:12:\d+   tl\.store\(out \+ i, ", result.stdout)
    assert "case    n=1 regime=exact layout=0 seed=0" in result.stdout
    (script,) = (folder / "repro").iterdir()
    assert f"repro   python repro/{script.name}\n" in result.stdout
    assert re.search(r"^1 finding in \d+ cases?, \d+ s$", result.stdout, re.M)
    assert run_python(script, cwd=folder).returncode == 1
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert (summary["findings"], summary["interrupted"]) == (1, False)
    (search,) = summary["targets"]
    assert (search["target"], search["complete"], search["error"]) == ("scratch.py::test_add", True, None)
    (finding,) = search["findings"]
    assert (finding["kind"], finding["tensor"], finding["offset"]) == ("oob-write", "out", 4)
    assert finding["repro"] == f"repro/{script.name}"


def test_correct_matmul_in_a_scratch_file_is_clean(fp4guard, folder):
    result = fp4guard("fuzz", "scratch.py::test_matmul", "--max-cases", 60, "--seed", 1, status=0)
    assert "scratch.py::test_matmul: 60 cases\n" in result.stdout
    assert re.search(r"^nothing found in 60 cases, \d+ s$", result.stdout, re.M)
    assert not (folder / "repro").exists()


def test_every_target_of_a_file_is_fuzzed_whatever_becomes_of_another(fp4guard, folder):
    result = fp4guard("fuzz", "plain.py", "--max-cases", 40, "--repro-dir", "elsewhere", "--json", "s.json", status=2)
    assert "fuzzing 3 targets on the simulator, no time limit\n" in result.stdout
    assert "plain.py::clean: 40 cases\n" in result.stdout
    assert "Crash: AssertionError" in result.stdout
    assert "fp4guard: not supported by fp4guard: tt.nothing\n" in result.stderr
    assert "Traceback" not in result.output
    assert [path.name.split("-")[0] for path in (folder / "elsewhere").iterdir()] == ["broken"]
    errors = [search["error"] for search in json.loads((folder / "s.json").read_text())["targets"]]
    assert errors == [None, None, "not supported by fp4guard: tt.nothing"]


def test_failure_of_the_harness_is_no_finding(fp4guard, folder):
    (folder / "wrong.py").write_text("import fp4guard as fg\n@fg.fuzz()\ndef f(mem): mem._layout('x', 3)\n")
    result = fp4guard("fuzz", "wrong.py", status=2)
    assert "wrong.py" in result.stderr
    assert "fp4guard: the harness failed" in result.stderr


def test_wrong_use_of_the_oracle_is_told_with_its_line_and_the_case(fp4guard, folder):
    (folder / "wrong.py").write_text("import fp4guard as fg\n@fg.fuzz()\ndef f(mem): fg.oracle.gemm(1, 2)\n")
    result = fp4guard("fuzz", "wrong.py", status=2)
    first, place, case = result.stderr.splitlines()
    assert first.startswith("fp4guard: b: int; allowed are")
    assert place.endswith("wrong.py:3   def f(mem): fg.oracle.gemm(1, 2)")
    assert case == "  case: regime=exact layout=0 seed=0"


def test_unexpected_failure_of_a_command_is_no_finding(fp4guard, monkeypatch):
    monkeypatch.setattr("fp4guard.fuzzing.listing.included_kernels", lambda: 1 / 0)
    assert "ZeroDivisionError" in fp4guard("list", status=2).stderr


def test_every_target_gets_a_case_however_short_the_time(fp4guard):
    result = fp4guard("fuzz", "plain.py::clean", "--max-time", "0.000001s", status=0)
    assert "nothing found in 1 case," in result.stdout


@pytest.mark.parametrize(("profile", "cases"), [("dev", 100), ("pr", 300)])
def test_profile_says_how_many_cases(fp4guard, profile, cases):
    result = fp4guard("fuzz", "plain.py::clean", "--profile", profile, status=0)
    assert f"plain.py::clean: {cases} cases" in result.stdout
    assert "no time limit" in result.stdout


def test_time_is_limited_where_nothing_is_asked_for(fp4guard, monkeypatch):
    monkeypatch.setattr("fp4guard.cli._DEFAULT_SECONDS", 0.5)
    assert "on the simulator, 0.5 s" in fp4guard("fuzz", "plain.py::clean", status=0).stdout


def test_same_seed_finds_the_same(fp4guard, folder):
    arguments = ("fuzz", "plain.py::broken", "--max-cases", 50, "--seed", 5)
    one, other = (re.sub(r", \d+ s", "", fp4guard(*arguments, status=1).stdout) for _ in range(2))
    assert one == other


def test_planted_defect_is_fuzzed(fp4guard, folder):
    arguments = ("--defect", "a-mask-units", "--max-cases", 50, "--seed", 0, "--arch", "gfx950")
    result = fp4guard("fuzz", GEMM, *arguments, status=1)
    assert "WrongValue: `out` is not what it has to be" in result.stdout
    (script,) = (folder / "repro").iterdir()
    assert "defect='a-mask-units'" in script.read_text()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("fuzz", "no_such.py"), "fp4guard: TARGET='no_such.py': there is no such file"),
        (("fuzz", "plain.py::no"), "fp4guard: plain.py::no: no target called 'no' in plain.py; its targets: clean, "),
        (("fuzz", "kernels.no"), "fp4guard: TARGET='kernels.no': "),
        (("fuzz", "syntax.py"), "SyntaxError"),
        (("fuzz", "plain.py", "--arch", "h100"), "fp4guard: arch='h100': allowed are sm_<n> and gfx<n>"),
        (("fuzz", "plain.py::clean", "--defect", "no"), "fp4guard: defect='no': clean has none"),
        (("fuzz", GEMM, "--defect", "no"), "fp4guard: defect='no': gemm_afp4wfp4 has scale-k-unmasked, "),
        (("fuzz", "--max-time", "0s"), "'0s': allowed are numbers above 0 with s, m or h, such as 60s, 5m, 2h"),
        (("fuzz", "--max-time", "soon"), "'soon': allowed are numbers above 0"),
        (("fuzz", "--max-cases", "0"), "--max-cases"),
        (("fuzz", "--seed", "-1"), "--seed"),
        (("fuzz", "--profile", "no"), "--profile"),
        (("fuzz", "--device", "tpu"), "--device"),
        (("fuzz", "--case-timeout", "0s"), "'0s': allowed are numbers above 0"),
        (("fuzz", "plain.py", "--case-timeout", "5s"), "--case-timeout: allowed on a GPU and with --isolate"),
        (("fuzz", "--defect", "no"), "fp4guard: --defect 'no': no kernel has it"),
        (("fuzz", "--defect", "weights-row"), "'weights-row': it needs a TARGET: kernels.mqa_logits"),
        (("fuzz", "plain.py", "--guard-pages"), "guard_pages=True: allowed on device 'cuda' alone, and this is 'sim'"),
        (("fuzz", "--json", "."), "--json"),
        (("fuzz", "--repro-dir", "plain.py"), "--repro-dir"),
        (("fuzz", "plain.py::clean", "--max-cases", "1", "--json", "plain.py/x"), "cannot write plain.py/x: "),
        (("fuzz", "plain.py::broken", "--max-cases", "99", "--repro-dir", "plain.py/x"), "cannot write plain.py/x/"),
        (("defects", "--id", "no"), "fp4guard: --id 'no': allowed are "),
        (("defects", "--target", "no"), "fp4guard: --target 'no': allowed are cast_transpose_mxfp4, gemm"),
        (("defects", "--arch", "h100"), "fp4guard: arch='h100'"),
        (("no-such-command",), "No such command"),
    ],
)  # fmt: skip
def test_wrong_use_is_told_without_a_traceback(fp4guard, folder, arguments, text):
    (folder / "syntax.py").write_text("x = (")
    result = fp4guard(*arguments, status=2)
    assert text in result.stderr
    assert "Traceback" not in result.output


def test_list_tells_targets_defects_and_configurations(fp4guard):
    listed = json.loads(fp4guard("list", "--json", status=0).stdout)["targets"]
    gemm = next(row for row in listed if row["target"] == GEMM)
    assert gemm["arguments"] == ["m", "n", "k", "config", "dtype"]
    assert "BM32_BN32_BK128" in gemm["configurations"]
    assert {"id", "kinds", "provenance", "summary"} == set(gemm["defects"][0])
    assert "scale-k-unmasked" in [defect["id"] for defect in gemm["defects"]]
    assert "wrapped-loads" in [control["id"] for control in gemm["controls"]]
    text = fp4guard("list", status=0).stdout
    assert all(word in text for word in (GEMM, "scale-k-unmasked", "BM32_BN32_BK128", "wrapped-loads"))


def test_defects_as_json_has_its_schema_and_nothing_else(fp4guard):
    arguments = ("--id", "a-mask-units", "--id", "wrapped-loads", "--max-cases", 30, "--target", "gemm_afp4wfp4")
    result = fp4guard("defects", *arguments, "--json", status=0)
    told = json.loads(result.stdout)
    assert list(told) == ["defects", "controls"]
    (defect,), (control,) = told["defects"], told["controls"]
    assert list(defect) == ["id", "target", "found", "kind", "cases", "seconds"]
    assert (defect["id"], defect["target"], defect["found"]) == ("a-mask-units", "gemm_afp4wfp4", True)
    assert list(control) == ["id", "target", "clean", "cases"]
    assert (control["id"], control["clean"]) == ("wrapped-loads", True)
    assert "all 2 as they must be" in result.stderr


def test_defects_as_markdown_are_tables_and_nothing_else(fp4guard):
    arguments = ("--id", "a-mask-units", "--id", "wrapped-loads", "--max-cases", 30, "--target", "gemm_afp4wfp4")
    result = fp4guard("defects", *arguments, "--markdown", status=0)
    assert re.search(
        r"^\| gemm_afp4wfp4 \| `a-mask-units` \| AITER [^|]* \| `wrong-value` \| \d+ \|$", result.stdout, re.M
    )
    assert re.search(r"^\| gemm_afp4wfp4 \| `wrapped-loads` \| nothing \| \d+ \|$", result.stdout, re.M)
    assert re.search(r"^1 defect, median \d+ cases, most \d+\.$", result.stdout, re.M)
    assert "all 2 as they must be" in result.stderr


@pytest.fixture
def rows(monkeypatch):
    """Let `fp4guard defects` come to these rows."""

    def come_to(*made):
        def run(self, *_):
            for row in made:
                if row is KeyboardInterrupt:
                    raise row
                self.rows.append(row)
                yield row

        monkeypatch.setattr(Selftest, "run", run)
        monkeypatch.setattr(Selftest, "passed", property(lambda self: all(row.passed for row in self.rows)))

    return come_to


FOUND = DefectRow("d", "t", True, "race", 7, 1.5)
MISSED = DefectRow("d", "t", False, None, 300, 1.5)
CLEAN = ControlRow("c", "t", True, 5)


def test_defects_told_to_a_person(fp4guard, rows):
    rows(FOUND, MISSED, CLEAN, ControlRow("c", "t", False, 5), ControlRow("c", "t", True, 0))
    assert fp4guard("defects", status=1).stdout.splitlines() == [
        "t  d: found as race, case 7, 1.5 s",
        "t  d: NOT FOUND",
        "t  c: clean in 5 cases that exercise it",
        "t  c: FALSE ALARM",
        "t  c: NEVER EXERCISED",
        "",
        "3 of 5 failed",
    ]


@pytest.mark.parametrize(("row", "status"), [(FOUND, 0), (CLEAN, 0), (MISSED, 1), (ControlRow("c", "t", True, 0), 1)])
def test_defects_succeeds_only_if_all_are_as_they_must_be(fp4guard, rows, row, status):
    rows(FOUND, row, CLEAN)
    fp4guard("defects", status=status)
    fp4guard("defects", "--json", status=status)


@pytest.mark.parametrize("option", ["--json", "--repro-dir"])
def test_what_cannot_be_written_is_told_before_anything_is_fuzzed(fp4guard, option):
    result = fp4guard("fuzz", "scratch.py", option, "plain.py/x", status=2)
    assert "plain.py is no folder" in result.stderr
    assert result.stdout == ""


def test_interrupted_defects_tell_what_was_done(fp4guard, rows):
    rows(FOUND, KeyboardInterrupt, CLEAN)
    assert "interrupted: all 1 as they must be" in fp4guard("defects", status=130).stdout
    result = fp4guard("defects", "--json", status=130)
    assert [row["id"] for row in json.loads(result.stdout)["defects"]] == ["d"]
    assert "interrupted" in result.stderr


def interrupt(command, started, cwd):
    """Start a command, send it what Ctrl-C sends once the file `started` exists, and wait for its end."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while not started.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in stdout + stderr
    return process.returncode, stdout, stderr


def test_control_c_ends_fuzzing_with_a_summary(folder):
    (folder / "endless.py").write_text(
        textwrap.dedent("""
        from pathlib import Path
        import fp4guard as fg

        calls = []

        @fg.fuzz(n=fg.dims())
        def endless(mem, n):
            calls.append(n)
            if len(calls) == 100:
                Path("started").touch()
    """)
    )
    command = ["-m", "fp4guard.cli", "fuzz", "endless.py", "--max-time", "1h", "--json", "summary.json"]
    status, stdout, _ = interrupt(command, folder / "started", folder)
    assert status == 130
    assert re.search(r"^interrupted: nothing found in \d+ cases, \d+ s$", stdout, re.M)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["interrupted"]
    assert summary["cases"] >= 50
    assert not summary["targets"][0]["complete"]


def test_control_c_ends_defects_with_a_summary(folder):
    code = f"""
        from pathlib import Path
        from {selftest_module.__name__} import Searcher
        from fp4guard.cli import main
        run = Searcher.run
        def noting(self):
            Path("started").touch()
            return run(self)
        Searcher.run = noting
        main(["defects", "--id", "wrapped-loads", "--max-cases", "1000000", "--json"])
    """
    status, stdout, stderr = interrupt(["-c", textwrap.dedent(code)], folder / "started", folder)
    assert status == 130
    assert json.loads(stdout) == {"defects": [], "controls": []}
    assert "interrupted: all 0 as they must be" in stderr


def test_error_that_an_interrupt_leads_to_costs_no_summary(folder):
    code = f"""
        import time
        from pathlib import Path
        from {selftest_module.__name__} import Searcher
        from fp4guard.cli import main
        def failing(self):
            Path("started").touch()
            try:
                time.sleep(60)
            finally:
                raise AssertionError("it has not begun")
        Searcher.run = failing
        main(["defects", "--id", "wrapped-loads", "--json"])
    """
    status, stdout, _ = interrupt(["-c", textwrap.dedent(code)], folder / "started", folder)
    assert (status, json.loads(stdout)) == (130, {"defects": [], "controls": []})


def test_help_needs_no_heavy_import(run_python, folder):
    code = """
        import sys
        from fp4guard.cli import main
        main(["fuzz", "--help"], standalone_mode=False)
        assert not {"torch", "triton", "numpy", "hypothesis", "rich"} & set(sys.modules)
    """
    done = run_python("-c", textwrap.dedent(code), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Exit status: 0 nothing found" in " ".join(done.stdout.split())
