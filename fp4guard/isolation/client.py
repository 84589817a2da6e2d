"""The client of workers: asks for cases, and makes a finding of whatever becomes of a worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from hypothesis.errors import UnsatisfiedAssumption

from ..checks import Finding
from ..checks.coverage import Coverage
from ..errors import Fp4guardError, UnsupportedError, UsageError
from ..fuzzing.case import Case
from ..fuzzing.examine import Report
from ..fuzzing.setting import Setting
from ..fuzzing.target import DEFAULT_ARCH, Target
from ..ttir import Arch
from .deaths import crash, hang, with_output
from .journal import read_journal
from .request import Answer, AssumedAway, Begun, Examined, Failed, Outcome, Probe, Request
from .server import NUMBER, REAP, START

#: The modules are found where this process finds its own: not in the folder at hand, where `python -c` looks first.
_SERVER = "import sys; sys.path = sys.argv[3:]; from fp4guard.isolation.server import main; main()"

#: Seconds for a GPU to start, or a target to be loaded: on a busy machine it takes long, which no case is to blame for.
_START = 120.0

#: Seconds for a worker that is asked to end; then it is killed. What it was asked for has been delivered.
_FAREWELL = 5.0


class Silence(Enum):
    """Why there is no answer."""

    LATE = "none came in time"
    DEAD = "none will come"


class HarnessError(Exception):
    """fp4guard itself failed in a worker; the message is the worker's traceback."""


@dataclass(frozen=True)
class _Worker:
    number: int
    requests: Connection
    output: Path
    journal: Path


class IsolatedExaminer:
    """Examines cases in a worker process, and replaces it when a case has ended it.

    A context manager: afterwards no process and no file is left. Raises what `examine_case` raises.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._worker: _Worker | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._arch: str | None = None
        self._asked = False  # and not answered yet
        self.workers = 0

    def __enter__(self) -> IsolatedExaminer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def examine(self, target: Target, case: Case, arch: Arch | None, defect: str | None) -> Report:
        """As `examine_case`, in the worker."""
        worker = self._worker or self._start()
        request = Request.of(target, case, None if arch is None else arch.name, defect, self.setting)
        answer = self._ask(worker, request)
        if isinstance(answer, Begun):
            answer = self._answer(worker, self.setting.timeout)
        elif answer is Silence.LATE:
            self._lost(worker, answer)
            raise HarnessError(f"{request.spec} is not loaded within {_START:g} s")
        if isinstance(answer, AssumedAway):
            raise UnsatisfiedAssumption
        if isinstance(answer, Outcome):
            raise answer.exception
        if isinstance(answer, Failed):
            raise _error(answer)
        if not isinstance(answer, Examined):
            ran = self._arch or target.arch_for(arch).name
            return Report(target, case, ran, (self._lost(worker, answer),), 1, defect, Coverage(), self.setting)
        findings = answer.findings
        if answer.last:
            # The device has failed: what its driver printed tells more than its status.
            evidence = _tail(worker.output), read_journal(worker.journal)
            findings = tuple(with_output(finding, *evidence) for finding in findings)
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

    def _probe(self, worker: _Worker) -> str:
        """The architecture of the worker's GPU; UsageError where there is none."""
        answer = self._ask(worker, Probe())
        if isinstance(answer, Failed):
            raise _error(answer)
        if answer is Silence.LATE:
            self._lost(worker, answer)
            raise HarnessError(f"the GPU does not start within {_START:g} s")
        if not isinstance(answer, str):
            raise HarnessError(f"the GPU does not start: {self._lost(worker, answer).message}")
        return answer

    def close(self) -> None:
        """End the worker, at once where it is busy, and the server, and remove their files."""
        try:
            if self._worker is not None:
                self._end(self._worker)
        finally:
            if self._control is not None:
                self._control.close()
            if self._server is not None:
                self._server.kill()
                self._server.wait()
            if self._folder is not None:
                self._folder.cleanup()
            self._server = self._control = self._folder = None

    def _ask(self, worker: _Worker, question: Request | Probe) -> Answer | Begun | Silence:
        """What comes first of a worker that is asked something."""
        self._asked = True
        with suppress(ConnectionError):  # it may have ended, which shows below
            worker.requests.send(question)
        return self._answer(worker, _START)

    def _answer(self, worker: _Worker, seconds: float) -> Answer | Begun | Silence:
        try:
            # Its end is waited for too: a process that it has forked may keep the connection open.
            ended = os.pidfd_open(worker.number)
            try:
                ready = wait([worker.requests, ended], seconds)
            finally:
                os.close(ended)
            if not ready:
                return Silence.LATE
            if not worker.requests.poll(0):
                return Silence.DEAD
            answer: Answer | Begun = worker.requests.recv()
        except (EOFError, ConnectionError, ProcessLookupError):
            return Silence.DEAD
        if isinstance(answer, Begun):
            return answer
        self._asked = False
        if not (isinstance(answer, Examined) and answer.last):
            self._pass_on(worker)
        return answer

    def _pass_on(self, worker: _Worker) -> None:
        """What the target printed is printed here, as it would be without a process of its own."""
        if worker.output.stat().st_size:
            sys.stdout.write(worker.output.read_text(errors="replace"))
            os.truncate(worker.output, 0)

    def _lost(self, worker: _Worker, silence: Any) -> Finding:
        """What became of a worker that gave no answer."""
        self._asked = silence is Silence.LATE
        status = self._end(worker)
        evidence = _tail(worker.output), read_journal(worker.journal)
        return hang(self.setting.timeout, *evidence) if silence is Silence.LATE else crash(status, *evidence)

    def _end(self, worker: _Worker) -> int:
        """Let a worker go, or stop it where it owes an answer, and what it has started; its wait status.

        What it has delivered counts, however it ends.
        """
        worker.requests.close()
        self._worker = None
        if self._asked or not _gone(worker.number, _FAREWELL):
            with suppress(ProcessLookupError):
                os.kill(worker.number, signal.SIGKILL)
        self._asked = False
        with suppress(ProcessLookupError):
            os.killpg(worker.number, signal.SIGKILL)  # its number is its group's, until it is reaped
        return self._command(REAP + NUMBER.pack(worker.number))

    def _start(self) -> _Worker:
        if self._server is not None and self._server.poll() is not None:
            self.close()  # something has ended it; a search goes on with another
        if self._server is None:
            self._start_server()
        assert self._folder is not None
        self.workers += 1
        place = Path(self._folder.name) / str(self.workers)
        output, journal = place.with_suffix(".out"), place.with_suffix(".journal")
        ours, theirs = socket.socketpair()
        with theirs, output.open("ab") as out, journal.open("wb") as record:
            number = self._command(START, [theirs.fileno(), out.fileno(), record.fileno()])
        self._worker = worker = _Worker(number, Connection(ours.detach()), output, journal)
        if self.setting.device != "sim":
            self._arch = self._probe(worker)
        return worker

    def _start_server(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fp4guard-", ignore_cleanup_errors=True)
        modules = [path or str(Path.cwd()) for path in sys.path]
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _SERVER, str(theirs.fileno()), self._folder.name, *modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"TMPDIR": self._folder.name},  # what a compiler leaves there when it is killed, too
                start_new_session=True,
            )

    def _command(self, command: bytes, descriptors: list[int] | None = None) -> int:
        """Send a command to the server, and return the number that it answers."""
        assert self._control is not None
        try:
            socket.send_fds(self._control, [command], descriptors or [])
            answer = self._control.recv(NUMBER.size, socket.MSG_WAITALL)
        except ConnectionError:
            answer = b""
        if len(answer) < NUMBER.size:
            raise HarnessError("the server of worker processes has ended; its own message stands above")
        return int(NUMBER.unpack(answer)[0])


def _error(failed: Failed) -> Exception:
    known: dict[str | None, Any] = {"UsageError": UsageError, "UnsupportedError": UnsupportedError}
    error: Exception = known.get(failed.kind, HarnessError)(*failed.parts)
    assert failed.kind is None or isinstance(error, Fp4guardError)
    return error


def _gone(number: int, seconds: float) -> bool:
    """Whether a process ends in time; it is not reaped, so its number stays its own."""
    try:
        descriptor = os.pidfd_open(number)
    except ProcessLookupError:
        return True  # with the server, which is noticed when it is spoken to
    try:
        return bool(wait([descriptor], seconds))
    finally:
        os.close(descriptor)


def _tail(output: Path, size: int = 4000) -> str:
    """The end of what a worker wrote."""
    return output.read_bytes()[-size:].decode(errors="replace")
