"""What a reproducer script runs: one case, and an exit status that `git bisect run` understands."""

from __future__ import annotations

import traceback
from enum import IntEnum

import click

from ..errors import Fp4guardError
from ..ttir import parse_arch
from .case import Case
from .examine import Report, examine_alone
from .loading import load_target, with_defect

EXIT_STATUSES = "0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here"
INTERRUPTED = 130


class Outcome(IntEnum):
    """The exit statuses of a reproducer."""

    FIXED = 0
    REPRODUCES = 1
    DIFFERENT = 2
    CANNOT_RUN = 125


def replay(*, target: str, case: Case, kind: str, offset: int | None, arch: str, defect: str | None = None) -> None:
    """Run a reproducer: parse its command line, examine the case, print what is seen, and exit.

    `--defect ID` plants another defect than the recorded one, `--defect none` plants none.
    """

    @click.command(help=f"Replay one case. Exit status: {EXIT_STATUSES}.")
    @click.option("--defect", default=defect, show_default=True, help="The defect to plant first; 'none' for none.")
    @click.pass_context
    def command(context: click.Context, defect: str | None) -> None:
        try:
            context.exit(run(target, case, kind, offset, arch, None if defect == "none" else defect))
        except KeyboardInterrupt:
            context.exit(INTERRUPTED)  # ends a `git bisect run` too

    command()


def run(target: str, case: Case, kind: str, offset: int | None, arch: str, defect: str | None) -> Outcome:
    """Examine the case and say, in print and in the result, how it compares with what was recorded."""
    try:
        found = load_target(target)
        if defect is not None:
            found = with_defect(found, defect)
        found.check_arguments(case.arguments)
        report = examine_alone(found, case, parse_arch(arch), defect)
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
