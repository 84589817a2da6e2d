"""A target as a test function of hypothesis, for pytest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from hypothesis import HealthCheck, Phase, given, settings

from ..ttir import parse_arch
from .case import Case
from .examine import Examine, examine_case
from .loading import spec_of
from .target import Target


def test_function(target: Target, arch: str | None, examine_with: Examine = examine_case) -> Callable[[], None]:
    """A test of hypothesis under the profile that is loaded; its exceptions carry the report of the minimal case."""
    wanted = parse_arch(arch) if arch else None
    target.arch_for(wanted)  # refused here, not by each case

    def examine(case: Case) -> None:
        __tracebackhide__ = True
        examine_with(target, case, wanted, None).raise_first()

    # Hypothesis keys its database by a test's source and signature: the spec in it keeps the cases of targets apart.
    examine.__annotations__["case"] = Annotated[Case, spec_of(target)]
    run: Any = given(case=target.cases())(examine)
    # deadline: the first call of a specialisation compiles it. explain: the finding names the line already.
    run = settings(
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[phase for phase in settings().phases if phase is not Phase.explain],
    )(run)
    run.__name__ = run.__qualname__ = target.name
    run.__doc__ = target.function.__doc__
    run.__module__ = target.function.__module__
    run.pytestmark = list(getattr(target, "pytestmark", []))
    return run  # type: ignore[no-any-return]


test_function.__test__ = False  # type: ignore[attr-defined]
