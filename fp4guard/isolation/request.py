"""What a worker is asked and what it answers: plain data, which any two processes can exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import Finding
from ..checks.answered import Answered
from ..checks.coverage import Coverage
from ..fuzzing.blame import pytest_outcomes
from ..fuzzing.case import Case
from ..fuzzing.loading import load_target, spec_of, with_defect
from ..fuzzing.setting import Setting
from ..fuzzing.target import Target
from ..ttir import Arch, parse_arch

#: Seconds for a GPU to start, or a target to be loaded: on a busy machine it takes long, which no case is to blame for.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked first of a worker with a GPU: to start it. The answer is its architecture, sm_<n> or gfx<n>, or
    `Failed`.
    """


@dataclass(frozen=True, slots=True)
class Request:
    """One case of a target that is found by its spec from a folder.

    `arch` None: the target's own, or the default, or the GPU's. `patience`: seconds for the target to be loaded.
    """

    folder: str
    spec: str
    defect: str | None
    arguments: dict[str, Any]
    seed: int
    regime: str
    layout: int
    arch: str | None
    setting: Setting
    patience: float

    @staticmethod
    def of(target: Target, case: Case, arch: str | None, defect: str | None, setting: Setting) -> Request:
        """The request for a case."""
        return Request(
            str(Path.cwd()), spec_of(target), defect, dict(case.arguments), case.seed, case.regime, case.layout, arch,
            setting, max(PATIENCE, setting.timeout),
        )  # fmt: skip

    @property
    def what(self) -> tuple[str, str, str | None]:
        """Which target is loaded for it."""
        return self.folder, self.spec, self.defect

    @property
    def case(self) -> Case:
        return Case(self.arguments, self.seed, self.regime, self.layout)

    def load(self) -> Target:
        """The target, with the defect planted. Raises as `load_target` and `with_defect`."""
        target = load_target(self.spec, self.wanted)
        return target if self.defect is None else with_defect(target, self.defect)

    @property
    def wanted(self) -> Arch | None:
        return None if self.arch is None else parse_arch(self.arch)


@dataclass(frozen=True, slots=True)
class Begun:
    """No answer yet: the target is loaded, and from now on time is the case's."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The answer: what `Report` holds beside its target and case. `last`: the worker is of no more use, and ends."""

    arch: str
    findings: tuple[Finding, ...]
    runs: int
    coverage: Coverage
    answered: Mapping[str, Answered]
    last: bool = False


@dataclass(frozen=True, slots=True)
class AssumedAway:
    """The target assumes that there is no such case."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """No answer either: the target has called pytest's skip(), xfail() or exit(). `type` names what they raise."""

    type: str
    message: str

    @staticmethod
    def of(raised: BaseException) -> Outcome | None:
        """None for any other exception."""
        outcomes = pytest_outcomes()
        if outcomes is None or not isinstance(raised, (outcomes.OutcomeException, outcomes.Exit)):
            return None
        return Outcome(type(raised).__name__, str(raised))

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"

    @property
    def exception(self) -> BaseException:
        """As it was raised."""
        from _pytest import outcomes

        raised: BaseException = getattr(outcomes, self.type)(self.message)
        return raised


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer. `kind` names what was raised: UsageError, UnsupportedError, or None for the harness' own failure."""

    kind: str | None
    parts: tuple[Any, ...]


Answer = Examined | AssumedAway | Outcome | Failed | str
