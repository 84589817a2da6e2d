"""Reproducer scripts: one file a finding, standalone, named by what it reproduces."""

from __future__ import annotations

import os
import platform
import shlex
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from string import Template

from ..errors import UsageError
from ..files import obstacle, write_atomically
from ..fuzzing.examine import Report
from ..fuzzing.loading import family_of, spec_of
from ..fuzzing.setting import SIMULATED, Setting
from .replay import EXIT_STATUSES

_SCRIPT = Template('''\
"""$message

Found on device $device, arch $arch, data seed $seed, with $versions.
Exit status: $exit_statuses.
"""

import sys
$path_import
if __name__ == "__main__":  # pytest may import it: the name may begin as a test's does
    try:
        from fp4guard import Case, replay

        case = $case
    except Exception as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        sys.exit(125)

    replay(
        target=$target,
        case=case,
        kind=$kind,
        offset=$offset,
        arch=$arch_literal,
        defect=$defect,
$setting    )
''')


def script_name(report: Report) -> str:
    """`<target>-<kind>-<8 hex digits of the case>.py`: the same finding gets the same name.

    The name of a user's file counts too: others may have a target of the same name.
    """
    finding = report.findings[0]
    file = report.target.file.name if family_of(report.target) is None else ""
    where = "" if report.setting.in_process else str(report.setting)
    digest = report.case.digest(report.arch, report.defect or "", *filter(None, [file, where]))
    return f"{report.target.name}-{finding.kind}-{digest}.py"


def write_reproducer(report: Report, folder: Path) -> Path:
    """Write the script of a report's first finding into `folder`, atomically, and return its path.

    Raises UsageError where nothing can be written.
    """
    path = folder / script_name(report)
    target, path_import = repr(spec_of(report.target)), ""
    if family_of(report.target) is None:
        # The script finds the target's file wherever the tree is copied to.
        relative = Path(os.path.relpath(report.target.file.resolve(), folder.resolve())).as_posix()
        target = f'str(Path(__file__).resolve().parent / {relative!r}) + "::{report.target.name}"'
        path_import = "from pathlib import Path\n"
    message = report.describe().replace(f"{Path.cwd()}{os.sep}", "")
    text = _SCRIPT.substitute(
        message=_in_docstring(message),
        exit_statuses=EXIT_STATUSES,
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
        device=str(report.setting),
        setting=_setting(report.setting),
    )
    write(path, text)
    return path


def write(path: Path, text: str) -> None:
    """Write a file whole, or raise UsageError."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def require_writable(*paths: Path | None) -> None:
    """UsageError where one of the files could not be written."""
    for path in paths:
        if path is not None and (why := obstacle(path)):
            raise UsageError(f"cannot write {path}: {why}")


def command(path: Path) -> str:
    """What a user types to run a script."""
    shown = path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path
    return f"python {shlex.quote(str(shown))}"


def _in_docstring(text: str) -> str:
    """The text as it may stand between triple quotes: what cannot be printed is escaped."""
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _setting(setting: Setting) -> str:
    """The arguments of `replay` for a setting that is not the simulator in the same process."""
    if setting.in_process:
        return ""
    chosen = [(name, value) for name, value in asdict(setting).items() if value != getattr(SIMULATED, name)]
    return "".join(f"        {name}={value!r},\n" for name, value in chosen)


def _versions() -> str:
    packages = ("fp4guard", "triton", "torch", "numpy")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
