"""From what a run left behind to findings."""

from .finding import KINDS, Finding, FindingError, error_class
from .record import Record

__all__ = ["KINDS", "Finding", "FindingError", "Record", "error_class"]
