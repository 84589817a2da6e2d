"""The pytest plugin: targets are tests, failing cases become reproducer scripts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

#: Where the command of a reproducer travels: user properties reach the controller of pytest-xdist, and JUnit.
_PROPERTY = "fp4guard-repro"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fp4guard", "fuzzing of Triton kernels")
    group.addoption(
        "--fp4guard-arch", metavar="ARCH", help="compile kernels for sm_<n> or gfx<n> (default: the ini value)"
    )
    group.addoption(
        "--fp4guard-repro-dir", metavar="DIR", help="write reproducers there (default: the ini value, repro)"
    )
    parser.addini(
        "fp4guard_arch", "what kernels are compiled for (sm_90, or the target's own architecture)", default=""
    )
    parser.addini("fp4guard_repro_dir", "where reproducers are written, from the root directory", default="repro")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis loads the profile that the command line names when it is configured: register ours before."""
    if config.getoption("--hypothesis-profile", default=None) is not None:
        from .fuzzing import profiles

        profiles.register()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Any:
    """A target whose name is a test's is a test. Nothing is imported for a project that has no targets."""
    module = sys.modules.get("fp4guard.fuzzing.target")
    if module is None or not isinstance(obj, module.Target) or not collector.funcnamefilter(name):
        return None
    from .errors import UsageError
    from .fuzzing.pytest_item import test_function

    try:
        function = test_function(obj, _option(collector.config, "arch"))
    except UsageError as error:
        raise collector.CollectError(str(error)) from None
    return [pytest.Function.from_parent(collector, name=name, callobj=function)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Write a reproducer for each finding that failed a test, before the report is made."""
    if call.excinfo is not None and (reports := list(_reports(call.excinfo.value))):
        from .errors import UsageError
        from .report.reproducer import command, write_reproducer

        folder = item.config.rootpath / _option(item.config, "repro_dir")
        try:
            commands = [command(write_reproducer(report, folder)) for report in reports]
        except UsageError as error:
            item.add_report_section("call", "fp4guard", f"no reproducer: {error}")
        else:
            item.user_properties.extend((_PROPERTY, text) for text in commands)
            item.add_report_section("call", "fp4guard", "\n".join(f"reproduce with: {text}" for text in commands))
    return (yield)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """End with the commands to copy."""
    commands = {
        value: None
        for report in terminalreporter.getreports("failed")
        for name, value in report.user_properties
        if name == _PROPERTY
    }
    if commands:
        terminalreporter.section("fp4guard: reproduce with")
        for text in commands:
            terminalreporter.write_line(text)


def _reports(error: BaseException) -> Iterator[Any]:
    """The reports that an exception carries: hypothesis groups several bugs of one test."""
    if hasattr(error, "exceptions"):
        for inner in error.exceptions:
            yield from _reports(inner)
    report = getattr(error, "report", None)
    if report is not None and type(error).__module__.startswith("fp4guard."):
        yield report


def _option(config: pytest.Config, name: str) -> str:
    value = config.getoption(f"--fp4guard-{name.replace('_', '-')}", default=None)
    return str(value if value is not None else config.getini(f"fp4guard_{name}"))
