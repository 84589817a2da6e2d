"""An existing script or module, run under a session as Python would run it."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ..errors import Fp4guardError, UsageError
from ..interrupts import pythons_own
from .session import Session, StopSession


def run_script(session: Session, script: str, arguments: Sequence[str], as_module: bool) -> str | None:
    """Run a file, or a module by its name, to its end or to the first finding. Returns how it failed by itself, if so.

    Its traceback has been printed then. Raises UsageError for a file that is not there, KeyboardInterrupt.
    """
    if not as_module and not Path(script).is_file():
        raise UsageError(f"SCRIPT={script!r}: there is no such file; a module is run with -m")
    # Triton's own interpreter would run kernels where nothing watches them.
    os.environ.pop("TRITON_INTERPRET", None)
    argv, path = sys.argv, list(sys.path)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path.cwd() if as_module else Path(script).resolve().parent))
    try:
        with pythons_own(), session.active():
            if as_module:
                runpy.run_module(script, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(script, run_name="__main__")
    except StopSession:
        return None
    except SystemExit as stop:
        return _exit(stop.code)
    except Fp4guardError as error:
        if error not in session.errors:
            session.errors.append(error)
    except Exception as error:
        if as_module and isinstance(error, ImportError) and _inner(error.__traceback__) is None:
            raise UsageError(f"MODULE={script!r}: {error}") from None
        error.__traceback__ = _inner(error.__traceback__) or error.__traceback__
        traceback.print_exception(error)
        return f"it raised {type(error).__name__}"
    finally:
        sys.argv, sys.path[:] = argv, path
    return None


def _exit(code: object) -> str | None:
    """As Python does at SystemExit: a text is printed, and means 1."""
    if code is None or code == 0:
        return None
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    return f"its exit status is {code}"


def _inner(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without our frames and those of `runpy`, which Python's own would not have; None when no more is."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not (file.startswith("<frozen") or file in _RUNNERS or Path(file).is_relative_to(_PACKAGE)):
            return trace
        trace = trace.tb_next
    return None


_RUNNERS = (runpy.__file__, contextlib.__file__)
_PACKAGE = Path(__file__).parent.parent
