"""Whose an exception is that ends a run of a target: the code under test's, fp4guard's, or a wrong use's of it."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from triton.compiler import CompilationError

from .. import formats, included, oracle
from ..checks import Finding
from ..checks.incidents import from_hang
from ..errors import Fp4guardError, UsageError
from ..memory import intercept
from ..sim import GridError, HangError, host
from ..ttir import compiler
from .case import Case

#: Lines of an exception's message that are told, below its first.
_MESSAGE_LINES = 12


def failure(error: BaseException) -> Finding:
    """The target raised an exception of its own, on arguments that its strategies allow, or a kernel did not end."""
    if isinstance(error, HangError):
        return from_hang(error)
    frames = traceback.extract_tb(error.__traceback__)
    frame = _own(frames) or frames[-1]
    rows = [("raised", f"{frame.filename}:{frame.lineno}   {frame.line or ''}".rstrip())]
    headline, *more = summary(error)
    if more:
        rows.append(("message", "\n".join(more[:_MESSAGE_LINES])))
    return Finding("crash", headline, file=frame.filename, line=frame.lineno, rows=tuple(rows))


def ends_the_case(raised: BaseException) -> bool:
    """Whether it does no more than that: no interrupt, and none of pytest's but `pytest.fail()`."""
    outcomes = pytest_outcomes()
    if outcomes is None or not isinstance(raised, (outcomes.OutcomeException, outcomes.Exit)):
        return isinstance(raised, (Exception, SystemExit))
    return type(raised) is outcomes.Failed


def pytest_outcomes() -> Any:
    """The module of what a test raises to end; None where it is not loaded, and none of it can have been raised."""
    return sys.modules.get("_pytest.outcomes")


def is_ours(error: BaseException) -> bool:
    """Whether fp4guard raised it, at fault or for a wrong use of it, and not the code under test."""
    if isinstance(error, Fp4guardError):
        return True
    if isinstance(error, (HangError, GridError)):
        return False
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    while files and files[-1].is_relative_to(_NUMPY):
        files.pop()
    # What the code under test asks of torch and of Triton goes through these, and may fail there.
    if _INTERCEPTION in files or files[-1:] == [_COMPILER] or any(file.is_relative_to(_HOST) for file in files):
        return False
    return bool(files) and files[-1].is_relative_to(_PACKAGE) and is_library(str(files[-1]))


def placed(error: BaseException, case: Case) -> BaseException:
    """An error of use with the target's line and the case; any other as it is.

    What the oracle and the formats refuse, they refuse by a ValueError or TypeError that they raise themselves.
    """
    frames = traceback.extract_tb(error.__traceback__)
    refused = isinstance(error, (ValueError, TypeError)) and (frames[-1].line or "").startswith("raise ")
    if type(error) is not UsageError and not (refused and _is_within(frames[-1].filename, _REFUSING)):
        return error
    frame = _own(frames)
    where = [] if frame is None else [f"at {frame.filename}:{frame.lineno}   {frame.line or ''}".rstrip()]
    return UsageError("\n  ".join([str(error), *where, f"case: {case}"]))


def _own(frames: Sequence[traceback.FrameSummary]) -> traceback.FrameSummary | None:
    """The innermost that is nobody's but the user's; Triton's wrapper of a kernel is in no file."""
    outcomes = pytest_outcomes()
    others = ("<string>", "" if outcomes is None else outcomes.__file__)
    own = [frame for frame in frames if not is_library(frame.filename) and frame.filename not in others]
    return own[-1] if own else None


def summary(error: BaseException) -> list[str]:
    """The type and what it says, in lines, the first of which tells most."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    # Triton's own come last, below the source that they are about.
    if isinstance(error, CompilationError) and lines:
        lines = [*lines[-1:], *lines[:-1]]
    name = type(error).__name__
    return [f"{name}: {lines[0]}", *lines[1:]] if lines else [name]


def is_library(file: str) -> bool:
    """Whether a file is Python's, numpy's, torch's, Triton's or fp4guard's own, and so not to blame for a finding."""
    path = Path(file)
    # A clone of the project may be called fp4guard too, and the included kernels may lie in the package: those are not.
    if included.ROOT is not None and path.is_relative_to(included.ROOT):
        return False
    if path.is_relative_to(_STANDARD) and "site-packages" not in path.relative_to(_STANDARD).parts:
        return True
    return _is_within(file, _LIBRARIES)


def _is_within(file: str, folders: Iterable[Path]) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in folders)


_STANDARD = Path(sysconfig.get_path("stdlib"))
_PACKAGE, _NUMPY, *_ = _LIBRARIES = tuple(Path(m.__file__ or "").parent for m in (included, np, torch, triton))
_INTERCEPTION, _COMPILER, _HOST = Path(intercept.__file__), Path(compiler.__file__), Path(host.__file__).parent
#: Where a use of them is refused by Python's own errors.
_REFUSING = tuple(Path(package.__file__ or "").parent for package in (oracle, formats))
