"""The command line: `fp4guard fuzz | run | list | defects | ops | bench`."""

from __future__ import annotations

import atexit
import json as json_module
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_bench import bench
from .commands import CLEAN, ERROR, FAILED, FINDINGS, INTERRUPTED, as_text, guarded, tell
from .durations import seconds
from .errors import UsageError
from .interrupts import at_once

if TYPE_CHECKING:
    from .fuzzing.campaign import Search
    from .fuzzing.setting import Setting

_DEFAULT_SECONDS = 60.0
_DEFAULT_ARCH = "sm_90"
_PROFILE_NAMES = ("dev", "pr", "nightly")
_DEVICES = ("sim", "cuda", "hip", "auto")


class Duration(click.ParamType):  # type: ignore[type-arg]
    """`90`, `90s`, `5m`, `2h`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return seconds(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class _Program(click.Group):
    """As a program, not called from Python by `main.main`, it ends at once when it was interrupted."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with at_once():
                return super().__call__(*args, **kwargs)
        except SystemExit as end:
            if end.code == INTERRUPTED:
                _leave()
            raise


def _leave() -> None:
    """End the process without taking torch apart, which takes as long as a case, but not without exit handlers.

    And with our status: `python -m` makes it the signal's where a string that is executed was interrupted on the way.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fp4guard")
def main() -> None:
    """Fuzz FP4 (or any) Triton kernels for out-of-bounds accesses, undefined values and wrong numbers."""
    atexit.register(_without_leak_report)  # the first to be registered is the last to be called


main.add_command(bench)


def _without_leak_report() -> None:
    """Let a process that has compiled a Gluon kernel end quietly.

    Triton's bindings for Gluon keep objects alive, with or without fp4guard, and nanobind lists them over a screen when
    the interpreter is gone.
    """
    if "triton.experimental.gluon" in sys.modules:
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _where(command: Callable[..., int]) -> Callable[..., int]:
    """Options that say where cases execute; the command gets them as one `setting`."""

    @click.option(
        "--device", type=click.Choice(_DEVICES), default="sim", show_default=True, help="Where cases execute."
    )
    @click.option("--guard-pages", is_flag=True, help="Place buffers beside pages that are not mapped (cuda).")
    @click.option("--isolate", is_flag=True, help="Run cases of the simulator in a process of their own, as a GPU's.")
    @click.option(
        "--case-timeout",
        type=Duration(),
        help="For a case in a process of its own: on a GPU, or with --isolate [120s].",
    )
    @wraps(command)
    def run(
        *args: Any, device: str, guard_pages: bool, isolate: bool, case_timeout: float | None, **kwargs: Any
    ) -> int:
        from .fuzzing.setting import Setting
        from .isolation import settled

        setting = settled(Setting(device, guard_pages, isolate))
        if case_timeout is not None:
            if setting.in_process:
                raise UsageError("--case-timeout: allowed on a GPU and with --isolate, for a process that can be ended")
            setting = replace(setting, timeout=case_timeout)
        return command(*args, setting=setting, **kwargs)

    return run


@main.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--profile", type=click.Choice(_PROFILE_NAMES), help="How to search [dev].")
@click.option("--max-time", type=Duration(), help="Time for all targets [60s if no limit and no profile].")
@click.option(
    "--max-cases",
    type=click.IntRange(min=1),
    help="Cases for each target [the profile's; with --max-time, as many as fit].",
)
@click.option("--seed", type=click.IntRange(min=0), help="The same cases every time.")
@click.option("--arch", help="Compile for sm_<n> or gfx<n> [sm_90, or what the target is written for].")
@click.option("--defect", metavar="ID", help="Plant this defect of an included kernel first.")
@click.option("--repro-dir", type=click.Path(path_type=Path, file_okay=False), default=Path("repro"), show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a summary there.")
@guarded
@_where
def fuzz(
    targets: Sequence[str],
    setting: Setting,
    profile: str | None,
    max_time: float | None,
    max_cases: int | None,
    seed: int | None,
    arch: str | None,
    defect: str | None,
    repro_dir: Path,
    json_file: Path | None,
) -> int:
    """Search targets for findings: a module, FILE.py, FILE.py::FUNCTION, or kernels.FAMILY.

    Without a TARGET: every included kernel, 60 seconds in all. Exit status: 0 nothing found, 1 findings, 2 an error of
    use or of the harness, 130 interrupted.
    """
    from .console import Console
    from .fuzzing.campaign import Options, few_on, run_campaign
    from .fuzzing.loading import families_with, included_targets, load_targets, with_defect
    from .fuzzing.profiles import PROFILES
    from .interrupts import interruptible
    from .isolation import examining
    from .report.reproducer import command, require_writable, write, write_reproducer
    from .report.summary import of_searches
    from .ttir import parse_arch

    console = Console()
    require_writable(json_file, repro_dir / "reproducer.py")
    wanted = None if arch is None else parse_arch(arch)
    if defect is not None and not targets:
        having = ", ".join(f"kernels.{family}" for family in families_with(defect))
        raise UsageError(f"--defect {defect!r}: {f'it needs a TARGET: {having}' if having else 'no kernel has it'}")
    found = (
        [t for spec in targets for t in load_targets(spec, wanted)]
        if targets
        else console.runnable(included_targets(), setting)
    )
    if defect is not None:
        found = [with_defect(target, defect) for target in found]
    chosen = PROFILES[profile or "dev"]
    if max_time is None and max_cases is None and profile is None:
        max_time = _DEFAULT_SECONDS
    options = Options(chosen, wanted, seed, defect)
    scripts: dict[int, Path] = {}

    searches: list[Search] = []
    interrupted = False
    try:
        with interruptible(), console.progress(found, max_time, setting) as progress, examining(setting) as examine:
            options = replace(options, examine=examine, few=few_on(setting))
            for search in run_campaign(found, options, max_time, max_cases, progress.update, searches):
                progress.done(search)
    except KeyboardInterrupt:
        interrupted = True
    errors: list[Exception] = [search.error for search in searches if search.error is not None]
    for search in searches:
        for report in search.found:
            rows = []
            try:
                path = scripts[id(report)] = write_reproducer(report, repro_dir)
                rows.append(("repro", command(path)))
            except UsageError as error:
                errors.append(error)
            console.report(report.describe(*rows))
    for search in searches:
        console.coverage(search)
    console.summary(searches, interrupted)
    if json_file is not None:
        write(json_file, as_text(of_searches(searches, scripts, interrupted)))
    for problem in errors:
        tell(problem)
    if interrupted:
        return INTERRUPTED
    if errors:
        return ERROR
    return FINDINGS if any(search.found for search in searches) else CLEAN


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is the name of a module.")
@click.option("--arch", help="The GPU that the script finds: sm_<n> or gfx<n> [sm_90].")
@click.option("--keep-going", is_flag=True, help="Go on after a finding, and tell all of them at the end.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a summary there.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
@guarded
def run(
    as_module: bool, arch: str | None, keep_going: bool, json_file: Path | None, script: str, arguments: Sequence[str]
) -> int:
    """Run an existing script that knows nothing of fp4guard, its tensors guarded and its Triton kernels simulated.

    It finds a GPU: device="cuda", torch.cuda and Triton's driver answer for --arch. Exit status: 0 nothing found,
    1 findings, 2 an error of use or of the harness, 3 the script failed by itself, 130 interrupted.
    """
    from .console import Console
    from .interrupts import interruptible
    from .report.reproducer import require_writable, write
    from .report.summary import of_session
    from .session import Session
    from .session.script import run_script
    from .ttir import parse_arch

    require_writable(json_file)
    session = Session(parse_arch(arch or _DEFAULT_ARCH), stop=not keep_going)
    failure, interrupted = None, False
    try:
        with interruptible():
            failure = run_script(session, script, arguments, as_module)
    except KeyboardInterrupt:
        interrupted = True
    sys.stdout.flush()
    Console().session(session, failure, interrupted)
    if json_file is not None:
        write(json_file, as_text(of_session(session, failure, interrupted)))
    for problem in session.errors:
        tell(problem)
    if interrupted:
        return INTERRUPTED
    if session.errors:
        return ERROR
    return FINDINGS if session.findings else FAILED if failure is not None else CLEAN


@main.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
@guarded
def list_targets(as_json: bool) -> int:
    """The included targets, their arguments, planted defects and controls."""
    from .console import Console
    from .fuzzing.listing import included_kernels

    kernels = included_kernels()
    if as_json:
        click.echo(as_text({"targets": kernels}), nl=False)
    else:
        Console().listing(kernels)
    return CLEAN


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
@guarded
def ops(as_json: bool) -> int:
    """The operations that the simulator executes; whatever else a kernel uses is refused by name and source line."""
    from .console import Console
    from .sim.ops.catalogue import supported_ops

    rows = supported_ops()
    if as_json:
        click.echo(json_module.dumps({"ops": [asdict(row) for row in rows]}, indent=2))
    else:
        Console().ops(rows)
    return CLEAN


@main.command()
@click.option("--target", "family", metavar="TARGET", help="Only this included kernel, such as gemm_afp4wfp4.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this defect or control; may be repeated.")
@click.option(
    "--max-cases",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Cases for a defect; for the controls of a kernel together 300 of them at most.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--arch", help="Compile for sm_<n> or gfx<n> [sm_90, or what the target is written for].")
@click.option("--json", "form", flag_value="json", help="As JSON on standard output.")
@click.option("--markdown", "form", flag_value="markdown", help="As a Markdown table on standard output.")
@guarded
@_where
def defects(
    family: str | None,
    ids: Sequence[str],
    max_cases: int,
    seed: int,
    arch: str | None,
    form: str | None,
    setting: Setting,
) -> int:
    """Fuzz every planted defect and every control: does fp4guard find what is wrong, and nothing else?

    Exit status 0 only if every defect is found and every control is clean.
    """
    from .console import Console
    from .fuzzing.campaign import few_on
    from .fuzzing.selftest import Selftest
    from .interrupts import interruptible
    from .isolation import examining

    console = Console(stderr=form is not None)
    selftest = Selftest(family, tuple(ids), max_cases, seed, arch)
    interrupted = False
    try:
        with interruptible(), examining(setting) as examine:
            for row in selftest.run(examine, few_on(setting)):
                console.row(row)
    except KeyboardInterrupt:
        interrupted = True
    if form is not None:
        click.echo(as_text(selftest.as_json()) if form == "json" else selftest.as_markdown(), nl=False)
    console.selftest(selftest, interrupted)
    if interrupted:
        return INTERRUPTED
    return CLEAN if selftest.passed else FINDINGS


if __name__ == "__main__":
    main()
