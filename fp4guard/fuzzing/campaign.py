"""Searches: one target until its budget is spent, several targets within one budget."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import Phase, Verbosity, given, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.errors import HypothesisException

from .. import interrupts
from ..checks import Finding, FindingError
from ..checks.coverage import Coverage
from ..errors import UsageError
from ..ttir import Arch
from .blame import pytest_outcomes
from .case import Case
from .draws import of_the_seed_alone
from .examine import Examine, Report, examine_case
from .loading import spec_of
from .profiles import DATABASE, Profile, hypothesis_settings
from .setting import Setting
from .target import Few, Target

#: Cases of one call of hypothesis. Its memory of what it tried grows with them, and its shrinker starts over after.
_ROUND = 500
#: The same where a round draws from few values.
_ROUND_OF_FEW = 50
_FEW = 2


@dataclass
class Budget:
    """What is left: of time, and of cases. Both may be unlimited (None)."""

    seconds: float | None = None
    cases: int | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def late(self) -> bool:
        """Whether the time has run out."""
        return self.seconds is not None and time.monotonic() - self.started >= self.seconds


@dataclass
class Search:
    """A target's search as far as it has come. `found` has the smallest case of each bug that was searched for; what
    else such a case shows is among its report's findings. `error` is what ended it before its time.
    """

    target: Target
    cases: int = 0
    seconds: float = 0.0
    found: list[Report] = field(default_factory=list)
    complete: bool = False
    error: Exception | None = None
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def findings(self) -> list[Finding]:
        """All that was found."""
        return [finding for report in self.found for finding in report.findings]


@dataclass(frozen=True)
class Options:
    """How to search. `seed` None: other cases every time (or as the profile says). `arch` None: each target's.

    `few`: a round draws from so many values of each list and layouts, the next from others. A GPU's compiler takes as
    long for a specialisation as its cases take, so they have to be met again; sizes, whose divisibility counts too,
    vary as ever.

    `turn` is the number of the first round: searches with the same seed that begin with other rounds try other cases.
    """

    profile: Profile
    arch: Arch | None
    seed: int | None = None
    defect: str | None = None
    shrink: bool = True
    examine: Examine = examine_case
    few: int | None = None
    turn: int = 0


def few_on(setting: Setting) -> int | None:
    """How few values of a list a round draws from: all of them in the simulator, where compiling is cheap."""
    return None if setting.device == "sim" else _FEW


class Searcher:
    """Runs hypothesis over a target, in rounds, until the budget is spent."""

    def __init__(
        self, target: Target, options: Options, budget: Budget, progress: Callable[[Search], None] | None = None
    ) -> None:
        self._target, self._options, self._budget = target, options, budget
        self._progress = progress or (lambda search: None)
        self._known: dict[Case, Report] = {}
        self._reported: set[object] = set()
        self._smallest: Report | None = None
        self.search = Search(target)

    def run(self) -> Search:
        """Search; a KeyboardInterrupt leaves what was found so far in `search` and goes on to the caller."""
        began = time.monotonic()
        self._target.arch_for(self._options.arch)  # refused before the first case, not by each
        try:
            for number in self._rounds():
                self._round(number)
                if self._smallest is not None:
                    self._keep_smallest()
                    if self._options.profile.stop_at_first:
                        break
            self.search.complete = True
        finally:
            if self._smallest is not None:
                self._keep_smallest()
            self.search.seconds = time.monotonic() - began
        return self.search

    def _rounds(self) -> Iterator[int]:
        number = self._options.turn
        while not self._spent:
            before = self.search.cases
            yield number
            number += 1
            if self.search.cases == before and self._smallest is None:
                return  # the strategy has nothing new to offer

    @property
    def _spent(self) -> bool:
        """Whether the budget is; but of time, however short, a first case is always worth its while."""
        return self._budget.cases == 0 or (self._budget.late and self.search.cases > 0)

    def _round(self, number: int) -> None:
        options = self._options
        most = _ROUND if options.few is None else _ROUND_OF_FEW
        size = most if self._budget.cases is None else min(most, self._budget.cases)
        # A derandomized profile takes its seed from the number of the round, so that rounds differ and runs do not.
        fixed = options.seed if options.seed is not None else 0 if options.profile.derandomize else None
        database = None
        if options.profile.keep and options.seed is None and options.defect is None:
            # A place of its own: hypothesis keys by the source of the function below, which is the same for all.
            key = hashlib.sha256(spec_of(self._target).encode()).hexdigest()[:8]
            database = DirectoryBasedExampleDatabase(DATABASE / f"{self._target.name}-{key}")

        @settings(
            hypothesis_settings(options.profile, database),
            max_examples=max(size, 1),
            derandomize=False,
            verbosity=Verbosity.quiet,
            phases=_phases(options.shrink),
            report_multiple_bugs=False,
        )
        @given(self._target.cases(None if options.few is None else Few(options.few, number)))
        def search(case: Case) -> None:
            self._try(case)

        if fixed is not None:
            search = seed(fixed + number)(search)
        try:
            with of_the_seed_alone():
                search()
        except FindingError:
            pass  # the report is in self._smallest
        except HypothesisException as error:
            reason = str(error).split("\n\n")[0]  # the rest is about hypothesis's settings
            raise UsageError(f"{spec_of(self._target)}: {type(error).__name__}: {reason}") from error

    def _try(self, case: Case) -> None:
        interrupts.check()
        report = self._known.get(case)
        if report is None:
            # The budget of cases is one of the search: what it found is shrunk all the same, as long as time is left.
            if self._spent if self._smallest is None else self._budget.late:
                return
            report = self._options.examine(self._target, case, self._options.arch, self._options.defect)
            if self._budget.cases is not None and self._smallest is None:
                self._budget.cases -= 1
            if self._smallest is None:
                self.search.cases += 1
            self.search.coverage.merge(report.coverage)
            self._progress(self.search)
        fresh = [f for f in report.findings if f.key not in self._reported]
        if not fresh:
            return
        # Remembered, so that a case that has failed fails again when hypothesis asks after the time is up.
        self._known[case] = report
        self._smallest = replace(report, findings=(fresh[0], *(f for f in report.findings if f is not fresh[0])))
        self._smallest.raise_first()

    def _keep_smallest(self) -> None:
        assert self._smallest is not None
        self.search.found.append(self._smallest)
        self._reported |= {finding.key for finding in self._smallest.findings}
        self._smallest = None


def _phases(shrink: bool) -> tuple[Phase, ...]:
    # Without Phase.target: most cases exercise as many masks as any, and where all are as good, hypothesis climbs along
    # the data seed and the layout. A third to a half of the cases were copies of one in everything else.
    return (Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else []))


def run_campaign(
    targets: Sequence[Target],
    options: Options,
    seconds: float | None,
    cases: int | None,
    progress: Callable[[Search], None],
    searches: list[Search],
) -> Iterator[Search]:
    """Search the targets one after the other; what one leaves of its share of the time goes to the next.

    `searches` gets each search as it begins, so that an interrupted campaign can tell what it did. A search that ends
    in an error keeps it, and what it found before.
    """
    began = time.monotonic()
    for place, target in enumerate(targets):
        share = None
        if seconds is not None:
            share = max(seconds - (time.monotonic() - began), 0) / (len(targets) - place)
        limit = cases if cases is not None or seconds is not None else options.profile.cases
        searcher = Searcher(target, options, Budget(share, limit), progress)
        searches.append(searcher.search)
        try:
            searcher.run()
        except BaseException as error:
            interrupts.check()
            searcher.search.error = _told(target, error)  # the other targets are none the worse
        yield searcher.search


def _told(target: Target, error: BaseException) -> Exception:
    """The error that ended a search; what ends the campaign is raised again."""
    outcomes = pytest_outcomes()
    if outcomes is not None and isinstance(error, (outcomes.OutcomeException, outcomes.Exit)):
        how = f"{type(error).__name__.lower()}: {error}"
        return UsageError(
            f"{spec_of(target)}: {how}; to leave out a case, call hypothesis.assume() in place of pytest's"
        )
    if not isinstance(error, Exception):
        raise error
    return error
