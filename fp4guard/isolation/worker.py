"""A worker: examines one case after the other, as it is asked, until it is told to end or a case ends it."""

from __future__ import annotations

import faulthandler
import io
import os
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
from hypothesis.errors import HypothesisDeprecationWarning, UnsatisfiedAssumption

from ..errors import Fp4guardError, UnsupportedError
from ..fuzzing.examine import Report, examine_case
from ..fuzzing.target import Target
from ..gpu.device import current_gpu
from ..gpu.examine import examine_on_gpu
from .journal import Journal
from .request import Answer, AssumedAway, Begun, Examined, Failed, Outcome, Probe, Request
from .server import flush

#: The worker tells where it is shortly before its client's patience ends: Python's stack, on standard error.
_BEFORE_THE_END = 0.95


def serve(requests: Connection, journal_descriptor: int) -> None:
    """Answer requests until the other end closes, or until one leaves the process of no more use."""
    journal = Journal(io.FileIO(journal_descriptor, "wb"))
    warnings.filterwarnings("ignore", "Using `assume` outside", HypothesisDeprecationWarning)
    while True:
        try:
            request: Request | Probe = requests.recv()
        except EOFError:
            return
        if isinstance(request, Probe):
            requests.send(_told(_started))
            continue
        journal.case(request.spec, repr(request.case))
        answer = _answer(request, requests, journal)
        faulthandler.cancel_dump_traceback_later()
        flush()
        requests.send(answer)
        if isinstance(answer, Examined) and answer.last:
            return


def _answer(request: Request, client: Connection, journal: Journal) -> Answer:
    """Examine the case."""

    def examined() -> Examined:
        os.chdir(request.folder)  # the client may have changed it, and so may the case before
        faulthandler.dump_traceback_later(request.patience * _BEFORE_THE_END, file=2)
        target = request.load()
        faulthandler.dump_traceback_later(request.setting.timeout * _BEFORE_THE_END, file=2)
        client.send(Begun())
        return _DEVICES[request.setting.device](target, request, journal)

    return _told(examined)


def _told(answer: Callable[[], Examined | str]) -> Answer:
    """The answer; whatever is raised is one too."""
    try:
        return answer()
    except UnsatisfiedAssumption:
        return AssumedAway()
    except UnsupportedError as error:
        return Failed("UnsupportedError", (error.what, error.location, error.detail))
    except Fp4guardError as error:
        return Failed("UsageError", (str(error),))
    except BaseException as raised:
        if (outcome := Outcome.of(raised)) is not None:
            return outcome
        if not isinstance(raised, Exception):
            raise
        return Failed(None, (traceback.format_exc(),))


def _started() -> str:
    """The architecture of the GPU, whose context is made: that takes time, which is not the first case's."""
    gpu = current_gpu()
    torch.empty(1, device=gpu.device)
    return gpu.arch


def _simulated(target: Target, request: Request, journal: Journal) -> Examined:
    report = examine_case(target, request.case, request.wanted, request.defect)
    return _examined(report)


def _on_gpu(target: Target, request: Request, journal: Journal) -> Examined:
    setting = request.setting
    report, usable = examine_on_gpu(target, request.case, request.defect, setting.guard_pages, journal.launch)
    return _examined(report, last=not usable)


def _examined(report: Report, last: bool = False) -> Examined:
    return Examined(report.arch, report.findings, report.runs, report.coverage, report.answered, last)


_DEVICES: dict[str, Callable[[Target, Request, Journal], Examined]] = {
    "sim": _simulated,
    "cuda": _on_gpu,
    "hip": _on_gpu,
}
