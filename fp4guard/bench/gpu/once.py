"""`python -m fp4guard.bench.gpu.once ADDRESS`: the launches of cases, without guards, for other tools to watch."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Client
from typing import Any

import torch

from ...fuzzing.case import Case
from ...fuzzing.loading import load_target, with_defect
from ...gpu.device import current_gpu
from ...gpu.plain import PlainMemory
from .launches import launches_of, unanswered


@dataclass(frozen=True, slots=True)
class Shown:
    """A case of the target that a spec names, with a defect planted, or none."""

    spec: str
    defect: str | None
    arguments: dict[str, Any]
    seed: int
    regime: str
    layout: int


def run(shown: Shown) -> None:
    """Run the target once. An exception of its own is told and is no failure: the tool has seen what it can see."""
    target = load_target(shown.spec)
    if shown.defect is not None:
        target = with_defect(target, shown.defect)
    case = Case(shown.arguments, shown.seed, shown.regime, shown.layout)
    device = current_gpu().device
    with unanswered():
        try:
            launches_of(target).function(PlainMemory(case, {}, device), **shown.arguments)
            torch.cuda.synchronize(device)
        except Exception:
            traceback.print_exc()


def main(address: str) -> None:
    """Run what comes, and answer each when it is done, until the other end is closed."""
    with Client(address) as cases, suppress(EOFError):
        while True:
            run(cases.recv())
            torch.cuda.synchronize()  # raises, and so ends the process, where the device is lost
            cases.send(None)


if __name__ == "__main__":
    main(sys.argv[1])
