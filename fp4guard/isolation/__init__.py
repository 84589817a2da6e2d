"""Cases in worker processes that may die: a fault costs one case, and not the run."""

from .client import IsolatedExaminer
from .examiners import examine, examining, settled

__all__ = ["IsolatedExaminer", "examine", "examining", "settled"]
