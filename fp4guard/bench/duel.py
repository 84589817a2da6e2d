"""Two processes that are asked in turn for one timing at a time, so that both see the same machine.

Each side is a process of its own, as TRITON_INTERPRET is read when a kernel is imported, and stays alive. A request is
a line on its standard input, the answer a line of JSON: {"ms": 1.5}, or {"error": "..."}.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UsageError

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Side:
    """A process that times; a context manager that ends it."""

    def __init__(self, name: str, command: Sequence[str], *, interpret: bool) -> None:
        self.name = name
        env = {**os.environ, **_ONE_THREAD, "TRITON_INTERPRET": str(int(interpret))}
        # In a session of its own: Ctrl-C is for this process, which ends it.
        self._process = subprocess.Popen(
            command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *unused: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, request: str) -> float:
        """Milliseconds of one run; UsageError when it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise UsageError(f"{self.name}: {request}: the process ended with status {self._process.wait()}")
        found = json.loads(answer)
        if "error" in found:
            raise UsageError(f"{self.name}: {request}: {found['error']}")
        return float(found["ms"])


def serve(time: Callable[[str], float]) -> None:
    """Answer requests with what `time` returns, until standard input ends. What kernels print goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer: dict[str, object] = {"ms": time(line.rstrip("\n"))}
        except Exception as error:
            lines = str(error).splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {lines[0]}"}
        print(json.dumps(answer), file=answers, flush=True)


@dataclass(frozen=True)
class Duel:
    """Medians over the rounds; `ratio` is that of the rounds' own ratios."""

    first_ms: float
    second_ms: float
    ratio: float


def duel(first: Side, second: Side, request: str, rounds: int) -> Duel:
    """Time both in turn; one run of each first, which compiles, does not count."""
    first.ask(request), second.ask(request)
    pairs = [(first.ask(request), second.ask(request)) for _ in range(rounds)]
    return Duel(
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )
