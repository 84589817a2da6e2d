"""Strategies, cases, targets, and the runs that search them."""

from .defects import Control, Defect, Edit
from .strategies import dims

__all__ = ["Control", "Defect", "Edit", "dims"]
