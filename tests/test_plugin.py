"""The pytest plugin, in pytest runs of its own."""

import re
import shlex
import textwrap
from functools import partial

import pytest

# Imported here, so that they stay when pytester forgets what a run inside this process has imported.
import torch._inductor.test_operators  # noqa: F401
from hypothesis.configuration import set_hypothesis_home_dir

import fp4guard.fuzzing.pytest_item
import fp4guard.report.reproducer  # noqa: F401

TARGETS = """
    import pytest
    import torch
    import triton
    import triton.language as tl

    import fp4guard as fg
    from fp4guard import dims

    @triton.jit
    def add(x, y, out, n, MASKED: tl.constexpr):
        i = tl.program_id(0) * 16 + tl.arange(0, 16)
        mask = (i < n) | (not MASKED)
        tl.store(out + i, tl.load(x + i, mask=mask) + tl.load(y + i, mask=mask), mask=i < n)

    def run(mem, n, masked):
        x, y = mem.tensor("x", (n,), torch.float32), mem.tensor("y", (n,), torch.float32)
        out = mem.output("out", (n,), torch.float32)
        add[(triton.cdiv(n, 16),)](x, y, out, n, MASKED=masked)
        mem.expect(out, x.double() + y.double())

    @fg.fuzz(n=dims(tile=16))
    def test_masked(mem, n):
        run(mem, n, True)

    @fg.fuzz(n=dims(tile=16))
    def test_unmasked(mem, n):
        '''Forgets the mask.'''
        run(mem, n, False)
"""

COUNTING = """
    import torch
    import fp4guard as fg

    tried = []

    @fg.fuzz(n=fg.dims())
    def test_counts(mem, n):
        if not tried or tried[-1] != mem.case:
            tried.append(mem.case)

    def test_count():
        import hypothesis
        current = hypothesis.settings()
        print(f"[tried {len(tried)} derandomize {current.derandomize} database {current.database is not None}]")
        print(f"[first {tried[:20]!r}]")
"""


@pytest.fixture
def write(pytester):
    """Write a test file in the folder of the run, where its failing cases are kept too.

    Hypothesis settles on a place for them when it is imported: runs inside one process, and those of other workers,
    would share it, and take cases of tests of the same name for their own.
    """

    def write(text, name="test_it"):
        return pytester.makepyfile(**{name: textwrap.dedent(text)})

    set_hypothesis_home_dir(pytester.path / ".hypothesis")
    yield write
    set_hypothesis_home_dir(None)


def test_targets_are_tests_and_failing_ones_write_reproducers(pytester, write, run_python):
    write(TARGETS)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1, failed=1)
    scripts = list((pytester.path / "repro").iterdir())
    assert len(scripts) == 1
    assert re.fullmatch(r"test_unmasked-oob-read-[0-9a-f]{8}\.py", scripts[0].name)
    output = result.stdout.str()
    assert "OutOfBoundsRead: 15 lanes read `x` beyond its end" in output
    assert "n=1 regime=exact layout=0 seed=0" in output
    summary = output[output.index("fp4guard: reproduce with") :]
    assert summary.count(f"python repro/{scripts[0].name}") == 1
    done = run_python(*shlex.split(f"repro/{scripts[0].name}"), cwd=pytester.path)
    assert done.returncode == 1, done.stderr
    assert "15 lanes read `x` beyond its end" in done.stdout


def test_workers_of_xdist_tell_the_controller(pytester, write):
    write(TARGETS)
    write(TARGETS.replace("test_", "test_other_"), "test_other")
    result = pytester.runpytest_subprocess("-n2", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2, failed=2)
    scripts = sorted(path.name for path in (pytester.path / "repro").iterdir())
    assert len(scripts) == 2
    output = result.stdout.str()
    summary = output[output.index("fp4guard: reproduce with") :]
    for script in scripts:
        assert summary.count(f"python repro/{script}\n") == 1
        assert f'value="python repro/{script}"' in (pytester.path / "junit.xml").read_text()


@pytest.mark.parametrize(
    ("profile", "cases", "derandomize", "database"), [("dev", 100, False, True), ("pr", 300, True, False)]
)
def test_profiles_are_in_force_even_under_ci(pytester, write, monkeypatch, profile, cases, derandomize, database):
    monkeypatch.setenv("CI", "1")
    write(COUNTING)
    options = (f"--hypothesis-profile={profile}", "-s", "-p", "no:cacheprovider")
    one = pytester.runpytest_subprocess(*options).stdout.str()
    tried = int(re.search(r"\[tried (\d+) ", one)[1])
    assert cases * 0.9 <= tried <= cases + 10
    assert f" derandomize {derandomize} database {database}]" in one
    if derandomize:
        other = pytester.runpytest_subprocess(*options).stdout.str()
        first = [re.search(r"\[first .*\]", output)[0] for output in (one, other)]
        assert first[0] == first[1]


def test_nightly_profile_is_known(pytester, write):
    write("""
        import hypothesis
        def test_it():
            assert hypothesis.settings().max_examples == 20_000
    """)
    pytester.runpytest_subprocess("--hypothesis-profile=nightly").assert_outcomes(passed=1)


def test_architecture_and_folder_come_from_ini_or_option(pytester, write):
    write(TARGETS)
    pytester.makeini("[pytest]\nfp4guard_arch = gfx950\nfp4guard_repro_dir = from/ini\n")
    pytester.runpytest_inprocess("-k", "unmasked").assert_outcomes(failed=1, deselected=1)
    (script,) = (pytester.path / "from" / "ini").iterdir()
    assert "arch='gfx950'" in script.read_text()
    options = ("--fp4guard-arch=sm_100", "--fp4guard-repro-dir=from-option")
    pytester.runpytest_inprocess("-k", "unmasked", *options).assert_outcomes(failed=1, deselected=1)
    (script,) = (pytester.path / "from-option").iterdir()
    assert "arch='sm_100'" in script.read_text()


def test_a_target_of_one_architecture(pytester, write):
    write(TARGETS.replace("@fg.fuzz(", "@fg.fuzz(arch='gfx950', "))
    pytester.runpytest_inprocess("-k", "unmasked").assert_outcomes(failed=1, deselected=1)
    (script,) = (pytester.path / "repro").iterdir()
    assert "arch='gfx950'" in script.read_text()
    result = pytester.runpytest_inprocess("--fp4guard-arch=sm_100")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*arch='sm_100': test_masked is written for gfx950, and allows no other*"])


def test_wrong_architecture_is_an_error_of_collection(pytester, write):
    write(TARGETS)
    result = pytester.runpytest_inprocess("--fp4guard-arch=h100")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*arch='h100': allowed are sm_<n> and gfx<n>*"])


def test_folder_that_cannot_be_written_does_not_hide_the_finding(pytester, write):
    write(TARGETS)
    (pytester.path / "repro").write_text("a file")
    result = pytester.runpytest_inprocess("-k", "unmasked")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*OutOfBoundsRead: *", "no reproducer: cannot write *"])


def test_only_targets_with_a_name_of_a_test_are_tests(pytester, write):
    write("""
        import fp4guard as fg

        @fg.fuzz()
        def helper(mem):
            raise ValueError

        def check(mem):
            pass

        test_bound = fg.fuzz()(check)

        class TestGroup:
            @fg.fuzz(n=[1])
            @staticmethod
            def test_static(mem, n):
                pass
    """)
    result = pytester.runpytest_inprocess("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*::test_bound PASSED*", "*::TestGroup::test_static PASSED*"])


def test_marks_count_above_and_below_the_decorator(pytester, write):
    pytester.makeini("[pytest]\nmarkers =\n  slow\n  odd\n")
    write("""
        import pytest
        import fp4guard as fg

        @pytest.mark.slow
        @fg.fuzz()
        def test_above(mem):
            pass

        @fg.fuzz()
        @pytest.mark.slow
        def test_below(mem):
            pass

        @pytest.mark.odd
        @fg.fuzz()
        @pytest.mark.slow
        def test_both(mem):
            pass

        @pytest.mark.xfail(strict=True)
        @fg.fuzz()
        def test_fails(mem):
            raise ValueError
    """)
    pytester.runpytest_inprocess("-m", "slow").assert_outcomes(passed=3, deselected=1)
    pytester.runpytest_inprocess("-m", "odd and slow").assert_outcomes(passed=1, deselected=3)
    pytester.runpytest_inprocess().assert_outcomes(passed=3, xfailed=1)


def test_failing_cases_of_targets_are_kept_apart(pytester, write):
    write("""
        import fp4guard as fg

        @fg.fuzz(n=fg.dims())
        def test_fails(mem, n):
            assert n < 90

        @fg.fuzz(n=fg.dims())
        def test_passes(mem, n):
            pass

        @fg.fuzz(n=fg.dims())
        def test_first(mem, n):
            print(f"[tried {n}]")
    """)
    # The profile is stated, and loaded in processes of their own: under CI, hypothesis's own keeps no cases.
    run = partial(pytester.runpytest_subprocess, "--hypothesis-profile=dev", "-k")
    run("fails").assert_outcomes(failed=1, deselected=2)
    # Hypothesis forgets a kept case that fails no longer: a test must not take another's for its own.
    run("passes or first").assert_outcomes(passed=2, deselected=1)
    result = run("fails", "--hypothesis-show-statistics")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*during reuse phase*"])


def test_reproducers_do_not_disturb_the_next_run(pytester, write):
    # Their names begin as those of tests do, and so pytest imports them.
    write(TARGETS)
    for _ in range(2):
        pytester.runpytest_inprocess().assert_outcomes(passed=1, failed=1)
    assert len(list((pytester.path / "repro").glob("test_*.py"))) == 1


def test_finding_of_an_ordinary_test_writes_a_reproducer(pytester, write):
    write(
        TARGETS.replace("def test_", "def target_")
        + """
    def test_plain():
        fg.examine(target_unmasked, n=3).raise_first()
    """
    )
    pytester.runpytest_inprocess().assert_outcomes(failed=1)
    (script,) = (pytester.path / "repro").iterdir()
    assert script.name.startswith("target_unmasked-oob-read-")


def test_unsupported_operation_fails_the_test_with_its_name(pytester, write):
    write("""
        import fp4guard as fg

        @fg.fuzz()
        def test_it(mem):
            raise fg.UnsupportedError("tt.nothing")
    """)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not supported by fp4guard: tt.nothing*"])
    assert not (pytester.path / "repro").exists()


def test_project_without_targets_pays_nothing(pytester, write):
    write("""
        import sys

        def test_nothing_is_imported():
            assert "fp4guard.plugin" in sys.modules
            heavy = {"torch", "triton", "numpy", "fp4guard.fuzzing", "fp4guard.checks", "rich", "click"}
            assert not heavy & set(sys.modules)
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    assert "fp4guard: reproduce" not in result.stdout.str()
