"""Worker processes and the server that they are forked from, as their client sees them: they start and they end."""

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
from typing import Any

from .server import NUMBER, REAP, START

#: The modules are found where this process finds its own: not in the folder at hand, where `python -c` looks first.
_SERVER = "import sys; sys.path = sys.argv[3:]; from fp4guard.isolation.server import main; main()"

#: Seconds for a worker that is asked to end; then it is killed. What it was asked for has been delivered.
_FAREWELL = 5.0


#: Seconds, 24 days: the system waits no longer at a time.
_FOREVER = 2.0**21


class HarnessError(Exception):
    """fp4guard itself failed; in a worker, the message is its traceback."""


class Silence(Enum):
    """Why a worker says nothing."""

    LATE = "nothing came in time"
    DEAD = "nothing will come"


@dataclass
class Worker:
    """A process. `owes`: it was asked for something, and has not answered. In `output` is what it prints."""

    number: int
    requests: Connection
    output: Path
    journal: Path
    owes: bool = False

    def send(self, question: object) -> None:
        """Ask for something; where the process has ended, `receive` tells."""
        self.owes = True
        with suppress(ConnectionError):
            self.requests.send(question)

    def receive(self, seconds: float) -> Any:
        """What it says next, or `Silence`."""
        try:
            # Its end is waited for too: a process that it has forked may keep the connection open.
            ended = os.pidfd_open(self.number)
        except ProcessLookupError:
            return Silence.DEAD
        try:
            ready = wait([self.requests, ended], min(seconds, _FOREVER))
        finally:
            os.close(ended)
        if not ready:
            return Silence.LATE
        try:
            return self.requests.recv() if self.requests.poll(0) else Silence.DEAD
        except (EOFError, OSError):  # which is what half a message is
            return Silence.DEAD

    def pass_on(self) -> None:
        """What the target printed is printed here, as it would be without a process of its own."""
        if self.output.stat().st_size:
            sys.stdout.write(self.output.read_text(errors="replace"))
            os.truncate(self.output, 0)

    def last_words(self, size: int = 4000) -> str:
        """The end of what it printed."""
        return self.output.read_bytes()[-size:].decode(errors="replace")


class Processes:
    """Starts workers and ends them. `started` counts them."""

    def __init__(self) -> None:
        self.started = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> Worker:
        """A new worker; HarnessError where the server does not start."""
        if self._server is not None and self._server.poll() is not None:
            self.close()  # something has ended it; a search goes on with another
        if self._server is None:
            self._start_server()
        assert self._folder is not None
        self.started += 1
        place = Path(self._folder.name) / str(self.started)
        output, journal = place.with_suffix(".out"), place.with_suffix(".journal")
        ours, theirs = socket.socketpair()
        with theirs, output.open("ab") as out, journal.open("wb") as record:
            number = self._command(START, [theirs.fileno(), out.fileno(), record.fileno()])
        return Worker(number, Connection(ours.detach()), output, journal)

    def end(self, worker: Worker) -> int:
        """Let a worker go, or stop it where it owes an answer, and what it has started; its wait status.

        What it has delivered counts, however it ends.
        """
        worker.requests.close()
        if worker.owes or not _gone(worker.number, _FAREWELL):
            with suppress(ProcessLookupError):
                os.kill(worker.number, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(worker.number, signal.SIGKILL)  # its number is its group's, until it is reaped
        return self._command(REAP + NUMBER.pack(worker.number))

    def close(self) -> None:
        """End the server, and with it the workers that are left, and remove their files."""
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        if self._folder is not None:
            self._folder.cleanup()
        self._server = self._control = self._folder = None

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
        except BaseException:
            self.close()  # it was interrupted: what is answered would be taken for the next command's answer
            raise
        if len(answer) < NUMBER.size:
            raise HarnessError("the server of worker processes has ended; its own message stands above")
        return int(NUMBER.unpack(answer)[0])


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
