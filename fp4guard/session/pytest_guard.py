"""`pytest --fp4guard`: every test of an existing suite under one session, and one report a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ..checks import Finding
from ..errors import Fp4guardError
from ..ttir import Arch
from .session import Session


class SuiteGuard:
    """A plugin that guards from its making until `close`: collection too, for marks ask whether there is a GPU.

    A test fails when a launch of it has a finding, also one that a fixture makes. Tests run to their ends: what fails
    in one by itself is reported as ever, with the findings beside it.
    """

    def __init__(self, arch: Arch) -> None:
        self._arch = arch
        self._session = Session(arch)
        self._active = ExitStack()
        self._active.enter_context(self._session.active())

    def close(self) -> None:
        """Guard no longer."""
        self._active.close()

    def pytest_report_header(self) -> str:
        """Say that what follows is no GPU's."""
        return f"fp4guard: tests are guarded, and their Triton kernels simulated for {self._arch.name}"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Fixtures."""
        return (yield from self._phase(item, "setup"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """The test itself."""
        return (yield from self._phase(item, "call"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        """Fixtures again."""
        return (yield from self._phase(item, "teardown"))

    def _phase(self, item: pytest.Item, when: str) -> Iterator[None]:
        __tracebackhide__ = True
        try:
            result = yield
        except BaseException as error:
            findings, notes, _ = self._session.take()
            if findings and isinstance(error, (pytest.skip.Exception, pytest.xfail.Exception)):
                pytest.fail(_text(findings, notes, []), pytrace=False)
            if findings or notes:
                item.add_report_section(when, "fp4guard", _text(findings, notes, []))
            raise
        findings, notes, errors = self._session.take()
        if findings or errors:
            pytest.fail(_text(findings, notes, errors), pytrace=False)
        return result


def _text(findings: list[Finding], notes: list[str], errors: list[Fp4guardError]) -> str:
    """Everything of one phase of a test."""
    parts = [finding.message for finding in findings] + [str(error) for error in errors]
    return "\n".join([*parts, *(f"note: {note}" for note in notes)])
