"""Results as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import Finding
from ..fuzzing.campaign import Search
from ..fuzzing.examine import Report
from ..fuzzing.loading import spec_of

if TYPE_CHECKING:
    from ..session import Session


def of_search(search: Search, scripts: dict[int, Path]) -> dict[str, Any]:
    """One target's search; `scripts` by the id of a report."""
    return {
        "target": spec_of(search.target),
        "cases": search.cases,
        "seconds": round(search.seconds, 3),
        "complete": search.complete,
        "masks": [
            {"file": place.file, "line": place.line, "column": place.column, **asdict(seen)}
            for place, seen in search.coverage.masks()
        ],
        "error": str(search.error) if search.error is not None else None,
        "findings": [row for report in search.found for row in of_report(report, scripts.get(id(report)))],
    }


def of_report(report: Report, script: Path | None) -> list[dict[str, Any]]:
    """A report's findings, each with the case that shows it."""
    case = report.case
    shown = {
        "case": {
            "arguments": dict(case.arguments), "seed": case.seed, "regime": case.regime, "layout": case.layout,
        },
        "arch": report.arch,
        "defect": report.defect,
        "repro": str(script) if script is not None else None,
    }  # fmt: skip
    return [{**of_finding(finding), **shown} for finding in report.findings]


def of_finding(finding: Finding) -> dict[str, Any]:
    """The fields of `Finding`."""
    return {
        "kind": finding.kind,
        "tensor": finding.tensor,
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "programs": [list(program) for program in finding.programs],
        "offset": finding.offset,
        "message": finding.message,
    }


def of_searches(searches: Sequence[Search], scripts: dict[int, Path], interrupted: bool) -> dict[str, Any]:
    """A whole run of `fp4guard fuzz`."""
    return {
        "cases": sum(search.cases for search in searches),
        "findings": sum(len(search.findings) for search in searches),
        "interrupted": interrupted,
        "targets": [of_search(search, scripts) for search in searches],
    }


def of_session(session: Session, failure: str | None, interrupted: bool) -> dict[str, Any]:
    """A run of `fp4guard run`; `failure` is how the script failed by itself."""
    return {
        "launches": session.simulator.launches,
        "findings": [of_finding(finding) for finding in session.findings],
        "notes": session.notes,
        "errors": [str(error) for error in session.errors],
        "failure": failure,
        "interrupted": interrupted,
    }
