"""Where the targets of a pytest run are examined: one examiner for all of them, from the first to the last."""

from __future__ import annotations

from contextlib import ExitStack

from ..fuzzing.case import Case
from ..fuzzing.examine import Examine, Report
from ..fuzzing.setting import Setting
from ..fuzzing.target import Target
from ..ttir import Arch
from .examiners import examining


class Examiner:
    """Called as `examine_case` is; begins with the first case and ends with `close`."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._stack = ExitStack()
        self._examine: Examine | None = None

    def __call__(self, target: Target, case: Case, arch: Arch | None, defect: str | None) -> Report:
        if self._examine is None:
            self._examine = self._stack.enter_context(examining(self.setting))
        return self._examine(target, case, arch, defect)

    def close(self) -> None:
        """End what was begun."""
        self._examine = None
        self._stack.close()
