import ast
import os
import stat

import pytest
import torch
import triton
from hypothesis import strategies as st

import fp4guard as fg
from fp4guard.checks import Finding
from fp4guard.fuzzing.examine import Report
from fp4guard.report.reproducer import command, script_name, write_reproducer

GEMM = "kernels.gemm_afp4wfp4::gemm_afp4wfp4"
CASE = {"m": 5, "n": 7, "k": 160, "config": "BM4_BN16_BK128", "dtype": "fp32"}
NASTY = 'quote " quotes """ \'\'\'; backslash \\ \\n \\N{nothing} $case ${x}; \ud800 \x00 \x07 é \u202e end "'


@fg.fuzz(m=fg.dims(), text=st.just("a"))
def sample(mem, m, text):
    raise ValueError(text)


@pytest.fixture(scope="module")
def planted():
    return fg.examine(GEMM, defect="scale-k-unmasked", seed=9, arch="gfx950", **CASE)


def made(message="...", kind="crash", target=sample, **arguments):
    case = fg.Case({"m": 1, "text": "a", **arguments})
    return Report(target, case, "sm_90", (Finding(kind, message),), 2)


def test_script_tells_everything(planted, tmp_path):
    text = write_reproducer(planted, tmp_path).read_text()
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring.startswith("OutOfBoundsRead: ")
    assert all(finding.message.splitlines()[0] in docstring for finding in planted.findings)
    assert "device sim, arch gfx950, data seed 9, with Python " in docstring
    assert f"torch {torch.__version__}" in docstring
    assert f"triton {triton.__version__}" in docstring
    assert "Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here." in docstring
    assert f"case = {planted.case!r}" in text
    assert "kind='oob-read'" in text
    assert f"offset={planted.findings[0].offset}," in text
    assert "arch='gfx950'" in text
    assert "defect='scale-k-unmasked'" in text
    assert f"target='{GEMM}'" in text


def test_same_report_gives_the_same_bytes(planted, tmp_path):
    one, other = (write_reproducer(planted, tmp_path / name) for name in ("a", "b"))
    assert one.name == other.name == script_name(planted)
    assert one.read_bytes() == other.read_bytes()
    again = fg.examine(GEMM, defect="scale-k-unmasked", seed=9, arch="gfx950", **CASE)
    assert write_reproducer(again, tmp_path / "a").read_bytes() == other.read_bytes()


def test_name_is_target_kind_and_case(planted):
    assert script_name(planted) == f"gemm_afp4wfp4-oob-read-{planted.case.digest('gfx950', 'scale-k-unmasked')}.py"
    names = [made(), made(m=2), made(kind="hang"), made(text="b"), planted]
    assert len({script_name(report) for report in names}) == 5


def test_targets_of_one_name_in_different_files_have_scripts_of_their_own(tmp_path):
    scope = {"fg": fg}
    source = "@fg.fuzz(m=fg.dims(), text=['a'])\ndef sample(mem, m, text): pass\n"
    exec(compile(source, str(tmp_path / "elsewhere.py"), "exec"), scope)
    assert script_name(made()) != script_name(made(target=scope["sample"]))


def test_file_is_replaced_whole_and_nothing_else_is_left(planted, tmp_path):
    path = tmp_path / script_name(planted)
    path.write_text("old")
    assert write_reproducer(planted, tmp_path) == path
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() != "old"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_folder_that_cannot_be_written_is_an_error(planted, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(fg.UsageError, match=r"cannot write .*file/gemm_afp4wfp4-oob-read-.*: "):
        write_reproducer(planted, tmp_path / "file")


def test_messages_survive_whatever_they_hold(tmp_path):
    report = made(NASTY, text=NASTY)
    text = write_reproducer(report, tmp_path).read_text()
    docstring = ast.literal_eval(ast.parse(text).body[0].value)
    assert docstring.startswith(f"Crash: {NASTY}\n")
    scope = {"Case": fg.Case}
    (assignment,) = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assign))
    assert eval(ast.unparse(assignment.value), scope) == report.case


def test_script_replays_in_a_process_of_its_own(tmp_path, run_python):
    path = write_reproducer(fg.examine(sample, m=1, text='a "quoted" \\ text'), tmp_path / "a folder" / 'with "quotes"')
    done = run_python(path, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert 'ValueError: a "quoted" \\ text\n' in done.stdout
    assert done.stdout.endswith("\nreproduces\n")


def test_command_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(tmp_path / "repro" / "a-b.py") == "python repro/a-b.py"
    assert command(tmp_path / "a folder" / "b.py") == "python 'a folder/b.py'"
    assert command(tmp_path.parent / "b.py") == f"python {tmp_path.parent / 'b.py'}"
