"""What all commands share: their exit statuses, and how their errors are told."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from .errors import Fp4guardError

#: Exit statuses.
CLEAN, FINDINGS, ERROR, FAILED, INTERRUPTED = 0, 1, 2, 3, 130


def guarded(command: Callable[..., int]) -> Callable[..., None]:
    """Exit with what the command returns; errors of use and of limits are told in a line, not in a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            status = command(*args, **kwargs)
        except KeyboardInterrupt:
            click.echo("fp4guard: interrupted", err=True)
            status = INTERRUPTED
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            # Python's own exit status for it is 1, which says that something was found.
            tell(error)
            status = ERROR
        sys.exit(status)

    return run


def tell(error: Exception) -> None:
    """In a line on standard error; what is no error of use, with its traceback."""
    if isinstance(error, Fp4guardError):
        click.echo(f"fp4guard: {error}", err=True)
        return
    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.echo("fp4guard: the harness failed: an error of fp4guard, or of a target's use of it", err=True)


def as_text(data: dict[str, Any]) -> str:
    """JSON."""
    return json.dumps(data, indent=2) + "\n"
