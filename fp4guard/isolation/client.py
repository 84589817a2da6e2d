"""The client of workers: asks for cases, and makes a finding of whatever becomes of a worker."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from hypothesis.errors import UnsatisfiedAssumption

from ..checks import Finding
from ..errors import Fp4guardError, UnsupportedError, UsageError
from ..fuzzing.case import Case
from ..fuzzing.examine import Report
from ..fuzzing.setting import Setting
from ..fuzzing.target import DEFAULT_ARCH, Target
from ..ttir import Arch
from .deaths import crash, hang, not_loaded, with_output
from .journal import read_journal
from .processes import HarnessError, Processes, Silence, Worker
from .request import PATIENCE, Answer, AssumedAway, Begun, Examined, Failed, Outcome, Probe, Request


class IsolatedExaminer:
    """Examines cases in a worker process, and replaces it when a case has ended it.

    A context manager: afterwards no process and no file is left. Raises what `examine_case` raises, and UsageError for
    a target that a worker cannot load.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._processes = Processes()
        self._worker: Worker | None = None
        self._arch: str | None = None
        self._not_loaded: dict[tuple[str, str, str | None], UsageError] = {}

    def __enter__(self) -> IsolatedExaminer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, at once where it is busy, and the server, and remove their files."""
        try:
            if self._worker is not None:
                self._end(self._worker)
        finally:
            self._processes.close()

    def examine(self, target: Target, case: Case, arch: Arch | None, defect: str | None) -> Report:
        """As `examine_case`, in the worker."""
        request = Request.of(target, case, None if arch is None else arch.name, defect, self.setting)
        worker, answer = self._begun(request)
        if isinstance(answer, Begun):
            answer = self._answer(worker, self.setting.timeout)
        if isinstance(answer, AssumedAway):
            raise UnsatisfiedAssumption
        if isinstance(answer, Outcome):
            raise answer.exception
        if isinstance(answer, Failed):
            raise _error(answer)
        if not isinstance(answer, Examined):
            ran = self._arch or target.arch_for(arch).name
            return Report(target, case, ran, (self._lost(worker, answer),), 1, defect, setting=self.setting, lost=True)
        findings = answer.findings
        if answer.last:
            # The device has failed: what its driver printed tells more than its status.
            findings = tuple(with_output(finding, *_evidence(worker)) for finding in findings)
            self._end(worker)
        return Report(
            target, case, answer.arch, findings, answer.runs, defect, answer.coverage, self.setting, answer.answered
        )

    @property
    def arch(self) -> str:
        """The architecture of the device; sm_90, where nothing else is said, in the simulator."""
        if self._arch is None and self.setting.device != "sim":
            self._start()
        return self._arch or DEFAULT_ARCH

    def _begun(self, request: Request) -> tuple[Worker, Answer | Begun | Silence]:
        """A worker that is asked for a case, and what it says first: that the case begins, or why it does not.

        UsageError where it dies, or comes to no end, before.
        """
        if request.what in self._not_loaded:
            raise self._not_loaded[request.what]  # hypothesis asks again and again, and each time may be a long one
        if self._worker is not None and self._worker.owes:
            self._end(self._worker)  # a case was interrupted, and nobody waits for it any more
        kept = self._worker
        worker = kept or self._start()
        worker.send(request)
        answer = self._answer(worker, request.patience)
        if not isinstance(answer, Silence):
            return worker, answer
        status = self._end(worker)
        if answer is Silence.DEAD and kept is not None:
            return self._begun(request)  # it has died between two cases: what it delivered counts, and this one is new
        dead = status if answer is Silence.DEAD else None
        raise self._not_loaded.setdefault(
            request.what, not_loaded(request.spec, dead, request.patience, worker.last_words())
        )

    def _answer(self, worker: Worker, seconds: float) -> Answer | Begun | Silence:
        answer: Answer | Begun | Silence = worker.receive(seconds)
        worker.owes = isinstance(answer, Begun) or answer is Silence.LATE
        if not (isinstance(answer, (Begun, Silence)) or (isinstance(answer, Examined) and answer.last)):
            worker.pass_on()
        return answer

    def _lost(self, worker: Worker, silence: Any) -> Finding:
        """What became of a worker that gave no answer."""
        status = self._end(worker)
        evidence = _evidence(worker)
        return hang(self.setting.timeout, *evidence) if silence is Silence.LATE else crash(status, *evidence)

    def _start(self) -> Worker:
        self._worker = worker = self._processes.start()
        if self.setting.device != "sim":
            self._arch = self._probe(worker)
        return worker

    def _probe(self, worker: Worker) -> str:
        """The architecture of the worker's GPU; UsageError where there is none."""
        worker.send(Probe())
        answer = self._answer(worker, PATIENCE)
        if isinstance(answer, Failed):
            self._end(worker)
            raise _error(answer)
        if answer is Silence.LATE:
            self._end(worker)
            raise HarnessError(f"the GPU does not start within {PATIENCE:g} s")
        if not isinstance(answer, str):
            raise HarnessError(f"the GPU does not start: {self._lost(worker, answer).message}")
        return answer

    def _end(self, worker: Worker) -> int:
        """End a worker, which this examiner has no more then; its wait status."""
        self._worker = None
        return self._processes.end(worker)


def _error(failed: Failed) -> Exception:
    known: dict[str | None, Any] = {"UsageError": UsageError, "UnsupportedError": UnsupportedError}
    error: Exception = known.get(failed.kind, HarnessError)(*failed.parts)
    assert failed.kind is None or isinstance(error, Fp4guardError)
    return error


def _evidence(worker: Worker) -> tuple[str, dict[str, Any]]:
    """What a worker leaves: the end of what it printed, and its journal."""
    return worker.last_words(), read_journal(worker.journal)
