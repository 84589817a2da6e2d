"""How cases are examined on each device, in this process or in one that may die."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..errors import UsageError
from ..fuzzing.case import Case
from ..fuzzing.examine import Examine, Report, examine_alone, examine_case
from ..fuzzing.loading import load_target, with_defect
from ..fuzzing.setting import Setting
from ..fuzzing.target import Target
from ..gpu.device import resolve
from ..ttir import Arch, parse_arch
from .attribution import attributed
from .client import IsolatedExaminer


def settled(setting: Setting) -> Setting:
    """The setting with a device that is there, for `auto` or as it was named.

    Raises UsageError for a device that is not there, and for guard pages elsewhere than on `cuda`.
    """
    found = replace(setting, device=resolve(setting.device))
    if found.guard_pages and found.device != "cuda":
        raise UsageError(f"guard_pages=True: allowed on device 'cuda' alone, and this is {found.device!r}")
    return found


def gpu_arch(setting: Setting) -> str:
    """The architecture of the GPU of a setting, which this process does not start."""
    with IsolatedExaminer(setting) as examiner:
        return examiner.arch


@contextmanager
def examining(setting: Setting) -> Iterator[Examine]:
    """While active, the way to examine a case where the (settled) setting says."""
    if setting.in_process:
        yield examine_case
        return
    with IsolatedExaminer(setting) as examiner:
        if setting.device == "sim":
            yield examiner.examine
            return
        with IsolatedExaminer(replace(setting, device="sim", guard_pages=False, isolated=True)) as simulator:
            yield _explaining(examiner, simulator)


def _explaining(examiner: IsolatedExaminer, simulator: IsolatedExaminer) -> Examine:
    def examine(target: Target, case: Case, arch: Arch | None, defect: str | None) -> Report:
        if arch is not None:
            raise UsageError(f"arch={arch.name!r}: allowed is none on a GPU, which has its own")
        return attributed(examiner.examine(target, case, None, defect), simulator.examine)

    return examine


def examine(
    target: Any,
    *,
    device: str = "sim",
    guard_pages: bool = False,
    arch: str | None = None,
    defect: str | None = None,
    seed: int = 0,
    regime: str = "exact",
    layout: int = 0,
    **arguments: Any,
) -> Report:
    """Run one case of a target (or of what a target's spec names) and every check. Raises nothing for a finding.

    `device` is sim, cuda, hip or auto; on a GPU the case runs in a process of its own, and with `guard_pages` (cuda
    alone) beside pages that are not mapped. `arch` is for the simulator: sm_90 where neither the call nor the target
    names one. `defect` plants a defect of an included kernel first.

    Raises UsageError for arguments that are not the target's, for another architecture than a target's own, and for a
    device that is not there; UnsupportedError for what the simulator does not execute; and whatever fp4guard itself
    raises, as for a wrong use of `oracle` in the target.
    """
    wanted = None if arch is None else parse_arch(arch)
    found = target if isinstance(target, Target) else load_target(str(target), wanted)
    if defect is not None:
        found = with_defect(found, defect)
    found.check_arguments(arguments)
    case = Case({name: arguments[name] for name in found.recipes}, seed, regime, layout)
    with examining(settled(Setting(device, guard_pages))) as run:
        return examine_alone(found, case, wanted, defect, run)
