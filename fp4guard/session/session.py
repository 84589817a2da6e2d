"""One run of code that knows nothing of fp4guard, guarded: what it allocates, what it launches, what it asks of a GPU.

The code runs once, so nothing can be learned from a second run of it, as for a target. What is found:

- every access out of bounds, overflow of an address, race, failed assertion and loop that does not end, at its launch;
- what depends on memory that nobody wrote, on a masked lane without `other`, or on an operation without a result: a
  launch that uses such is run again from the same memory with other poison. It is a finding when other addresses are
  accessed then, or when code on the host reads bytes that came out differently, there or after further launches;
- what is in question only: memory that a kernel was to write, and that code on the host reads before anything was
  written there, is a note.

What is not found: wrong numbers, which are for the code's own assertions; launches of other threads and processes.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton

from .. import included
from ..checks import Finding
from ..checks.incidents import from_hang, from_incident
from ..errors import Fp4guardError
from ..memory import ALL_ONES, GuardAllocations, Memory, Region
from ..sim import Incident
from ..sim.callers import launching_line
from ..sim.host import Emulation
from ..ttir import Arch, Location
from .launches import Outcome, RepeatingSimulator, describe, make_defined, make_undefined, undefined_in


class StopSession(BaseException):
    """Ends code at its first finding. No Exception: code that handles those must not go on."""


class Session:
    """The guard of one thread, and what it has found.

    `stop` ends the code at its first finding, with StopSession. `errors` are launches that fp4guard could not execute,
    whether or not the code has handled the exception.
    """

    def __init__(self, arch: Arch, stop: bool = False) -> None:
        self.memory = Memory(ALL_ONES, forgetful=True)
        self.host = Emulation(arch)
        self.host.devices.reading = self._about_to_read
        self.simulator = RepeatingSimulator(self.memory, arch, self._judge, self._refuse)
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.errors: list[Fp4guardError] = []
        self._stop = stop
        self._known: set[Any] = set()
        self._undefined: dict[Region, dict[Any, tuple[Incident, np.ndarray[Any, Any], str]]] = {}
        self._written: set[str] = set()

    @contextmanager
    def active(self) -> Iterator[None]:
        """While active, code of this thread is guarded."""
        allocations = _Watching(self.memory, self.host.again, self._about_to_read, lambda: bool(self._written))
        with self.host.active(), allocations, self.simulator.intercepting():
            yield

    def take(self) -> tuple[list[Finding], list[str], list[Fp4guardError]]:
        """Findings, notes and errors since the last time; the next may be the same again."""
        taken = self.findings, self.notes, self.errors
        self.findings, self.notes, self.errors = [], [], []
        self._known.clear()
        return taken

    def _refuse(self, error: Fp4guardError) -> None:
        self.errors.append(error)

    def _judge(self, outcome: Outcome) -> None:
        self._forget_expired()
        self._written |= {r.name for r in self.memory} if outcome.written is None else outcome.written
        for incident, changed in outcome.undefined:
            make_undefined(changed)
            for cause, effect in self._causes(incident, describe(changed)):
                for region, differs in changed.items():
                    self._leave_undefined(region, cause, differs, effect)
        for incident, known in outcome.found:
            self._add(_launched(from_incident(incident, known)))
        if outcome.hang is not None:
            self._add(_launched(from_hang(outcome.hang)))
        self._stop_if_found()

    def _causes(self, incident: Incident, effect: str) -> list[tuple[Incident, str]]:
        """What a launch did wrong: itself, or what an earlier one did that left undefined what it reads."""
        if incident.kind == "uninitialized-read" and incident.region in self._undefined:
            return [(cause, text) for cause, _, text in self._undefined[incident.region].values()]
        return [(incident, effect)]

    def _leave_undefined(self, region: Region, cause: Incident, differs: np.ndarray[Any, Any], effect: str) -> None:
        """Remember why bytes of a region are undefined; of what one line did many times, once."""
        causes = self._undefined.setdefault(region, {})
        key = cause.kind, cause.site, cause.region
        if key in causes:
            differs = differs | causes[key][1]
        causes[key] = cause, differs, effect

    def _about_to_read(self, tensor: torch.Tensor) -> None:
        """Code on the host reads a tensor. What it is told of is told once, and counts as defined from then on."""
        try:
            region = self.memory.find(tensor.data_ptr()) if tensor.numel() else None
        except RuntimeError:  # sparse tensors and those of transformations have no address
            return
        if region is None or region.sealed:
            return
        causes = self._undefined.get(region, {})
        read = {key: one for key, one in causes.items() if undefined_in(region, tensor, one[1]).any()}
        for key, (cause, differs, effect) in read.items():
            self._add(_read(from_incident(cause, effect), region))
            make_defined(region, differs)
            del causes[key]
        if region in self._undefined and not causes:
            del self._undefined[region]
        if not read and region.name in self._written and (fresh := undefined_in(region, tensor)).any():
            where = _host_line()
            count = f"{int(fresh.sum())} of {fresh.size} elements"
            what = f"{where} reads {count} of `{region.name}` to which nothing was written"
            self._note(f"{what}   {where.source}".rstrip())
        self._stop_if_found()

    def _add(self, finding: Finding) -> None:
        if finding.key not in self._known:
            self._known.add(finding.key)
            self.findings.append(finding)

    def _note(self, text: str) -> None:
        if text not in self._known:
            self._known.add(text)
            self.notes.append(text)

    def _stop_if_found(self) -> None:
        if self._stop and self.findings:
            raise StopSession

    def _forget_expired(self) -> None:
        for region in [region for region in self._undefined if region.expired]:
            del self._undefined[region]
        if len(self._written) > 2 * len(self.memory.regions):
            self._written &= {region.name for region in self.memory}


class _Watching(GuardAllocations):  # type: ignore[no-untyped-call]
    """Tells of what torch reads, once there is something to be told of."""

    def __init__(
        self,
        memory: Memory,
        within: Callable[[], Any],
        read: Callable[[torch.Tensor], None],
        wanted: Callable[[], bool],
    ) -> None:
        super().__init__(memory, within)
        self._read, self._wanted = read, wanted

    def about_to_run(self, func: Any, args: Any, kwargs: Any) -> None:
        if not self._wanted() or not _reads(func):
            return
        unread = _overwritten(func)
        for place, value in enumerate(args):
            if place not in unread:
                self._each(value)
        for name, value in kwargs.items():
            if name not in unread:
                self._each(value)

    def _each(self, value: Any) -> None:
        for tensor in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and tensor.device.type == "cpu":
                self._read(tensor)


@cache
def _reads(func: Any) -> bool:
    """Whether an operator looks at elements; one that makes a view does not, nor one that only asks for a shape."""
    schema = func._schema
    views = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
    return not views and torch.Tag.inplace_view not in func.tags and schema.name not in _SHAPES


_SHAPES = frozenset(
    "aten::" + name
    for name in ("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like",
                 "new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full", "set_", "resize_", "lift_fresh")
)  # fmt: skip

#: In-place operators that do not look at what they write over.
_OVERWRITES = frozenset(
    "aten::" + name
    for name in ("copy_", "fill_", "zero_", "random_", "normal_", "uniform_", "exponential_", "bernoulli_", "cauchy_",
                 "log_normal_", "geometric_", "index_put_", "index_copy_", "index_fill_", "masked_fill_", "scatter_",
                 "masked_scatter_", "_foreach_zero_", "_foreach_copy_")
)  # fmt: skip


@cache
def _overwritten(func: Any) -> frozenset[int | str]:
    """The arguments that an operator writes without a look: by position, and by name."""
    schema = func._schema
    return frozenset(
        key
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None
        and argument.alias_info.is_write
        and (schema.name in _OVERWRITES or argument.kwarg_only)
        for key in (place, argument.name)
    )


def _launched(finding: Finding) -> Finding:
    """With the line of host code that launched the kernel."""
    place = launching_line()
    if place is None:
        return finding
    row = ("launch", f"{place}   {place.source}".rstrip())
    return replace(finding, rows=(*finding.rows, row))


def _read(finding: Finding, region: Region) -> Finding:
    """With the line of host code that reads what is undefined."""
    where = _host_line()
    row = ("read", f"{where} reads `{region.name}`   {where.source}".rstrip())
    return replace(finding, rows=(*finding.rows, row))


def _host_line() -> Location:
    """The innermost line of code that is nobody's but the user's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    file, number = frame.f_code.co_filename, frame.f_lineno
    line = linecache.getline(file, number)
    return Location(file, number, 1 + len(line) - len(line.lstrip()))


_LIBRARIES = tuple(Path(module.__file__ or "").parent for module in (torch, np, triton, included))


@cache
def _is_library(file: str) -> bool:
    if included.ROOT is not None and Path(file).is_relative_to(included.ROOT):
        return False  # in a wheel, the included kernels lie in the package
    return any(Path(file).is_relative_to(root) for root in _LIBRARIES)
