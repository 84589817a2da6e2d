import pytest
from hypothesis import settings

from fp4guard.fuzzing import profiles
from fp4guard.fuzzing.profiles import PROFILES, hypothesis_settings


@pytest.fixture
def unregistered():
    """Leaves the profiles of hypothesis as they were."""
    before = dict(settings._profiles)
    for name in PROFILES:
        settings._profiles.pop(name, None)
    yield
    settings._profiles.clear()
    settings._profiles.update(before)


def test_profiles_do_not_inherit_what_is_current():
    inherited = settings(derandomize=True, database=None, max_examples=3)
    previous = settings.get_current_profile_name()
    settings.register_profile("loaded-under-ci", inherited)
    settings.load_profile("loaded-under-ci")
    try:
        for profile in PROFILES.values():
            made = hypothesis_settings(profile, None)
            assert made.max_examples == profile.cases
            assert made.derandomize == profile.derandomize
            assert made.deadline is None
    finally:
        settings.load_profile(previous)


def test_registered_profiles_are_as_they_say(unregistered):
    profiles.register()
    for name, profile in PROFILES.items():
        registered = settings.get_profile(name)
        assert (registered.max_examples, registered.derandomize) == (profile.cases, profile.derandomize)
        assert (registered.database is not None) == profile.keep


def test_profile_that_the_project_has_registered_is_its_own(unregistered):
    settings.register_profile("dev", settings.get_profile("default"), max_examples=7)
    profiles.register()
    assert settings.get_profile("dev").max_examples == 7
    assert settings.get_profile("pr").max_examples == PROFILES["pr"].cases
