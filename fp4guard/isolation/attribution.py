"""What a device saw, explained: the same case in the simulator, which knows the line, the lanes and the address."""

from __future__ import annotations

from dataclasses import replace

from ..checks import Finding
from ..errors import Fp4guardError
from ..fuzzing.examine import Examine, Report, examine_alone
from ..ttir import parse_arch
from .processes import HarnessError

#: Kinds of findings that say what is wrong, and not where: whoever did it is the simulator's to name.
_UNPLACED = ("crash", "hang", "assert-failed", "oob-write", "poison-dependent", "unwritten-output", "input-modified")


def attributed(report: Report, simulate: Examine) -> Report:
    """The report of a device, with what the simulator says of the case added to the findings that need it.

    `simulate` runs a case there: in a process of its own, for what ended one process may end another. Where the two
    disagree, that is said; so is why the simulator cannot run the case.
    """
    if not any(finding.kind in _UNPLACED for finding in report.findings):
        return report
    try:
        arch = parse_arch(report.arch)
        seen = examine_alone(report.target, report.case, arch, report.defect, simulate).findings
    except (Fp4guardError, HarnessError) as error:
        return _explained(report, f"cannot run the case: {error}", None)
    if not seen:
        return _explained(report, "disagrees: it finds nothing in this case", None)
    return _explained(report, "\n".join(finding.message for finding in seen), seen[0])


def _explained(report: Report, text: str, cause: Finding | None) -> Report:
    """The first finding that needs it gets the explanation, and the place of the cause."""
    findings = list(report.findings)
    place = next(i for i, finding in enumerate(findings) if finding.kind in _UNPLACED)
    finding = findings[place]
    rows = (*finding.rows, ("sim", text))
    if cause is None or cause.file is None:
        findings[place] = replace(finding, rows=rows)
    else:
        findings[place] = replace(
            finding, rows=rows, file=cause.file, line=cause.line, column=cause.column, programs=cause.programs
        )
    return replace(report, findings=tuple(findings))
