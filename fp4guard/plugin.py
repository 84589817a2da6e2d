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
        "--fp4guard",
        action="store_true",
        help="guard every test: its tensors, and its Triton kernels, which run in the simulator; no GPU is needed",
    )
    group.addoption(
        "--fp4guard-arch", metavar="ARCH", help="compile kernels for sm_<n> or gfx<n> (default: the ini value)"
    )
    group.addoption(
        "--fp4guard-repro-dir", metavar="DIR", help="write reproducers there (default: the ini value, repro)"
    )
    group.addoption(
        "--fp4guard-device", metavar="DEVICE", help="run targets on sim, cuda, hip or auto (default: the ini value)"
    )
    group.addoption(
        "--fp4guard-guard-pages", action="store_true", help="place buffers beside pages that are not mapped (cuda)"
    )
    group.addoption(
        "--fp4guard-isolate", action="store_true", help="run cases of the simulator in a process of their own too"
    )
    group.addoption(
        "--fp4guard-case-timeout",
        metavar="TIME",
        help="for a case in a process of its own (default: the ini value, 120s)",
    )
    parser.addini("fp4guard_device", "where targets run: sim, cuda, hip or auto", default="sim")
    parser.addini("fp4guard_case_timeout", "time for a case in a process of its own", default="120s")
    parser.addini(
        "fp4guard_arch", "what kernels are compiled for (sm_90, or the target's own architecture)", default=""
    )
    parser.addini("fp4guard_repro_dir", "where reproducers are written, from the root directory", default="repro")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Guard before anything of the suite is imported."""
    if early_config.known_args_namespace.fp4guard:
        _guard_suite(early_config)


def _guard_suite(config: pytest.Config) -> None:
    if config.pluginmanager.has_plugin(_SUITE):
        return
    from .errors import UsageError
    from .session.pytest_guard import SuiteGuard
    from .ttir import parse_arch

    given = getattr(config.known_args_namespace, "fp4guard_arch", None) or config.getini("fp4guard_arch") or "sm_90"
    try:
        guard = SuiteGuard(parse_arch(given))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(guard, _SUITE)
    config.add_cleanup(guard.close)


#: The name of the plugin that `--fp4guard` adds.
_SUITE = "fp4guard-suite"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis loads the profile that the command line names when it is configured: register ours before.

    A worker of pytest-xdist gets a GPU of its own, before anything starts one.
    """
    if config.getoption("--fp4guard", default=False):
        _guard_suite(config)  # a worker of pytest-xdist learns of the option no earlier
    if config.getoption("--hypothesis-profile", default=None) is not None:
        from .fuzzing import profiles

        profiles.register()
    if (device := config.getoption("--fp4guard-device", default=None)) is not None:
        if config.getoption("--fp4guard") and device != "sim":
            raise pytest.UsageError(f"--fp4guard-device: {device!r}: --fp4guard emulates a GPU; allowed with it is sim")
        _gpu(config)  # refused at once, and not where the first target is collected
    _case_timeout(config)
    given = config.getoption("--fp4guard-case-timeout", default=None) is not None
    if given and not config.getoption("--fp4guard-isolate") and _gpu(config) is None:
        raise pytest.UsageError("--fp4guard-case-timeout: allowed on a GPU and with --fp4guard-isolate")
    if hasattr(config, "workerinput") and (device := _gpu(config)) is not None:
        from .isolation.pinning import pin

        number = config.workerinput["workerid"].removeprefix("gw")
        if number.isdecimal():  # or it was named by hand, with --tx
            pin(int(number), device)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto` on GPUs: a worker for each. None leaves it to pytest-xdist."""
    if _gpu(config) is None:
        return None
    from .gpu.device import count

    return max(count(), 1)


def pytest_unconfigure(config: pytest.Config) -> None:
    """No process of a case outlives the run."""
    examiner = config.stash.get(_EXAMINER, None)
    if examiner is not None:
        examiner.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Any:
    """A target whose name is a test's is a test. Nothing is imported for a project that has no targets."""
    module = sys.modules.get("fp4guard.fuzzing.target")
    if module is None or not isinstance(obj, module.Target) or not collector.funcnamefilter(name):
        return None
    from .errors import UsageError
    from .fuzzing.pytest_item import test_function

    try:
        function = test_function(obj, _option(collector.config, "arch"), _examiner(collector.config))
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


def _gpu(config: pytest.Config) -> str | None:
    """The GPU that targets run on, cuda or hip; None where they run in the simulator."""
    if _option(config, "device") == "sim":
        return None  # and torch need not be imported
    from .errors import UsageError
    from .gpu.device import resolve

    try:
        device = resolve(_option(config, "device"))
    except UsageError as error:
        raise pytest.UsageError(f"--fp4guard-device: {error}") from None
    return None if device == "sim" else device


def _examiner(config: pytest.Config) -> Any:
    """The way to examine a case, the same for all targets of the run."""
    if _EXAMINER not in config.stash:
        from .errors import UsageError
        from .fuzzing.setting import Setting
        from .isolation import settled
        from .isolation.pytest_session import Examiner

        setting = Setting(
            _option(config, "device"),
            config.getoption("--fp4guard-guard-pages"),
            config.getoption("--fp4guard-isolate"),
            _case_timeout(config),
        )
        try:
            config.stash[_EXAMINER] = Examiner(settled(setting))
        except UsageError as error:
            raise pytest.UsageError(f"--fp4guard-device: {error}") from None
    return config.stash[_EXAMINER]


_EXAMINER = pytest.StashKey[Any]()


def _case_timeout(config: pytest.Config) -> float:
    from .durations import seconds
    from .errors import UsageError

    option = config.getoption("--fp4guard-case-timeout", default=None)
    try:
        return seconds(_option(config, "case_timeout"))
    except UsageError as error:
        where = "--fp4guard-case-timeout" if option is not None else "the ini value fp4guard_case_timeout"
        raise pytest.UsageError(f"{where}: {error}") from None


def _option(config: pytest.Config, name: str) -> str:
    value = config.getoption(f"--fp4guard-{name.replace('_', '-')}", default=None)
    return str(value if value is not None else config.getini(f"fp4guard_{name}"))
