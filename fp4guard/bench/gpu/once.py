"""`python -m fp4guard.bench.gpu.once CASE`: the launches of a case, without guards, for other tools."""

from __future__ import annotations

import base64
import pickle
import sys
import traceback
from collections.abc import Sequence

import torch

from ...fuzzing.case import Case
from ...fuzzing.loading import load_target, with_defect
from ...gpu.device import current_gpu
from ...gpu.plain import PlainMemory
from .launches import launches_of, unanswered


def as_argument(spec: str, case: Case, defect: str | None) -> str:
    """CASE: a case of the target that a spec names, with a defect planted or none."""
    told = (spec, dict(case.arguments), case.seed, case.regime, case.layout, defect)
    return base64.b64encode(pickle.dumps(told)).decode()


def main(arguments: Sequence[str]) -> None:
    """Run the target once. An exception of its own is told and is no failure: the tool has seen what it can see."""
    spec, drawn, seed, regime, layout, defect = pickle.loads(base64.b64decode(arguments[0]))
    target = load_target(spec)
    if defect is not None:
        target = with_defect(target, defect)
    launches = launches_of(target)
    device = current_gpu().device
    with unanswered():
        try:
            launches.function(PlainMemory(Case(drawn, seed, regime, layout), {}, device), **drawn)
            torch.cuda.synchronize(device)
        except Exception:
            traceback.print_exc()


if __name__ == "__main__":
    main(sys.argv[1:])
