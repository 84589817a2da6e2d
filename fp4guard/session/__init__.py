"""Code that knows nothing of fp4guard, run once under its guard: `fp4guard run`, and `pytest --fp4guard`.

What is found, and what is not, without a second run of the code: see `fp4guard.session.session`.
"""

from .session import Session, StopSession

__all__ = ["Session", "StopSession"]
