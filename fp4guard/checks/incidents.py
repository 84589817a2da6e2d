"""Findings from the simulator's incidents: which line touched which byte of which tensor for which program."""

from __future__ import annotations

from ..memory import Region
from ..sim import HangError, Incident
from .finding import Finding

_VERBS = {
    "oob-read": ("reads", "read"),
    "oob-write": ("writes", "write"),
    "uninitialized-read": ("reads", "read"),
    "undefined-lane": ("is masked off without `other`", "are masked off without `other`"),
    "undefined-value": ("has", "have"),
    "assert-failed": ("fails", "fail"),
    "race": ("races", "race"),
    "int-overflow": ("accesses", "access"),
}

_DESCRIPTORS = ("tt.make_tensor_descriptor", "ttng.reinterpret_tensor_descriptor")


def from_incident(incident: Incident, effect: str | None) -> Finding:
    """The finding of an incident; `effect` says what it does to the outputs, where that was tried."""
    location, region = incident.site.location, incident.region
    rows = [("kernel", f"{location}   {location.source}".rstrip())]
    if region is not None:
        rows.append(("tensor", f"{region.name} {region.describe()}"))
    rows.append(("access", _access(incident)))
    if incident.against is not None:
        site, program = incident.against
        who = "several programs" if program is None else f"program {incident.coordinates(program)}"
        rows.append(("against", f"{who} at {site.location}   {site.location.source}".rstrip()))
    if effect is not None:
        rows.append(("effect", effect))
    return Finding(
        incident.kind,
        _headline(incident),
        region.name if region is not None else None,
        location.file,
        location.line,
        location.column,
        tuple(incident.programs),
        incident.low,
        tuple(rows),
    )


def from_hang(hang: HangError) -> Finding:
    """The finding of a loop that does not end."""
    place, programs = hang.location, tuple(hang.programs)
    rows = (("kernel", f"{place}   {place.source}".rstrip()), ("program", ", ".join(map(str, programs[:4]))))
    return Finding("hang", hang.why, None, place.file, place.line, place.column, programs, rows=rows)


def _headline(incident: Incident) -> str:
    lanes, region = incident.lanes, incident.region
    verb = _VERBS[incident.kind][lanes > 1]
    subject = f"{lanes} lane{'s' if lanes > 1 else ''} {verb}"
    if incident.kind == "undefined-value":
        return f"{subject} no defined result of `{incident.site.operation.name}`, and what they hold is used"
    if incident.kind == "assert-failed" and "promise" in incident.site.operation.attributes:
        return str(incident.site.operation.attributes["promise"])
    if incident.kind == "assert-failed" and incident.site.operation.name in _DESCRIPTORS:
        of = "" if region is None else f" of `{region.name}`"
        return f"a descriptor{of} is made whose address, or a stride but the last, is no multiple of 16 bytes"
    if incident.kind == "assert-failed":
        message = incident.site.operation.attributes.get("message")
        return f"{subject} an assumption" if message is None else f"{subject} the assertion {message!r}"
    if region is None:
        where = f"at {incident.low:#x}, which is in no tensor" if incident.low is not None else "of a load"
        return f"{subject} {where}"
    if incident.kind == "undefined-lane":
        return f"{subject} in a load of `{region.name}`, and what they hold is used"
    if incident.kind == "race":
        return f"{subject} for `{region.name}` with {_opponent(incident)}"
    if incident.kind == "int-overflow":
        buffers = incident.site.operation.name.startswith("amdg.buffer_")
        what = (
            "is outside of the 2^31 bytes that a buffer operation reaches" if buffers else "overflowed its integer type"
        )
        return f"{subject} `{region.name}` at an offset that {what}"
    if incident.kind == "uninitialized-read":
        return f"{subject} `{region.name}` where nothing was written"
    assert incident.low is not None
    return f"{subject} `{region.name}` {_beyond(region, incident.low)}"


def _opponent(incident: Incident) -> str:
    """Who the lanes of a race race with."""
    site, program = incident.against or (incident.site, None)
    if site is not incident.site:
        return "another program"
    who = "another lane" if incident.program_ids == {program} else "another program"
    return f"{who} in the same operation" if incident.site.operation.name != "tt.store" else f"{who} in the same store"


def _beyond(region: Region, low: int) -> str:
    if low < 0:
        return "before its start"
    row = _row(region, low)
    return "beyond its end" if row is None else f"beyond row {row[0]}"


def _row(region: Region, offset: int) -> tuple[int, int] | None:
    """The row that an offset lies behind, and the row's last byte; None when the tensor has no gaps between rows."""
    if len(region.shape) != 2 or region.dense or 0 in region.shape:
        return None
    size = region.dtype.itemsize
    # Rows lie one behind the other along the dimension with the larger stride, whichever it is.
    outer = 0 if region.strides[0] >= region.strides[1] else 1
    step, length = region.strides[outer] * size, region.shape[1 - outer] * region.strides[1 - outer] * size
    row = min(offset // step, region.shape[outer] - 1)
    return row, row * step + length - 1


def _access(incident: Incident) -> str:
    programs = incident.programs
    first = f"program {programs[0]}" if programs else "no program"
    if (more := len(incident.program_ids) - 1) > 0:
        first += f" and {more} more"
    if incident.low is None or incident.high is None or incident.region is None:
        return first
    text = f"{first}, bytes {incident.low:+d}..{incident.high:+d}"
    row = _row(incident.region, incident.low)
    if row is not None and incident.low > 0:
        return f"{text}; the row ends at {row[1]:+d}"
    last = incident.region.last - incident.region.base - 1
    return f"{text}; the tensor is +0..{last:+d}"
