from dataclasses import replace

import pytest


@pytest.fixture
def measuring(monkeypatch):
    """Make a comparison measure something else: in a module of `fp4guard.bench`, by a function of the rounds."""

    def measuring(module, measure):
        monkeypatch.setattr(module, "COMPARISON", replace(module.COMPARISON, measure=measure))

    return measuring
