"""How long and how a search goes on: the profiles, for pytest and for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Verbosity, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase
from hypothesis.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Profile:
    """`cases` per target; `derandomize`: the same cases every time, chosen by the target alone; `keep`: failing cases
    are kept in a database and tried first next time; `stop_at_first`: a target's first finding ends its search.
    """

    name: str
    cases: int
    derandomize: bool
    keep: bool
    stop_at_first: bool
    summary: str


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("dev", 100, False, True, True, "short, other cases every time, failing ones tried again first"),
        Profile("pr", 300, True, False, True, "the same cases every time, for a check before a merge"),
        Profile("nightly", 20_000, False, True, False, "long, all findings, failing cases kept in the database"),
    )
}

#: Where failing cases are kept, below the folder at hand.
DATABASE = Path(".hypothesis") / "fp4guard"


def hypothesis_settings(profile: Profile, database: ExampleDatabase | None) -> settings:
    """The profile for hypothesis.

    Hypothesis loads a profile of its own under CI (derandomized, without a database), and a profile inherits whatever
    is current: so every choice that matters is stated here, on top of the parent "default".
    """
    return settings(
        settings.get_profile("default"),
        max_examples=profile.cases,
        derandomize=profile.derandomize,
        database=database,
        deadline=None,  # first calls compile
        print_blob=False,  # the case itself is what reproduces
        verbosity=Verbosity.normal,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )


def register() -> None:
    """Make `--hypothesis-profile=dev|pr|nightly` known to pytest, except for names that the project has taken."""
    for profile in PROFILES.values():
        if _is_registered(profile.name):
            continue
        database = DirectoryBasedExampleDatabase(DATABASE) if profile.keep else None
        settings.register_profile(profile.name, hypothesis_settings(profile, database))


def _is_registered(name: str) -> bool:
    try:
        settings.get_profile(name)
    except InvalidArgument:
        return False
    return True
