import sys
import textwrap

import pytest

import fp4guard as fg
from fp4guard import included
from fp4guard.fuzzing.loading import (
    controls_of,
    defects_of,
    family_of,
    included_targets,
    load_target,
    load_targets,
    spec_of,
)

TWO = """
    import fp4guard as fg

    @fg.fuzz(m=fg.dims())
    def first(mem, m):
        pass

    @fg.fuzz()
    def second(mem):
        pass

    def helper():
        pass
"""

GEMM = "kernels.gemm_afp4wfp4"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder outside of the project to stand in; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(path, text=TWO):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def names(spec):
    return [target.name for target in load_targets(spec)]


def test_file_outside_of_the_project(folder):
    path = write(folder / "mine.py")
    for spec in ("mine.py", str(path), "./mine.py"):
        assert names(spec) == ["first", "second"]
        assert names(f"{spec}::second") == ["second"]
    assert load_target("mine.py::first") is load_target(f"{path}::first")


def test_module(folder):
    write(folder / "some_module_of_mine.py")
    assert names("some_module_of_mine") == ["first", "second"]
    assert names("some_module_of_mine::second") == ["second"]


def test_file_may_import_its_neighbours(folder):
    write(folder / "sub" / "neighbour_of_mine.py", "VALUE = 3")
    write(folder / "sub" / "mine.py", "from neighbour_of_mine import VALUE\n" + textwrap.dedent(TWO))
    assert names("sub/mine.py") == ["first", "second"]


def test_file_of_a_package_may_import_relatively(folder):
    write(folder / "package_of_mine" / "__init__.py", "")
    write(folder / "package_of_mine" / "inner" / "__init__.py", "")
    write(folder / "package_of_mine" / "sizes.py", "SIZES = [1]")
    write(folder / "package_of_mine" / "inner" / "mine.py", "from ..sizes import SIZES\n" + textwrap.dedent(TWO))
    assert names("package_of_mine/inner/mine.py") == ["first", "second"]
    assert names("package_of_mine.inner.mine::first") == ["first"]


def test_file_of_a_package_whose_name_is_taken(folder):
    write(folder / "json" / "__init__.py", "")
    write(folder / "json" / "mine.py")
    assert names("json/mine.py") == ["first", "second"]


def test_targets_imported_from_elsewhere_are_found_by_name_alone(folder):
    write(folder / "origin_of_mine.py")
    write(folder / "mine.py", "from origin_of_mine import first\n" + textwrap.dedent(TWO).replace("first", "third"))
    assert names("mine.py") == ["third", "second"]
    assert names("mine.py::first") == ["first"]


def test_target_bound_to_another_name_is_found_by_both(folder):
    write(folder / "mine.py", "import fp4guard as fg\ndef check(mem): pass\ntest_it = fg.fuzz()(check)\n")
    target = load_target("mine.py::test_it")
    assert spec_of(target) == "mine.py::check"
    assert load_target(spec_of(target)) is target


def test_target_in_a_class_is_found_by_its_name(folder):
    text = """
        import fp4guard as fg

        class TestGroup:
            @fg.fuzz()
            @staticmethod
            def test_static(mem):
                pass
    """
    write(folder / "mine.py", text)
    target = load_target("mine.py")
    assert spec_of(target) == "mine.py::test_static"
    assert load_target(spec_of(target)) is target


def test_several_targets_are_not_one(folder):
    write(folder / "mine.py")
    with pytest.raises(fg.UsageError, match=r"mine\.py: names 2 targets; add one of ::first, ::second"):
        load_target("mine.py")


def refused(spec, match):
    with pytest.raises(fg.UsageError, match=match):
        load_targets(spec)


def test_unknown_places_are_refused(folder):
    allowed = r"allowed are kernels\.\w+.*, a module, FILE\.py, or FILE\.py::FUNCTION"
    refused("no_such_module", f"TARGET='no_such_module': No module named 'no_such_module'; {allowed}")
    refused("no_such.module", f"TARGET='no_such.module': No module named 'no_such'; {allowed}")
    refused("no_such.py", r"TARGET='no_such\.py': there is no such file")
    refused("kernels.no_such", f"TARGET='kernels.no_such': No module named 'kernels.*; {allowed}")
    for spec in ("", "::first", "..", ".relative", "some/folder", "a b"):
        refused(spec, f"TARGET='.*': {allowed}")
    (folder / "folder.py").mkdir()
    refused("folder.py", "there is no such file")


def test_unknown_functions_are_refused(folder):
    write(folder / "mine.py")
    refused("mine.py::third", r"mine.py::third: no target called 'third' in mine.py; its targets: first, second")
    refused("mine.py::helper", "no target called 'helper'")
    write(folder / "none.py", "x = 1")
    refused("none.py", r"none.py: no target in none.py; its targets: none; decorate a function with @fp4guard.fuzz")
    refused("none.py", r"or run what knows nothing of fp4guard: fp4guard run FILE")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = (", r"importing it fails: .*broken\.py\", line 1\n(.*\n)*SyntaxError"),
        ("1 / 0", r"importing it fails: ZeroDivisionError: .*\n  at .*broken\.py:1   1 / 0"),
        ("import no_such_module", "importing it fails: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(0)", "importing it fails: SystemExit: 0"),
        ("import fp4guard as fg\n@fg.fuzz()\ndef f(): pass", r"importing it fails: fp4guard.*the first parameter must"),
        ("from . import sibling", "importing it fails: ImportError: attempted relative import"),
    ],
)
@pytest.mark.parametrize("spec", ["broken.py", "broken"])
def test_files_that_cannot_be_imported_are_refused_with_the_reason(folder, text, match, spec):
    write(folder / "broken.py", text)
    refused(spec, match)


def test_included_kernels_are_found_by_family_and_by_file(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    assert {family_of(target) for target in included_targets()} == set(included.families())
    targets = load_targets(GEMM)
    assert targets
    assert load_targets("kernels/gemm_afp4wfp4/target.py") == targets
    assert load_targets(str(project_root / "kernels" / "gemm_afp4wfp4")) == targets
    assert load_targets("kernels") == included_targets()
    for target in targets:
        assert spec_of(target) == f"{GEMM}::{target.name}"
        assert load_target(spec_of(target)) is target


def test_included_kernels_are_found_where_another_package_is_called_kernels(folder, run_python):
    write(folder / "kernels" / "__init__.py", "raise RuntimeError('the package of PyPI')")
    code = f"""
        import sys, types
        sys.path.insert(0, '.')
        sys.modules['kernels'] = types.ModuleType('kernels')
        from fp4guard.fuzzing.loading import load_targets
        print(load_targets({GEMM!r})[0].name)
    """
    assert run_python("-c", textwrap.dedent(code), cwd=folder).stdout == "gemm_afp4wfp4\n"


def test_module_of_a_package_of_ones_own_that_is_called_kernels(folder, run_fp4guard):
    write(folder / "kernels" / "__init__.py", "")
    write(folder / "kernels" / "mine.py")
    done = run_fp4guard("fuzz", "kernels.mine::second", "--max-cases", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 cases" in done.stdout


def test_included_families_have_defects_and_controls():
    assert {defect.id for defect in defects_of("gemm_afp4wfp4")} >= {"scale-k-unmasked", "split-k-stale"}
    assert {control.id for control in controls_of("gemm_afp4wfp4")} >= {"wrapped-loads"}


def test_a_module_finds_a_gpu_while_it_is_imported(tmp_path):
    file = tmp_path / "test_asks.py"
    file.write_text(
        "import torch, triton, fp4guard as fg\n"
        "DEVICE = triton.runtime.driver.active.get_active_torch_device()\n"
        "NAME, TABLE = torch.cuda.get_device_name(), torch.arange(3, device=DEVICE)\n"
        "@fg.fuzz()\n"
        "def test_it(mem):\n"
        "    assert TABLE.is_cuda and NAME == torch.cuda.get_device_name() == 'AMD Instinct MI355X'\n"
        "    assert mem.tensor('x', (2,), torch.float32).device == DEVICE\n"
    )
    report = fg.examine(str(file), arch="gfx950")
    assert report.findings == ()
