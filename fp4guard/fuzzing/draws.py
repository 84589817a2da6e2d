"""Draws that a seed alone decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from hypothesis.internal.conjecture import providers


@contextmanager
def of_the_seed_alone() -> Iterator[None]:
    """Keep hypothesis from drawing constants that it reads in the source of whatever local modules are loaded.

    One draw in twenty is one of those. So a seed's cases changed with every number that somebody wrote into a kernel, a
    test or fp4guard itself, with the families that were loaded before, and with where fp4guard was installed. Edges are
    the business of `dims`. There is no setting for it; a hypothesis that has it no more, or not yet, is left alone.
    """
    if not hasattr(providers, "_get_local_constants"):
        yield
        return
    from hypothesis.internal.constants_ast import Constants

    none = Constants()
    with patch.object(providers, "_get_local_constants", lambda: none):
        _forget_pools()
        try:
            yield
        finally:
            _forget_pools()


def _forget_pools() -> None:
    """What hypothesis has made of the constants for each kind of draw; tests of others use it as well."""
    providers.CONSTANTS_CACHE.cache.clear()
