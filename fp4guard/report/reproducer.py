"""Reproducer scripts: one file a finding, standalone, named by what it reproduces."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from string import Template

from ..files import write_atomically
from ..fuzzing.examine import Report
from ..fuzzing.loading import family_of, spec_of

_SCRIPT = Template('''\
"""$message

Found on device sim, arch $arch, data seed $seed, with $versions.
Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here.
"""

import sys
$path_import
try:
    from fp4guard import Case, replay
except ImportError as error:
    print(f"cannot run here: {error}", file=sys.stderr)
    sys.exit(125)

replay(
    target=$target,
    case=$case,
    kind=$kind,
    offset=$offset,
    arch=$arch_literal,
    defect=$defect,
)
''')


def script_name(report: Report) -> str:
    """`<target>-<kind>-<8 hex digits of the case>.py`: the same finding gets the same name."""
    finding = report.findings[0]
    digest = report.case.digest(report.arch, report.defect or "")
    return f"{report.target.name}-{finding.kind}-{digest}.py"


def write_reproducer(report: Report, folder: Path) -> Path:
    """Write the script of a report's first finding into `folder`, atomically, and return its path."""
    path = folder / script_name(report)
    target, path_import = repr(spec_of(report.target)), ""
    if family_of(report.target) is None:
        # The script finds the target's file wherever the tree is copied to.
        relative = Path(os.path.relpath(report.target.file.resolve(), folder.resolve())).as_posix()
        target = f'str(Path(__file__).parent / {relative!r}) + "::{report.target.name}"'
        path_import = "from pathlib import Path\n"
    message = report.describe().replace("\\", "\\\\").replace('"""', "'''")
    here = f"{Path.cwd()}{os.sep}"
    text = _SCRIPT.substitute(
        message=message.replace(here, ""),
        arch=report.arch,
        seed=report.case.seed,
        versions=_versions(),
        path_import=path_import,
        target=target,
        case=repr(report.case),
        kind=repr(report.findings[0].kind),
        offset=repr(report.findings[0].offset),
        arch_literal=repr(report.arch),
        defect=repr(report.defect),
    )
    write_atomically(path, text)
    return path


def command(path: Path) -> str:
    """What a user types to run a script."""
    shown = path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path
    return f"python {shown}"


def _versions() -> str:
    packages = ("fp4guard", "triton", "torch", "numpy")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
