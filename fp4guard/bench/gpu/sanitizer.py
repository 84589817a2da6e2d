"""compute-sanitizer, the peer: modules of ours run below it, and what it says of them is counted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

from ...errors import UsageError

_PROGRAM = "compute-sanitizer"

#: Seconds for a module below a tool.
_PATIENCE = 240.0

#: The last line of what it prints: `========= ERROR SUMMARY: 3 errors`.
_SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) error")


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


PLAIN, MEMCHECK = Tool(None), Tool("memcheck")

#: What defects are shown to.
TOOLS = (MEMCHECK, Tool("memcheck", caching=False), Tool("initcheck", caching=False))


def is_there() -> bool:
    """Whether compute-sanitizer is installed."""
    return shutil.which(_PROGRAM) is not None


def run_below(tool: Tool, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments`, below a tool. UsageError where it does not end, or compute-sanitizer is missing."""
    if tool.tool is not None and not is_there():
        raise UsageError(f"{_PROGRAM} is not on the PATH; it comes with CUDA's toolkit")
    below = [] if tool.tool is None else [_PROGRAM, "--tool", tool.tool]
    # Of torch's documented settings: https://docs.pytorch.org/docs/stable/notes/cuda.html
    environment = os.environ | ({} if tool.caching else {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    command = [*below, sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=environment,
        start_new_session=True,
    ) as running:  # fmt: skip
        try:
            output, error = running.communicate(timeout=_PATIENCE)
        except BaseException as ended:
            os.killpg(running.pid, signal.SIGKILL)  # what runs below the tool is a process of its own
            if isinstance(ended, subprocess.TimeoutExpired):
                raise UsageError(f"{tool.name}: {module} did not end within {_PATIENCE:g} s") from None
            raise
    return subprocess.CompletedProcess(command, running.returncode, output, error)


def errors_below(tool: Tool, module: str, *arguments: str) -> int:
    """How many errors a tool tells of. UsageError where it tells nothing at all."""
    ended = run_below(tool, module, *arguments)
    told = _SUMMARY.findall(ended.stdout + ended.stderr)
    if not told:
        raise UsageError(f"{tool.name}: status {ended.returncode}, and no summary: {ended.stderr[-2000:]}")
    return int(told[-1])
