"""What a device saw, explained: the same case in the simulator, which knows the line, the lanes and the address."""

from __future__ import annotations

from dataclasses import replace

from ..checks import Finding
from ..errors import Fp4guardError
from ..fuzzing.examine import Examine, Report, examine_alone
from ..ttir import parse_arch
from .processes import HarnessError
from .request import Outcome


def attributed(report: Report, simulate: Examine) -> Report:
    """The report of a device, with what the simulator says of the case added to the first finding.

    `simulate` runs a case there: in a process of its own, for what ended one process may end another. Where the two
    disagree, that is said; so is why the simulator cannot run the case.
    """
    if not report.findings:
        return report
    first, *others = report.findings
    return replace(report, findings=(_explained(first, report, simulate), *others))


def _explained(finding: Finding, report: Report, simulate: Examine) -> Finding:
    """A finding with a row of the simulator's; and with the place of the cause, where that has one in a kernel."""
    try:
        seen = examine_alone(report.target, report.case, parse_arch(report.arch), report.defect, simulate)
    except BaseException as raised:
        outcome = Outcome.of(raised)
        if outcome is None and not isinstance(raised, (Fp4guardError, HarnessError)):
            raise
        return _with(finding, f"cannot run the case: {raised if outcome is None else outcome}")
    if seen.lost:
        return _with(finding, f"cannot run the case: {seen.findings[0].headline}")
    if not seen.findings:
        return _with(finding, "disagrees: it finds nothing in this case")
    cause = seen.findings[0]
    if (cause.kind, cause.headline) == (finding.kind, finding.headline):
        return _with(finding, "agrees, and knows no more")
    explained = _with(finding, "\n".join(one.message for one in seen.findings))
    if cause.file is None or _is_raised(cause) or _is_raised(finding):
        return explained
    return replace(explained, file=cause.file, line=cause.line, column=cause.column, programs=cause.programs)


def _is_raised(finding: Finding) -> bool:
    """Whether it is an exception of the target's, whose line is one of its own."""
    return any(label == "raised" for label, _ in finding.rows)


def _with(finding: Finding, text: str) -> Finding:
    return replace(finding, rows=(*finding.rows, ("sim", text)))
