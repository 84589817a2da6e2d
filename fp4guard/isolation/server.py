"""The fork server: a process that has imported everything, and makes workers of itself in milliseconds.

Importing torch and Triton takes seconds, and a search that shrinks a fault needs a hundred workers. The server never
touches a GPU: what starts CUDA cannot be forked.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import shutil
import signal
import socket
import struct
import sys
import traceback
from multiprocessing.connection import Connection

#: Imported before the first fork, all that a case needs; torch imports the last of them when it first feels like it.
_PRELOADED = ("fp4guard.isolation.worker", "fp4guard.fuzzing.loading", "torch._dynamo")

#: Commands, each one byte: start a worker on three descriptors that come along, reap the one whose number follows.
START, REAP = b"S", b"R"
NUMBER = struct.Struct("q")

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the socket whose descriptor is the first argument until its other end is closed, by the client's end too.

    Then the second argument, the folder of the workers' files, is removed, for the client may have been killed.
    """
    control, folder = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    del sys.argv[1:]
    try:
        _serve(control)
    except ConnectionError:
        pass  # the client ended while it was owed an answer
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(control: socket.socket) -> None:
    for name in _PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the client's to act upon
    while True:
        command, descriptors, _, _ = socket.recv_fds(control, 1 + NUMBER.size, 3)
        if not command:
            return
        answer = _start(control, *descriptors) if command == START else _reap(*NUMBER.unpack(command[1:]))
        control.sendall(NUMBER.pack(answer))


def _start(control: socket.socket, requests: int, output: int, journal: int) -> int:
    """The process number of a new worker."""
    server = os.getpid()
    child = os.fork()
    if child:
        for descriptor in (requests, output, journal):
            os.close(descriptor)
        return child
    status = 70
    try:
        control.close()
        _die_with(server)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        faulthandler.enable(2)  # a fault in native code shows the Python line that led to it
        from .worker import serve

        serve(Connection(requests), journal)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # Nothing of the server's may be cleaned up in its copy, and what a device does in the end is not waited for.
        try:
            flush()
        finally:
            os._exit(status)


def flush() -> None:
    """Hand on what was printed, unless the target has closed the stream."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _die_with(server: int) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(70)


def _reap(number: int) -> int:
    """The wait status of a worker that has ended, or is about to."""
    try:
        return os.waitpid(number, 0)[1]
    except ChildProcessError:
        return 0
