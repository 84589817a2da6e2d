"""What a reproducer script runs: one case, and an exit status that `git bisect run` understands."""

from __future__ import annotations

import traceback
from enum import IntEnum

import click

from ..errors import Fp4guardError
from ..fuzzing.case import Case
from ..fuzzing.examine import Report, examine_alone
from ..fuzzing.loading import load_target, with_defect
from ..fuzzing.setting import SIMULATED, Setting
from ..isolation.examiners import examining, settled
from ..ttir import parse_arch

EXIT_STATUSES = "0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here"
INTERRUPTED = 130


class Outcome(IntEnum):
    """The exit statuses of a reproducer."""

    FIXED = 0
    REPRODUCES = 1
    DIFFERENT = 2
    CANNOT_RUN = 125


def replay(
    *,
    target: str,
    case: Case,
    kind: str,
    offset: int | None,
    arch: str,
    defect: str | None = None,
    device: str = "sim",
    guard_pages: bool = False,
    isolated: bool = False,
    timeout: float = SIMULATED.timeout,
) -> None:
    """Run a reproducer: parse its command line, examine the case, print what is seen, and exit.

    `--defect ID` plants another defect than the recorded one, `--defect none` plants none. `arch` is what the
    simulator compiles for, and the GPU that the finding is from otherwise, whichever GPU is here now.
    """
    setting = Setting(device, guard_pages, isolated, timeout)

    @click.command(help=f"Replay one case. Exit status: {EXIT_STATUSES}.")
    @click.option("--defect", default=defect, show_default=True, help="The defect to plant first; 'none' for none.")
    @click.pass_context
    def command(context: click.Context, defect: str | None) -> None:
        try:
            context.exit(run(target, case, kind, offset, arch, None if defect == "none" else defect, setting))
        except KeyboardInterrupt:
            context.exit(INTERRUPTED)  # ends a `git bisect run` too

    command()


def run(
    target: str,
    case: Case,
    kind: str,
    offset: int | None,
    arch: str,
    defect: str | None,
    setting: Setting = SIMULATED,
) -> Outcome:
    """Examine the case and say, in print and in the result, how it compares with what was recorded."""
    try:
        found = load_target(target, parse_arch(arch))
        if defect is not None:
            found = with_defect(found, defect)
        found.check_arguments(case.arguments)
        wanted = parse_arch(arch) if setting.device == "sim" else None
        with examining(settled(setting)) as examine:
            report = examine_alone(found, case, wanted, defect, examine)
    except Fp4guardError as error:
        click.echo(f"cannot run here: {error}", err=True)
        return Outcome.CANNOT_RUN
    except Exception:
        # Python's own exit status for it is 1, which would say that the finding is reproduced.
        traceback.print_exc()
        click.echo("cannot run here: the harness failed", err=True)
        return Outcome.CANNOT_RUN
    if not report.findings:
        click.echo(f"fixed: nothing found in {case}")
        return Outcome.FIXED
    return _compare(report, kind, offset)


def _compare(report: Report, kind: str, offset: int | None) -> Outcome:
    for finding in report.findings:
        click.echo(finding.message)
    same = [finding for finding in report.findings if finding.kind == kind]
    if not same:
        click.echo(f"fails differently: recorded was {kind}")
        return Outcome.DIFFERENT
    if offset is not None and all(finding.offset != offset for finding in same):
        click.echo(f"reproduces, at another place: recorded was byte {offset:+d}")
    else:
        click.echo("reproduces")
    return Outcome.REPRODUCES
