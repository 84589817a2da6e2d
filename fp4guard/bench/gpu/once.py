"""`python -m fp4guard.bench.gpu.once ADDRESS`: the launches of cases, without guards, for other tools to watch."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Client
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from ...gpu.device import current_gpu
from ...gpu.plain import PlainMemory
from ...isolation.request import Request
from ...sim.hooks import Hooks
from .launches import launches_of, unanswered


def run(request: Request) -> str | None:
    """Run the target once; why nothing was launched. An exception of the target's own that comes later is told and is
    no failure: the tool has seen what it can see.
    """
    target = request.load()
    device = current_gpu().device
    launched: list[str] = []

    def noted(original: Callable[..., Any]) -> Callable[..., Any]:
        def launch(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(kernel, *args, **kwargs)
            launched.append(kernel.fn.__name__)
            return result

        return launch

    with unanswered(), Hooks((JITFunction, "run", noted)).installed():
        try:
            launches_of(target).function(PlainMemory(request.case, {}, device), **request.arguments)
            torch.cuda.synchronize(device)
        except Exception as error:
            traceback.print_exc()
            if not launched:
                return f"did not run, {type(error).__name__}"
    return None if launched else "did not run: nothing is launched"


def main(address: str) -> None:
    """Run what comes, and answer each when it is done, until the other end is closed."""
    with Client(address) as cases, suppress(EOFError):
        while True:
            answer = run(cases.recv())
            torch.cuda.synchronize()  # raises, and so ends the process, where the device is lost
            cases.send(answer)


if __name__ == "__main__":
    main(sys.argv[1])
