"""How long something may take, as options and ini values say it."""

from __future__ import annotations

import re

from .errors import UsageError

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """Of `90`, `90s`, `5m` or `2h`; UsageError for what is none of these, and for 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{text!r}: allowed are numbers above 0 with s, m or h, such as 60s, 5m, 2h")
    return float(match[1]) * _UNITS[match[2]]
