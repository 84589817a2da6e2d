"""compute-sanitizer, the peer: modules of ours run below it, and what it says of them is counted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import IO, Any

from ...errors import UsageError

_PROGRAM = "compute-sanitizer"

#: Errors that a tool tells of before it falls silent, for the rest of its life.
_LIMIT = 10_000
#: Of all tools; and of one, for which an error ends the kernel, and not what comes after it.
_OPTIONS = ("--show-backtrace", "no", "--print-limit", str(_LIMIT))
_OPTIONS_OF = {"memcheck": ("--destroy-on-device-error", "kernel")}

#: Seconds for a module below a tool to end, and for one case to be run there.
_PATIENCE, _PATIENCE_OF_A_CASE = 240.0, 90.0

#: Seconds after the end of a case in which the tool, a process of its own, writes down what it saw.
_ECHO = 0.3

#: Seconds for what is killed to be gone.
_FAREWELL = 5.0

#: How the lines of the tools begin that tell of an error; those below it begin otherwise.
_ERRORS = tuple(
    f"========= {words}"
    for words in ("Invalid ", "Misaligned ", "Uninitialized ", "Out-of-bounds ", "Stack overflow", "Program hit ")
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of compute-sanitizer, None for none of them; `caching`: whether torch's allocator keeps memory.

    Where it does, small tensors lie in one piece of memory, and an access beyond one of them hits another.
    """

    tool: str | None
    caching: bool = True

    @property
    def name(self) -> str:
        return f"{self.tool or 'no tool'}{'' if self.caching else ', no caching'}"

    def below(self, module: str, *arguments: str) -> list[str]:
        """The command that runs a module. UsageError where compute-sanitizer is missing."""
        if self.tool is not None and not is_there():
            raise UsageError(f"{_PROGRAM} is not on the PATH; it comes with CUDA's toolkit")
        tool = [] if self.tool is None else [_PROGRAM, "--tool", self.tool, *_OPTIONS, *_OPTIONS_OF.get(self.tool, ())]
        return [*tool, sys.executable, "-m", module, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Of the process; see https://docs.pytorch.org/docs/stable/notes/cuda.html for the setting of torch."""
        return os.environ | ({} if self.caching else {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})


PLAIN, MEMCHECK = Tool(None), Tool("memcheck")

#: What defects are shown to.
TOOLS = (MEMCHECK, Tool("memcheck", caching=False), Tool("initcheck", caching=False))


def is_there() -> bool:
    """Whether compute-sanitizer is installed."""
    return shutil.which(_PROGRAM) is not None


def run_below(tool: Tool, module: str) -> subprocess.CompletedProcess[str]:
    """`python -m module`, below a tool. UsageError where it does not end."""
    command = tool.below(module)
    with tempfile.TemporaryDirectory(prefix="fp4guard-", ignore_cleanup_errors=True) as folder, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        env=tool.environment | {"TMPDIR": folder}, start_new_session=True,
    ) as running:  # fmt: skip
        try:
            output, error = running.communicate(timeout=_PATIENCE)
        except BaseException as ended:
            _kill(running)
            if isinstance(ended, subprocess.TimeoutExpired):
                raise UsageError(f"{tool.name}: {module} did not end within {_PATIENCE:g} s") from None
            raise
    return subprocess.CompletedProcess(command, running.returncode, output, error)


class NothingRanError(UsageError):
    """A case launched nothing, so that there was nothing to see."""


class EndedError(UsageError):
    """A case ended the process, and the tool said nothing of it."""


class Watched:
    """A module that runs one case after the other below a tool; it is started anew after one that it does not survive,
    and before the tool has told of as many errors as it ever will.

    The module gets an address for `multiprocessing.connection.Client`, and answers each case when it is done: None, or
    why nothing was launched.
    """

    def __init__(self, tool: Tool, module: str) -> None:
        self._tool, self._module = tool, module
        self._folder = tempfile.TemporaryDirectory(prefix="fp4guard-", ignore_cleanup_errors=True)
        self._running: subprocess.Popen[bytes] | None = None
        self._cases: Connection[Any, Any] | None = None
        self._output: IO[bytes] | None = None
        self._told = 0

    def errors(self, case: object) -> int:
        """How many errors the tool tells of while a case runs.

        Where it tells of none, raises NothingRanError when the case launches nothing, EndedError when it ends the
        process. UsageError when it does not come to an end.
        """
        if self._output is not None:
            self._told += _errors(self._output.read())  # of the case before, which came late
        if self._running is None or self._running.poll() is not None or self._told > _LIMIT // 2:
            self.stop()
            self._start()
        assert self._cases is not None and self._running is not None and self._output is not None
        answer: str | None = None
        ended = True
        with suppress(EOFError, ConnectionError):
            self._cases.send(case)
            if not wait([self._cases], _PATIENCE_OF_A_CASE):
                self.stop()
                raise UsageError(f"{self._tool.name}: a case did not end within {_PATIENCE_OF_A_CASE:g} s")
            answer = self._cases.recv()
            ended = False
        if ended:
            with suppress(subprocess.TimeoutExpired):
                self._running.wait(_PATIENCE_OF_A_CASE)  # with the tool's last words
        time.sleep(_ECHO)
        output = self._output.read()
        errors = _errors(output)
        self._told += errors
        if ended:
            self.stop()
        if ended and not errors:
            words = " ".join(output.decode(errors="replace").splitlines())
            raise EndedError(f"{self._tool.name}: {self._module} has ended: {words[-500:]}")
        if answer is not None and not errors:
            raise NothingRanError(f"{self._tool.name}: {answer}")
        return errors

    def close(self) -> None:
        """End what runs, for good.

        A signal's handler may be what calls this, while `Popen.wait` holds its lock: the process is waited for without.
        """
        if self._running is not None:
            with suppress(ProcessLookupError):
                ended = os.pidfd_open(self._running.pid)
                _kill(self._running)
                wait([ended], _FAREWELL)
                os.close(ended)
        self._folder.cleanup()

    def stop(self) -> None:
        """End what runs; the next case starts it again."""
        if self._cases is not None:
            self._cases.close()
        if self._running is not None:
            _kill(self._running)
            self._running.wait()
        if self._output is not None:
            self._output.close()
        self._cases = self._running = self._output = None
        self._told = 0

    def _start(self) -> None:
        folder = Path(self._folder.name)
        output = folder / "output"
        with Listener(str(folder / "cases"), "AF_UNIX") as listener, output.open("wb") as file:
            command = self._tool.below(self._module, str(folder / "cases"))
            self._running = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env=self._tool.environment | {"TMPDIR": str(folder)}, start_new_session=True,
            )  # fmt: skip
            calling, ended = listener._listener._socket, os.pidfd_open(self._running.pid)  # type: ignore[attr-defined]
            try:
                called = calling in wait([calling, ended], _PATIENCE_OF_A_CASE)
            finally:
                os.close(ended)
            if not called:
                self.stop()
                raise UsageError(f"{self._tool.name}: {self._module} does not start: {output.read_text()[-2000:]}")
            self._cases = listener.accept()
        self._output = output.open("rb")
        self._output.read()


def _errors(output: bytes) -> int:
    return sum(line.startswith(_ERRORS) for line in output.decode(errors="replace").splitlines())


def _kill(running: subprocess.Popen[Any]) -> None:
    """What runs below a tool is a process of its own, of the same group."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
